"""What a Python side of interleaved.py does between a request and its answer.

After its first step a side writes one line of JSON: the time of day that CLOCK_MONOTONIC showed
then, and versions. Each line it reads is a number of seconds: it takes one step to get warm, then
measures steps for so long, and answers {"ms", "n", "peak_rss"}: the median of the steps during
which the system took no core away from it (of all, if there are none), their number, bytes.
"""
import json
import resource
import statistics
import sys
import time

FEW, MANY = 2, 34  # multiplications; the difference is what 32 take


def peak_rss():
    """Not ru_maxrss, which begins with what the parent had."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def preempted():
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def timed(fn, *args):
    before, began = preempted(), time.perf_counter()
    fn(*args)
    return 1e3 * (time.perf_counter() - began), preempted() == before


def median_of(samples):
    return statistics.median([ms for ms, calm in samples if calm] or [ms for ms, _ in samples])


def measure_steps(step, seconds):
    step()
    end = time.perf_counter() + seconds
    samples = [timed(step)]
    while time.perf_counter() < end:
        samples.append(timed(step))
    return median_of(samples), len(samples)


def measure_chain(chain, seconds):
    chain(MANY)
    end = time.perf_counter() + seconds
    few, many = [timed(chain, FEW)], [timed(chain, MANY)]
    while time.perf_counter() < end:
        few.append(timed(chain, FEW))
        many.append(timed(chain, MANY))
    return (median_of(many) - median_of(few)) / (MANY - FEW), len(many)


def serve(step, chain, versions, call=1):
    """step(): `call` training steps; or chain(n): n operations, forward and backward."""
    step() if step else chain(FEW)
    print(json.dumps({"at": time.monotonic(), "versions": versions}), flush=True)
    for line in sys.stdin:
        seconds = float(line)
        ms, n = measure_steps(step, seconds) if step else measure_chain(chain, seconds)
        print(json.dumps({"ms": ms / call, "n": n, "peak_rss": peak_rss()}), flush=True)

#!/usr/bin/env python3
"""Training steps of Tern beside PyTorch (and JAX), interleaved in one run: medians of paired ratios.

  interleaved.py [--tern PATH] [--case MODEL:BATCH ...] [--threads 1] [--rounds 5] [--seconds 4]
                 [--peers torch,compile,jax] [-o FILE]

Each round runs every side once, in turn, as a process of its own pinned to the same cores; the
ratio of a round is peer time / Tern time. A side's time is the median of its steps. PyTorch runs
in its best eager configurations (fused Adam, tuned malloc; plain and channels-last for images) and
the fastest counts; "compile" adds torch.compile, "jax" one jitted step. Writes Markdown to stdout
and, with -o, JSON with every number.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DEFAULT = ["lenet5:64", "lenet5:1", "mlp:64", "mlp:1", "cnn:64", "cnn:1", "resnet18:64", "vgg:64",
           "lstm:64", "gru:64"]
TERN_NAMES = {"vgg": "vgg-small"}
IMAGES = {"lenet5", "cnn", "resnet18", "vgg"}


def cpu_name():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def last_json(text):
    lines = [line for line in text.splitlines() if line.strip().startswith("{")]
    return json.loads(lines[-1])


def run(command, threads):
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    cores = ",".join(str(i) for i in sorted(os.sched_getaffinity(0))[:threads])
    done = subprocess.run(["taskset", "-c", cores] + command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(" ".join(command) + "\n" + done.stderr[-2000:])
    return done.stdout


def tern_side(tern, model, batch, threads, seconds):
    name = TERN_NAMES.get(model, model)
    command = [tern, "bench", "model", name, "--batch", str(batch), "--threads", str(threads),
               "--seconds", str(seconds), "--json"]

    def once():
        out = run(command, threads)
        return json.loads(out)["step_ms"]["median"]
    return once


def torch_side(model, batch, threads, seconds, flags):
    command = [sys.executable, os.path.join(HERE, "torch_train_bench.py"), model, "--batch", str(batch),
               "--threads", str(threads), "--steps", "2000", "--max-seconds", str(seconds),
               "--tuned-malloc", "--fused", "on"] + flags

    def once():
        return last_json(run(command, threads))["step_ms_median"]
    return once


def jax_side(model, batch, threads, seconds):
    command = [sys.executable, os.path.join(HERE, "jax_train_bench.py"), model, "--batch", str(batch),
               "--threads", str(threads), "--steps", "2000", "--max-seconds", str(seconds),
               "--tuned-malloc", "--pool", "reshape"] + (["--channels-last"] if model in IMAGES else [])

    def once():
        return last_json(run(command, threads))["step_ms_median"]
    return once


def sides(args, model, batch, threads):
    peers = {}
    if "torch" in args.peers:
        peers["torch"] = torch_side(model, batch, threads, args.seconds, [])
        if model in IMAGES:
            peers["torch channels-last"] = torch_side(model, batch, threads, args.seconds, ["--channels-last"])
    if "compile" in args.peers:
        peers["torch.compile"] = torch_side(model, batch, threads, args.seconds, ["--compile"])
    if "jax" in args.peers:
        peers["jax"] = jax_side(model, batch, threads, args.seconds)
    return peers


def measure(args, model, batch, threads):
    tern = tern_side(args.tern, model, batch, threads, args.seconds)
    peers = sides(args, model, batch, threads)
    times = {"tern": []}
    times.update({name: [] for name in peers})
    for _ in range(args.rounds):
        times["tern"].append(tern())
        for name, side in peers.items():
            times[name].append(side())
    best = min(peers, key=lambda name: statistics.median(times[name]))
    ratios = [p / t for p, t in zip(times[best], times["tern"])]
    return {"model": model, "batch": batch, "threads": threads, "times_ms": times, "best_peer": best,
            "ratios": ratios, "ratio": statistics.median(ratios)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tern", default=os.path.join(ROOT, "build", "release", "tern"))
    parser.add_argument("--case", nargs="+", default=DEFAULT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--peers", default="torch", type=lambda text: text.split(","))
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    import_versions = {}
    for name in ("torch", "jax"):
        try:
            import_versions[name] = __import__(name).__version__
        except ImportError:
            import_versions[name] = None
    if "torch" in args.peers and not import_versions["torch"]:
        sys.exit("PyTorch is not installed: pip install torch")
    rows = []
    print("<!-- %s, %d thread(s), torch %s, jax %s; %d rounds, each side once a round; time: median of a "
          "side's medians -->" % (cpu_name(), args.threads, import_versions["torch"], import_versions["jax"],
                                  args.rounds))
    print("| model, batch | tern ms | best peer | peer ms | ratio | spread |")
    print("|:--|--:|:--|--:|--:|:--|")
    for case in args.case:
        model, batch = case.split(":")
        row = measure(args, model, int(batch), args.threads)
        rows.append(row)
        print("| %s, %s | %.3f | %s | %.3f | %.2f | %.2f to %.2f |" % (
            model, batch, statistics.median(row["times_ms"]["tern"]), row["best_peer"],
            statistics.median(row["times_ms"][row["best_peer"]]), row["ratio"], min(row["ratios"]),
            max(row["ratios"])), flush=True)
    if args.output:
        with open(args.output, "w") as f:
            json.dump({"schema": "tern.peers/1", "cpu": cpu_name(), "threads": args.threads,
                       "versions": import_versions, "command": " ".join(sys.argv), "rows": rows}, f, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Training steps of Tern beside PyTorch and JAX, interleaved on the same cores.

  interleaved.py [--quick] [--case CASE ...] [--threads N] [--rounds N] [--seconds X]
                 [--peers torch,compile,jax] [--build DIR] [--out DIR]

CASE is MODEL:BATCH, resnet18:64:direct for Tern without Winograd, or eager (an operation on tiny
tensors, forward and backward, against PyTorch only). All cases: interleaved.py --help.

Each side is a process that stays: tern_steps.c, torch_steps.py, jax_steps.py. In each round every
side in turn takes steps for a while, the others wait; a side's time is the median of its steps. A
round's ratio is peer / Tern, the case's the median over rounds, for the peer whose own median is
least. PyTorch runs in its best settings: fused Adam, channels-last and plain where images are,
oneDNN, a malloc that keeps what it has; also under torch.compile. JAX runs one jitted step with
donated state, in either layout, and ten steps a call where steps are short. The time from the start
of the process to the end of the first step is taken by starting each side anew; the peak of resident
memory is read from the side's own process at the end.

Without --out the tables go to stdout only; with it also peers-Nt.json and peers-Nt.md to that
folder. --quick: fewer rounds, and of each peer the settings that are known to be the best.
"""
import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# Per case: settings that one or the other time have been a peer's best; * marks those of --quick.
CASES = {
    "lenet5:64": ["torch", "torch channels-last*", "compile channels-last", "jax nhwc*", "jax"],
    "lenet5:1": ["torch*", "torch channels-last", "compile", "jax*", "jax ten*", "jax nhwc"],
    "cnn:64": ["torch", "torch channels-last*", "compile channels-last", "jax nhwc*"],
    "cnn:1": ["torch*", "compile", "jax", "jax nhwc*", "jax nhwc ten*"],
    "mlp:64": ["torch*", "compile", "jax*"],
    "mlp:1": ["torch*", "compile", "jax*", "jax ten*"],
    "resnet18:64": ["torch channels-last*", "torch", "compile channels-last", "jax nhwc"],
    "resnet18:64:direct": ["torch channels-last*", "compile channels-last"],
    "resnet18:1": ["torch*", "torch channels-last", "compile channels-last", "jax nhwc"],
    "vgg-small:64": ["torch channels-last*", "torch", "compile channels-last", "jax nhwc"],
    "lstm:64": ["torch*", "compile", "jax"],
    "gru:64": ["torch*", "compile", "jax*"],
    "eager": ["torch*"],
}
# A malloc that never trims: else page faults cost small nets of PyTorch up to three times the step.
MALLOC = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": "4000000000",
          "MALLOC_TOP_PAD_": "67108864", "MALLOC_ARENA_MAX": "1"}
STARTS = 5  # of each side, for the time to the first step
SETTLE = 0.05  # seconds for threads of the last side to fall asleep


class Side:
    """One process that takes steps when it is told to."""

    def __init__(self, args, name, case):
        model, batch, *rest = (case + ":1").split(":") if case == "eager" else case.split(":")
        kind, *how = name.split()
        if kind == "tern":
            command = [args.tern_steps, model, batch, str(args.threads)] + rest[:1]
        else:
            script = "jax_steps.py" if kind == "jax" else "torch_steps.py"
            command = [sys.executable, os.path.join(HERE, script), model, batch, str(args.threads)]
            command += how + (["compile"] if kind == "compile" else [])
        env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), **(kind != "tern" and MALLOC or {}))
        self.name, self.ms, self.peak_rss, self.log = name, [], 0, tempfile.TemporaryFile("w+")
        began = time.monotonic()
        self.process = subprocess.Popen(["taskset", "-c", args.cores] + command, env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log)
        first = self.answer()
        self.start, self.versions = first["at"] - began, first["versions"]

    def answer(self):
        line = self.process.stdout.readline()
        if line:
            return json.loads(line)
        self.process.wait()
        self.log.seek(0)
        sys.exit(f"{shlex.join(self.process.args)} failed:\n{self.log.read()[-2000:]}")

    def measure(self, seconds):
        time.sleep(SETTLE)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        got = self.answer()
        self.ms.append(got["ms"])
        self.peak_rss = got["peak_rss"]

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def is_peer(args, setting):
    return setting.split()[0].rstrip("*") in args.peers and (not args.quick or setting[-1] == "*")


def peers_of(args, case):
    wanted = [s.rstrip("*") for s in CASES[case] if is_peer(args, s)]
    missing = {p for p in args.missing if any(s.startswith(p) for s in CASES[case])}
    return wanted, sorted(missing)


def spread(values):
    """Median, quartiles, extremes."""
    if len(values) < 2:
        return {"median": values[0], "least": values[0], "most": values[0]}
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "q25": low, "q75": high, "least": min(values),
            "most": max(values)}


def measure(args, case):
    peers, missing = peers_of(args, case)
    row = {"case": case, "threads": args.threads, "missing": missing}
    if not peers:
        return row | {"sides": {}}
    sides = [Side(args, name, case) for name in ["tern"] + peers]
    for i in range(args.rounds):
        for side in sides if i % 2 == 0 else reversed(sides):
            side.measure(args.seconds)
    for side in sides:
        side.end()
    tern, *others = sides
    best = min(others, key=lambda side: statistics.median(side.ms))
    row["sides"] = {s.name: {"ms": s.ms, "peak_rss": s.peak_rss, "start_s": s.start,
                             "versions": s.versions} for s in sides}
    row["best_peer"] = best.name
    row["ratio"] = spread([p / t for p, t in zip(best.ms, tern.ms)])
    row["ratio_of_least"] = min(best.ms) / min(tern.ms)
    if case != "eager":
        small = min(others, key=lambda side: side.peak_rss)
        row["smallest_peer"] = small.name
        row["memory_ratio"] = small.peak_rss / tern.peak_rss
    return row


def measure_start(args, case):
    """Start of the process to the end of the first step, sides in turn."""
    peers = [name for name in peers_of(args, case)[0] if not name.startswith("compile")]
    starts = {name: [] for name in ["tern"] + peers}
    for _ in range(STARTS if peers else 0):
        for name in starts:
            side = Side(args, name, case)
            starts[name].append(side.start)
            side.end()
    row = {"case": case, "threads": args.threads, "seconds": starts}
    if peers:
        row["best_peer"] = min(peers, key=lambda name: statistics.median(starts[name]))
        row["ratio"] = spread([p / t for p, t in zip(starts[row["best_peer"]], starts["tern"])])
    return row


# ---- Reports ------------------------------------------------------------------------------------

def hardware(args):
    def first(path, key):
        with open(path) as f:
            return next((line.split(":", 1)[1].strip() for line in f if line.startswith(key)), "?")
    return {"cpu": first("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
            "used_cores": args.cores, "memory": first("/proc/meminfo", "MemTotal"),
            "kernel": platform.release(), "load": [round(x, 2) for x in os.getloadavg()]}


def header(args, machine, versions):
    lines = [f"{machine['cpu']}, {machine['cores']} cores of which {machine['used_cores']} used, "
             f"{machine['memory']}, Linux {machine['kernel']}",
             f"load before the run {machine['load'][0]}, {args.threads} thread(s), {args.rounds} "
             f"rounds of {args.seconds:g} s a side",
             ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
             args.command]
    lines += [f"{name} is not installed: it is not among the peers" for name in args.missing]
    return "<!-- " + "\n     ".join(lines) + " -->\n"


STEPS = ("| step | Tern, ms | best peer | its ms | ratio | quartiles | of least times |\n"
         "|:--|--:|:--|--:|--:|:--|--:|\n")
MEMORY = ("\n| peak resident memory | Tern, MB | smallest peer | its MB | ratio |\n"
          "|:--|--:|:--|--:|--:|\n")
START = ("\n| process start to first step | Tern, ms | best peer | its ms | ratio | range |\n"
         "|:--|--:|:--|--:|--:|:--|\n")


def ms_of(side):
    """Four digits or so: steps take from a microsecond to seconds."""
    ms = statistics.median(side["ms"])
    return f"{ms:.6f}" if ms < 0.01 else f"{ms:.4f}" if ms < 1 else f"{ms:.2f}"


def step_line(row):
    if "ratio" not in row:
        return f"| {row['case']} | – | no peer: {', '.join(row['missing'])} missing | – | – | – | – |\n"
    r, sides = row["ratio"], row["sides"]
    return (f"| {row['case']} | {ms_of(sides['tern'])} | {row['best_peer']} | {ms_of(sides[row['best_peer']])} | "
            f"**{r['median']:.2f}** | {r.get('q25', r['median']):.2f} to "
            f"{r.get('q75', r['median']):.2f} | {row['ratio_of_least']:.2f} |\n")


def memory_line(row):
    tern, peer = row["sides"]["tern"], row["sides"][row["smallest_peer"]]
    return (f"| {row['case']} | {tern['peak_rss'] / 1e6:.1f} | {row['smallest_peer']} | "
            f"{peer['peak_rss'] / 1e6:.0f} | **{row['memory_ratio']:.1f}** |\n")


def start_line(row):
    if "ratio" not in row:
        return f"| {row['case']} | – | none | – | – | – |\n"
    tern, peer = (statistics.median(row["seconds"][n]) for n in ("tern", row["best_peer"]))
    r = row["ratio"]
    return (f"| {row['case']} | {1e3 * tern:.1f} | {row['best_peer']} | {1e3 * peer:.0f} | "
            f"**{r['median']:.0f}** | {r['least']:.0f} to {r['most']:.0f} |\n")


def write(args, document, text):
    os.makedirs(args.out, exist_ok=True)
    base = os.path.join(args.out, f"peers-{args.threads}t")
    with open(base + ".json", "w") as f:
        json.dump(document, f, indent=1)
        f.write("\n")
    with open(base + ".md", "w") as f:
        f.write(text)


# ---- Arguments ----------------------------------------------------------------------------------

def build_tern_side(args, folder):
    """tern_steps.c against the library of --build."""
    library = os.path.abspath(args.build)
    if not os.path.exists(os.path.join(library, "libtern.so")):
        sys.exit(f"there is no libtern.so in {args.build}: cmake --preset release; cmake --build "
                 "build/release, or --build DIR")
    args.tern_steps = os.path.join(folder, "tern_steps")
    subprocess.run([os.environ.get("CC", "cc"), "-std=c17", "-D_GNU_SOURCE", "-O2",
                    "-I", os.path.join(ROOT, "include"), os.path.join(HERE, "tern_steps.c"), "-o",
                    args.tern_steps, "-L", library, "-ltern", "-Wl,-rpath," + library], check=True)


def installed(module):
    return subprocess.run([sys.executable, "-c", f"import {module}"],
                          capture_output=True).returncode == 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="cases: " + " ".join(CASES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--peers", default="torch,compile,jax", type=lambda text: text.split(","))
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"))
    parser.add_argument("--out", metavar="DIR")
    parser.add_argument("--no-start", action="store_true", help="leave the time of starts out")
    args = parser.parse_args()
    args.command = shlex.join(["bench/peers/interleaved.py"] + sys.argv[1:])
    args.rounds = args.rounds or (5 if args.quick else 9)
    args.seconds = args.seconds or (0.25 if args.quick else 1.0)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < args.threads:
        sys.exit(f"{args.threads} threads need as many cores; this process may use {len(cores)}")
    args.cores = ",".join(str(core) for core in cores[-args.threads:])
    args.missing = [m for m in ("torch", "jax") if m in args.peers and not installed(m)]
    args.peers = [p for p in args.peers
                  if p not in args.missing and not (p == "compile" and "torch" in args.missing)]
    for name in args.missing:
        print(f"{name} is not installed: pip install {name}. It is not among the peers.",
              file=sys.stderr)
    return args


def main():
    args = arguments()
    machine, versions, rows = hardware(args), {}, []
    with tempfile.TemporaryDirectory() as folder:
        build_tern_side(args, folder)
        print(STEPS, end="", flush=True)
        for case in args.case:
            rows.append(measure(args, case))
            for side in rows[-1]["sides"].values():
                versions.update(side["versions"])
            print(step_line(rows[-1]), end="", flush=True)
        starts = [] if args.no_start else [measure_start(args, "lenet5:64")]
    steps = STEPS + "".join(map(step_line, rows))
    more = MEMORY + "".join(memory_line(r) for r in rows if "memory_ratio" in r)
    if starts:
        more += START + "".join(map(start_line, starts))
    top = header(args, machine, versions)
    print(more + "\n" + top, end="")
    if args.out:
        document = {"schema": "tern.peers/1", "command": args.command, "machine": machine,
                    "versions": versions, "missing": args.missing, "threads": args.threads,
                    "rounds": args.rounds, "seconds": args.seconds, "steps": rows, "starts": starts}
        write(args, document, top + "\n" + steps + more)


if __name__ == "__main__":
    main()

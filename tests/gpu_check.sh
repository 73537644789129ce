#!/usr/bin/env bash
# The bundle of bench/gpu-check, packed from a build and run on the emulated device with an empty
# environment: all green, a report, a part of it again, and what is broken is found.
# usage: gpu_check.sh BUILD
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "$1")
if [ ! -e "$build/libtern_simt.so" ]; then
    echo 'skipped: this build has no emulated device'
    exit 77
fi
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0

bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

must_say() { grep -q -- "$2" "$1" || bad "no \"$2\" in $1"; }

run() { # run STATUS OPTION...
    local want=$1 got
    shift
    env -i PATH=/usr/bin:/bin HOME=/nonexistent tern-gpu-check/gpu-check --device simt --tiny \
        --out "$scratch/results" "$@" > log 2>&1
    got=$?
    [ $got = "$want" ] || { bad "status $got instead of $want: $*" && cat log; }
}

"$root/bench/gpu-check" --bundle bundle.tar.gz --build "$build" --device simt > log 2>&1 || {
    cat log
    exit 1
}
[ "$(wc -c < bundle.tar.gz)" -le 62914560 ] || bad 'the bundle is larger than 60 MiB'
tar xzf bundle.tar.gz || exit 1
rm bundle.tar.gz
for file in bench/peers/torch_steps.py bench/peers/steps.py bench/gpu/parts.sh; do
    [ -s "tern-gpu-check/$file" ] || bad "the bundle has no $file"
done
for file in tern-gpu-check/bin/* tern-gpu-check/lib/*; do
    ! grep -qF "$build" "$file" || bad "$file names the folder it was built in"
done

# No symbol of a later glibc than the one that is asked for.
if command -v objdump > /dev/null; then
    newest=$(for file in tern-gpu-check/bin/* tern-gpu-check/lib/*; do objdump -T "$file"; done |
        grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort -uV | tail -n 1)
    [ "$(printf '%s\n2.36\n' "$newest" | sort -V | tail -n 1)" = 2.36 ] ||
        bad "the bundle needs glibc $newest"
fi

run 0
report=results/simt/report.md
must_say $report '^# Tern on the emulated device'
must_say $report '^| conformance | ok | [0-9]* | [0-9]* passed, 0 failed, 0 skipped |$'
must_say $report '^Products with `--math bf16`:$'
must_say $report '^| linear+relu 32→24 '
must_say $report '^| train | ok | [0-9]* | three runs, one result |$'
[ "$(grep -c '^## ' $report)" = 10 ] || bad "$(grep -c '^## ' $report) sections"
[ "$(wc -l < results/simt/results.jsonl)" = 10 ] || bad 'not one line a part'
[ "$(find results -type f | wc -l)" -le 6 ] || bad 'more than six files'
if command -v python3 > /dev/null; then
    python3 -c 'import json, sys
for line in sys.stdin:
    json.loads(line)' < results/simt/results.jsonl || bad 'a line is not JSON'
fi

# One part again: the others stay as they are.
sed -i 's/^## Device$/## Device, as it was/' $report
before=$(grep -v '"part": "ops"' results/simt/results.jsonl | sort | cksum)
run 0 --parts ops
[ "$(grep -c '^## ' $report)" = 10 ] || bad 'a part that was run again is there twice, or none'
[ "$(grep -v '"part": "ops"' results/simt/results.jsonl | sort | cksum)" = "$before" ] ||
    bad 'other parts have changed'
must_say $report '^| product 16×24×32 '

# A wrong name is a wrong usage.
run 2 --parts nosuch
must_say log 'there is no part "nosuch"'

# What cannot run has failed, not been skipped.
mv tern-gpu-check/lib/libtern_simt.so aside.so
run 1 --parts conformance
must_say $report '^| conformance | \*\*failed\*\* |'
mv aside.so tern-gpu-check/lib/libtern_simt.so
run 0 --parts conformance

# A GPU's properties, asked of a driver that is made here.
if cc=$(command -v cc || command -v gcc); then
    mkdir driver
    cat > driver/cuda.c << 'C'
#include <stdio.h>
#include <string.h>
int cuInit(unsigned flags) { return (int)flags; }
int cuDriverGetVersion(int *v) { return *v = 13000, 0; }
int cuDeviceGetCount(int *n) { return *n = 2, 0; }
int cuDeviceGet(int *d, int i) { return *d = i, 0; }
int cuDeviceGetName(char *to, int n, int d) { return snprintf(to, n, "Made \"%d\"", d), 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { return *n = (size_t)d + 5, 0; }
int cuDeviceGetAttribute(int *x, int a, int d) { return *x = 1000 * d + a, a == 31; }
C
    "$cc" -shared -fPIC -o driver/libcuda.so.1 driver/cuda.c || bad 'no driver was made'
    LD_LIBRARY_PATH=driver tern-gpu-check/bin/gpu_device > device.json || bad 'no properties'
    must_say device.json '"name": "Made \\"1\\""'
    must_say device.json '"COMPUTE_CAPABILITY_MAJOR": 1075'
    must_say device.json '"memory_bytes": 6'
    ! grep -q CONCURRENT_KERNELS device.json || bad 'an attribute that the driver refused'
    if command -v python3 > /dev/null; then
        python3 -m json.tool device.json > /dev/null || bad 'the properties are not JSON'
    fi
fi
[ $failures = 0 ] && echo 'the bundle runs on the emulated device, and says what it finds'
exit $((failures > 0))

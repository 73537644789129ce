#!/usr/bin/env bash
# nvcc's PTX for the oldest and the newest GPUs, interpreted: self-tests and conformance of all rows
# usage: bash simt_ptx.sh [ARCHITECTURE...]
# depends: cuda host/base host/core host/ops include tests/simt tests/conformance.c tests/rnn.c
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2> /dev/null)
if [ -z "$nvcc" ]; then
    echo "SKIPPED: there is no nvcc"
    exit 77
fi
[ $# -gt 0 ] || set -- 75 120
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
built=$scratch/build
bad=0
for arch in "$@"; do
    {
        cmake -S "$top" -B "$built" -DCMAKE_BUILD_TYPE=Release -DTERN_TESTS=ON \
            -DTERN_SIMT_PTX_ARCH="$arch" &&
            cmake --build "$built" -j2 --target test_conformance_ptx test_rnn_ptx simt_selftest_ptx
    } > "$scratch/log" 2>&1 || {
        tail -20 "$scratch/log"
        exit 1
    }
    for group in samples bugs host; do
        "$built/tests/simt/ptx/simt_selftest_ptx" $group > "$scratch/log" 2>&1 || {
            tail -20 "$scratch/log"
            bad=$((bad + 1))
        }
    done
    for name in conformance rnn; do
        (cd "$built/simt_ptx" && TC_DEVICE=simt ./test_$name '--filter=*/*simt*' --verbose) \
            > "$scratch/log" 2>&1 || bad=$((bad + 1))
        if grep -q 'SKIPPED: device' "$scratch/log"; then bad=$((bad + 1)); fi
        echo "compute_$arch, $name:"
        grep -E 'values, worst|SKIPPED|FAIL|Synthesis' "$scratch/log"
    done
done
echo "simt_ptx: $bad failures"
[ "$bad" = 0 ]

#!/usr/bin/env bash
# all samples and models on simt, every access checked, threads in several orders; then under ASan
# and UBSan
# usage: BUILD=folder/of/the/test/preset bash simt_checked.sh
# depends: host include cuda CMakeLists.txt CMakePresets.json tests/simt tests/*.c tests/*.h
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=$(cd "${BUILD:?}" && pwd)
if [ ! -e "$BUILD/simt_checked/libtern_simt.so" ]; then
    echo 'skipped: this build has no checked simt plug-in'
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
run() { # run FOLDER PROGRAM FILTER: its last line; all of it where it fails
    (cd "$scratch" && LD_LIBRARY_PATH=$1 "$1/$2" "--filter=$3" -j2) \
        < /dev/null > "$scratch/said" 2>&1 || {
        cat "$scratch/said"
        exit 1
    }
    # Criterion ends well without a test, and with skipped ones.
    grep -q 'Tested: [1-9]' "$scratch/said" || {
        cat "$scratch/said"
        exit 1
    }
    if grep -q 'SKIPPED: ' "$scratch/said"; then
        cat "$scratch/said"
        exit 1
    fi
    grep '^checked: ' "$scratch/said" || true
    echo "$2 $3: $(grep 'Synthesis' "$scratch/said" | sed 's/.*: Tested/tested/')"
}
export TC_DEVICE=simt
for seed in 0 1 2; do
    echo "checked, order $seed"
    TC_SEED=$seed run "$BUILD/simt_checked" test_conformance 'conformance/simt*'
    TC_SEED=$seed run "$BUILD/simt_checked" test_rnn '*/*simt*'
done
run "$BUILD/simt_checked" test_derivatives '*/*simt*'
run "$BUILD/simt_checked" test_device '*'
for model in lenet5 mlp cnn lstm-rows resnet20 vgg-small; do # each value of the arena by itself
    (cd "$scratch" && LD_LIBRARY_PATH=$BUILD/simt_checked "$BUILD/tern" train --data shapes \
        --samples 40 --val-split 4 --model $model --steps 2 --batch 2 --seed 3 --device simt) \
        > "$scratch/said" 2>&1 && ! grep -q '^simt:' "$scratch/said" || {
        cat "$scratch/said"
        exit 1
    }
    echo "two steps of $model: no reports"
done

echo 'AddressSanitizer and UBSan'
cmake -S "$top" --preset dev -B "$top/build/dev" > "$scratch/log" 2>&1 &&
    cmake --build "$top/build/dev" -j2 --target tern_simt test_conformance test_device \
        test_derivatives test_alloc test_rnn > "$scratch/log" 2>&1 || {
    tail -n 30 "$scratch/log"
    exit 1
}
export ASAN_OPTIONS=abort_on_error=1 # a leak ends a Criterion run with 0 otherwise
export LD_LIBRARY_PATH=$top/build/dev
sanitized() { # sanitized PROGRAM FILTER
    (cd "$scratch" && "$top/build/dev/tests/$1" "--filter=$2" -j2) \
        < /dev/null > "$scratch/said" 2>&1 &&
        grep -q 'Tested: [1-9]' "$scratch/said" && ! grep -q 'SKIPPED: ' "$scratch/said" || {
        cat "$scratch/said"
        exit 1
    }
    echo "$1 $2: $(grep 'Synthesis' "$scratch/said" | sed 's/.*: Tested/tested/')"
}
sanitized test_conformance 'conformance/simt*'
sanitized test_rnn '*/*simt*'
sanitized test_device '*'
sanitized test_derivatives '*/*simt*'
sanitized test_alloc '*'

#!/usr/bin/env bash
# twenty runs of one seed, and runs with 1, 2 and 4 threads, leave the same bytes; eager runs too
# usage: TERN=path/to/tern bash same_bits.sh
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
run() { # run NAME OPTION...
    "$TERN" train --data shapes --model lenet5 --seed 3 --steps 150 --name "$@" \
        > /dev/null 2> log || {
        cat log
        exit 1
    }
}
same() {
    cmp "runs/first/best.safetensors" "runs/$1/best.safetensors"
    rm -rf "runs/$1"
}
run first
for _ in $(seq 19); do
    run again
    same again
done
for threads in 1 2 4; do
    run threads --threads $threads
    same threads
done
TERN_DISABLE=program run eager
TERN_DISABLE=fuse run unfused
cmp runs/eager/best.safetensors runs/unfused/best.safetensors
echo "20 runs of one seed, 1, 2 and 4 threads, eager: the same bytes"

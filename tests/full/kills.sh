#!/usr/bin/env bash
# killed with -9 at 20 random moments and resumed, a run ends in the weights of an undisturbed one
# usage: TERN=path/to/tern bash kills.sh
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
options='--data shapes --model lenet5 --seed 5 --steps 2000 --save-every 20'
start=$(date +%s%N)
# shellcheck disable=SC2086 # a list of words
"$TERN" train $options --name whole > /dev/null 2>&1
length=$((($(date +%s%N) - start) / 1000000))
# shellcheck disable=SC2086
"$TERN" train $options --name killed > /dev/null 2> log &
pid=$!
for i in $(seq 20); do
    # Moments of any kind: short ones fall into the start, all together into most of the run.
    sleep "$(awk -v ms=$((length / 20)) -v i="$i" 'BEGIN {srand(i); print rand() * 2 * ms / 1000}')"
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    [ -d runs/killed ] || { # killed before there was a folder
        # shellcheck disable=SC2086
        "$TERN" train $options --name killed > /dev/null 2> log &
        pid=$!
        continue
    }
    "$TERN" train --resume runs/killed > /dev/null 2> log &
    pid=$!
done
wait $pid || {
    cat log
    exit 1
}
cmp runs/whole/best.safetensors runs/killed/best.safetensors
# Epochs rise strictly: none is there twice, none is missing.
awk -F, 'NR > 1 {if ($1 + 0 != NR - 1) exit 1}' runs/killed/metrics.csv
echo "20 kills in a run of $length ms: the same bytes"

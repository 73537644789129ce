#!/usr/bin/env bash
# LeNet-5 on Fashion-MNIST: the seeds 1 to 5 all reach 90.2 % on the test part
# usage: TERN=path/to/tern bash seeds.sh
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
for seed in 1 2 3 4 5; do
    "$TERN" train --data fashion-mnist --model lenet5 --seed $seed --json > result 2> log || {
        cat log
        exit 1
    }
    accuracy=$(sed -n 's/.*"test_acc": *\([0-9.]*\).*/\1/p' result)
    seconds=$(sed -n 's/.*"train_seconds": *\([0-9.]*\).*/\1/p' result)
    echo "seed $seed: $accuracy in $seconds s"
    awk -v a="$accuracy" 'BEGIN {exit !(a >= 0.902)}'
done

#!/usr/bin/env bash
# faults.sh - files and folders that cannot be read or written, and values that overflow.
. "$(dirname "$0")/lib.sh"

# Folders.
touch file
status 1 "$tern" "${small[@]}" --runs file/runs
has err "file"
status 1 "$tern" "${small[@]}" --runs /proc/tern-runs
has err "/proc/tern-runs"
status 1 "$tern" "${small[@]}" --log /nonexistent/log
has err "/nonexistent/log"

# A disk that is full: here, files that may not grow beyond a size.
if (trap '' XFSZ && ulimit -f 16) 2> /dev/null; then
    (trap '' XFSZ; ulimit -f 16; exec "$tern" "${small[@]}" --name full > out 2> err)
    [ $? = 1 ] || bad "disk full: status"
    has err "error: runs/full/"
    status 0 "$tern" train --resume runs/full
    has out "runs/full test_acc="
fi

# Data.
status 1 "$tern" train --data fashion-mnist --data-path /nonexistent
has err "/nonexistent"
[ -e runs/fashion-mnist-lenet5 ] && bad "a run without data left a folder"
mkdir -p broken
printf '\0\0\10\3\0\0\0\7' > broken/train-images-idx3-ubyte
for name in train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    printf 'nonsense' > broken/$name
done
status 1 "$tern" train --data fashion-mnist --data-path broken
has err "broken/"
status 1 "$tern" train --data nowhere-at-all
has err "nowhere-at-all"

# The guard: exit 5, the tensor's name, the last finite checkpoint.
status 5 "$tern" "${small[@]}" --name over --optimizer sgd --lr 1e30 --schedule constant
has err "non-finite values at step"
has err "loss before"
has err "kept:  runs/over/last.ckpt"
has err "try:   a smaller lr"
[ -s out ] && bad "a stopped run has a result"
status 5 "$tern" "${small[@]}" --name over-json --optimizer sgd --lr 1e30 --schedule constant --json
parses out
[ "$(value out ended)" = nonfinite ] || bad "ended: $(value out ended)"
status 0 "$tern" "${small[@]}" --name allowed --optimizer sgd --lr 1e30 --schedule constant \
    --allow-nonfinite --json
parses out
has out '"train_loss": null'
has out '"train_loss_nonfinite": "'

# A plan beyond the cap is refused before the first step.
status 1 env TERN_POOL_BYTES=40000000 "$tern" train --data shapes --samples 600 --val-split 60 \
    --model cnn --batch 500 --epochs 1 --name big
has err "error: "
has err "--batch"
finish

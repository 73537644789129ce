#!/usr/bin/env bash
# usage.sh - help, wrong usage, wrong configurations: what is said, where, with which exit status.
. "$(dirname "$0")/lib.sh"

status 2 "$tern"
has err "there is no verb"
[ -s out ] && bad "misuse writes to stdout"
status 0 "$tern" --version
grep -qE '^tern [0-9]+\.[0-9]+\.[0-9]+$' out || bad "--version: $(cat out)"
status 0 "$tern" --help
has out "tern train --data fashion-mnist"
for verb in train eval predict summary devices info op bench help; do
    has out "  $verb "
    status 0 "$tern" help "$verb"
    has out "--seed"
    cp out first
    status 0 "$tern" "$verb" --help
    [ "$verb" = help ] || same out first
    status 0 "$tern" --help
done

status 2 "$tern" trian
has err 'did you mean "train"?'
status 2 "$tern" train --epcohs 3
has err "did you mean --epochs?"
status 2 "$tern" train --epochs
has err "--epochs needs a value"
for words in "--batch x" "--batch 0" "--batch -1" "--batch 1e3" "--lr nan" "--lr inf" "--lr -1" \
    "--lr" \
    "--optimizer adma" "--schedule no" "--seed -1" "--seed 99999999999999999999" "--threads 0" \
    "--threads 257" "--color red" "--augment fly" "--augment shift" "--size 3x4" "--val-split -1" \
    "--set lr" "--set nosuch=1" "--set lr=x" "--smoothing 1.5" "--top 3" "surplus" "--math f64" \
    "surplus again"; do
    # shellcheck disable=SC2086
    status 2 "$tern" train --data shapes --samples 50 --model net.cfg $words
    has err "error: "
    [ -e runs ] && [ "$words" != "--augment fly" ] && [ "$words" != "--augment shift" ] &&
        bad "$words left a folder"
    rm -rf runs
done
status 2 "$tern" train --model lenet55
has err 'did you mean "lenet5"?'
has err "resnet18"
rm -rf runs
status 2 "$tern" eval
status 2 "$tern" predict x
status 2 "$tern" bench lenet5
status 2 "$tern" bench ops --model lenet5
has err "tern bench model lenet5 times its steps, and each layer in them"
status 0 "$tern" info --nondeterministic # the CPU's kernels all repeat
has err "changes nothing on cpu"
has out "equal calls give equal ones"
status 0 "$tern" help train
has out "plans of cuDNN and cuBLASLt"
status 2 "$tern" op
status 2 "$tern" op relu x.npy
has err "-o DIR"
status 1 "$tern" op nosuch -o here
has err "there is no operation"
has err "conv2d"
status 1 "$tern" eval nothing-here
has err "nothing-here"
status 1 "$tern" train --resume nothing-here
has err "nothing-here"

# Global flags stand before and after the verb; precedence; origins.
status 0 "$tern" --json devices
parses out
status 0 "$tern" devices --json
status 0 env TERN_SEED=5 "$tern" info --config
grep -qE '^seed +5 +TERN_SEED$' out || bad "no origin TERN_SEED"
printf '[train]\n# a comment\nlr=0.5\nbatch=8\nseed=9\n' > good.cfg
status 0 env TERN_SEED=5 "$tern" info --config good.cfg --set batch=16
grep -qE '^seed +5 +TERN_SEED$' out || bad "the environment is above --config"
grep -qE '^lr +0.5 +good.cfg:3$' out || bad "no origin good.cfg:3"
grep -qE '^batch +16 +--set batch$' out || bad "--set is above --config"

# Configurations: file and line.
status 2 "$tern" train --config none.cfg
has err "none.cfg"
printf '[train]\nlr=0.1\nepohcs=3\n' > bad.cfg
status 2 "$tern" train --config bad.cfg
has err "bad.cfg:3"
has err 'did you mean "epochs"?'
printf '[train]\nlr=zero\n' > bad.cfg
status 2 "$tern" train --config bad.cfg
has err "bad.cfg:2"
printf '[train\n' > bad.cfg
status 2 "$tern" train --config bad.cfg
has err "bad.cfg:1"
printf '[net]\nchannels=1\nheight=28\nwidth=28\nclasses=10\n[conv]\nfilters=0\nsize=3\n' > bad.cfg
status 2 "$tern" summary bad.cfg
has err "bad.cfg:7"

# No device of that name here: at once, with the reason and a way out.
least=1000000
for _ in 1 2 3 4 5; do # the machine may have other things to do
    before=$(date +%s%N)
    status 1 "$tern" train --device cuda
    took=$((($(date +%s%N) - before) / 1000))
    [ $took -ge $least ] || least=$took
done
[ $least -lt 100000 ] || bad "--device cuda takes $least microseconds"
has err "error: --device cuda: no CUDA device can be used: "
has err "tern devices"
[ -e runs ] && bad "--device cuda left a folder"
status 1 "$tern" info --device nosuch
finish

#!/usr/bin/env bash
# memory.sh - --memory and --batch auto: plans that fit, the message about those that do not.
. "$(dirname "$0")/lib.sh"

# Refused before anything runs, with the largest batch that is not.
status 1 "$tern" summary lenet5 --batch 64 --memory 5MiB
has err "error: this plan needs 5.6 MiB on cpu, 5.0 MiB is allowed"
has err "(batch 64)"
try='Try --batch \1 or --batch auto'
n=$(sed -n "s/.*largest batch that fits now: \([0-9]*\)\.  $try\$/\1/p" err)
[ -n "$n" ] || bad "no largest batch"
status 0 "$tern" summary lenet5 --batch "$n" --memory 5MiB
status 1 "$tern" summary lenet5 --batch $((n + 1)) --memory 5MiB
status 1 "$tern" summary lenet5 --memory 100KiB
has err "no batch fits: not even --batch 1"
status 1 "$tern" bench model lenet5 --batch 64 --memory 5MiB --seconds 0
has err "largest batch that fits now: $n."
status 0 "$tern" bench model lenet5 --batch 8 --memory 5MiB --seconds 0 --rounds 1 --json
has out '"calls_again": 0'

# Without a limit, what the device has left is one: the emulated one has 8 GiB.
if [ -e "$(dirname "$tern")/libtern_simt.so" ]; then
    status 0 "$tern" summary vgg-small --batch auto --device simt --json
    needed=$(sed -n 's/.*"needed": \([0-9]*\),/\1/p' out)
    [ "$needed" -le $((8 << 30)) ] && [ "$needed" -gt $((15 << 29)) ] || bad "$needed of 8 GiB"
else
    echo "no simt device here: its room is not asked"
fi

# The largest round batch: a power of two below 64, then multiples of 64.
status 0 "$tern" summary lenet5 --batch auto --memory 5MiB
has out "training  at batch 32:"
status 0 "$tern" summary lenet5 --batch auto --memory 20MiB
has out "training  at batch 256:"
status 1 "$tern" summary lenet5 --batch auto --memory 100KiB
has err "--batch auto: not even one image fits"

# A limit that takes calls which run again.
status 0 "$tern" summary resnet20 --batch 16 --memory 26MiB
has out "calls of a step run twice, to keep within 26.0 MiB"
status 0 "$tern" summary resnet20 --batch 16 --memory 26MiB --program
has out ", again, block1.bn1 backward"
status 0 "$tern" summary resnet20 --batch 16 --memory 26MiB --json
has out '"allowed": 27262976'

# Training: the batch is a number from the first step on; the limit changes no bit.
small=(train --data shapes --samples 100 --size 3x32x32 --val-split 20 --steps 3 --seed 7)
status 0 "$tern" "${small[@]}" --model lenet5 --batch auto --memory 2MiB --name auto
grep -qxE 'batch=(1|2|4|8|16|32)' runs/auto/config.cfg || bad "$(grep batch runs/auto/config.cfg)"
grep -qx 'memory=2MiB' runs/auto/config.cfg || bad "no memory in config.cfg"
status 0 "$tern" train --resume runs/auto
status 0 "$tern" "${small[@]}" --model resnet20 --batch 16 --name wide
wide=$(sed -n 's/.*weights_xxh128=\([0-9a-f]*\).*/\1/p' err)
status 0 "$tern" "${small[@]}" --model resnet20 --batch 16 --memory 26MiB --name tight
has err "weights_xxh128=$wide"
status 1 "$tern" "${small[@]}" --model lenet5 --batch 64 --memory 2MiB --name none
has err "is allowed"
[ -e runs/none ] && bad "a refused run left its folder"

# Sizes.
for size in 5x 0 -1 MiB 1e 4GiBs ""; do status 2 "$tern" summary lenet5 --memory "$size"; done
for size in 20000000 20MB 20MiB 20M 0.5GiB; do
    status 0 "$tern" summary lenet5 --memory "$size"
done
status 2 "$tern" eval runs/auto --batch auto
status 2 "$tern" bench model lenet5 --batch auto

finish

#!/usr/bin/env bash
# tune.sh - --tune: choices by the clock are kept, named in headers and checkpoints, and missed.
. "$(dirname "$0")/lib.sh"
small=(train --data shapes --model lenet5 --samples 64 --val-split 16 --batch 8 --progress never
    --threads 1)

status 0 "$tern" "${small[@]}" --steps 3 --tune a.choices --name a
has err 'choices=0:'
grep -qx "tern choices 1" a.choices || bad "a.choices begins with $(head -n 1 a.choices)"
[ "$(wc -l < a.choices)" -gt 10 ] || bad 'few choices'
grep -q '"choices": "[1-9][0-9]*:' runs/a/result.json || bad 'no choices in result.json'
before=$(cksum < a.choices)

# With its file a run goes on without a word, and times nothing that is in it.
status 0 "$tern" train --resume runs/a --steps 4 --progress never --threads 1
lacks err 'the last bits may differ'
[ "$(cksum < a.choices)" = "$before" ] || bad 'calls that are in the file were timed'

# Without it, or with another one, it is told.
mv a.choices aside
status 0 "$tern" train --resume runs/a --steps 5 --progress never --threads 1
has err 'with the choices'
has err 'the last bits may differ'
mv aside a.choices
status 0 "$tern" "${small[@]}" --steps 2 --name b
status 0 "$tern" train --resume runs/b --steps 3 --progress never --threads 1
lacks err 'the last bits may differ'

# The same file twice gives the same bits.
for name in c d; do
    status 0 "$tern" "${small[@]}" --steps 3 --tune a.choices --name $name --json
    sed -n 's/.*"weights_xxh128": "\(.*\)",/\1/p' out > $name.hash
done
cmp -s c.hash d.hash && [ -s c.hash ] || bad 'two runs with one file differ'

# Headers of bench; what is no such file is refused.
status 0 "$tern" bench ops 'matmul N=4 a=Nx8 b=8x8' --seconds 0.001 --rounds 1 --threads 1 \
    --tune a.choices
has out 'math f32, kernels by the clock, choices '
status 0 "$tern" bench ops 'matmul N=4 a=Nx8 b=8x8' --seconds 0.001 --rounds 1 --threads 1 \
    --tune a.choices --json
has out '"choices": "'
sed -i '3s/\t[0-9][0-9]*\t/\tx\t/' a.choices
status 1 "$tern" "${small[@]}" --steps 1 --tune a.choices --name e
has err 'a.choices:3: this line'
has err 'not a file of choices'
finish

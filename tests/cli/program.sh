#!/usr/bin/env bash
# program.sh - the program of a training step as `tern summary` prints and draws it.
. "$(dirname "$0")/lib.sh"

# Text: calls by number, what was fused, lifetimes, the planned peak.
status 0 "$tern" summary resnet20 --batch 2 --program
cp out text
has out "resnet20, a training step at batch 2: arena "
has out "   0  %"
has out " = conv2d_act %x0 @conv1.weight - pad=1,1 -> f32[2,16,32,32]  # "
has out ", for batch_norm+add+relu, "
has out "   9 × bn_add_act for batch_norm+add+relu"
has out "   9 × bn_add_act_d for relu_d+batch_norm_d"
has out "lifetimes in the arena: value, bytes, at, lines"
has out "training  at batch 2: weights 1.0 MiB"
grep -qE '^  %x0 +24576 +[0-9]+  0 … [0-9]+$' out || bad "no lifetime of the images"
status 0 "$tern" summary resnet20 --batch 2 --program text
same out text

# Nothing ends beyond the arena, and something ends there.
arena=$(sed -n 's/.* arena \([0-9]*\) bytes$/\1/p' text)
awk -v arena="$arena" '
    $1 ~ /^%/ && $NF ~ /^[0-9]+$/ && NF >= 6 {
        i = $2 == "scratch" ? 3 : 2
        end = $i + $(i + 1)
        n++
        if (end > most) most = end
    }
    END { exit !(n > 50 && most <= arena && most > arena - 64) }' text ||
    bad "lifetimes do not fill the arena of $arena bytes"

# Without fusion.
status 0 env TERN_DISABLE=fuse "$tern" summary resnet20 --batch 2 --program
has out "nothing is fused"
has out " = relu "
lacks out "bn_add_act"

# The graph.
status 0 "$tern" summary lenet5 --program dot
head -n 1 out | grep -qF 'digraph "lenet5" {' || bad "no digraph"
tail -n 1 out | grep -qx '}' || bad "the graph does not end"
has out '[label="conv2d_act\nconv1\nf32[64,6,28,28]"'
has out "  v0 -> n1;"
if command -v dot > /dev/null; then dot -Tsvg out > drawn || bad "dot does not read it"; fi

# Wrong usage.
status 2 "$tern" summary lenet5 --program png
status 2 "$tern" summary lenet5 --program --json
status 2 "$tern" train --program

# Pictures.
status 0 "$tern" info
if ! sed -n 's/^with \(.*\)without.*/\1/p; s/^with //p' out | grep -qw cairo; then
    status 1 "$tern" summary lenet5 --program svg
    has err "without Cairo"
    echo "this command was built without Cairo: no pictures to look at"
else
    status 0 "$tern" summary lenet5 --program svg
    cp out picture.svg
    tail -n 1 out | grep -qF '</svg>' || bad "the picture does not end"
    status 0 "$tern" summary lenet5 --plot program.svg
    same program.svg picture.svg
    status 0 "$tern" summary lenet5 --plot program.png
    [ "$(head -c 4 program.png | tail -c 3)" = PNG ] || bad "program.png is no PNG"
    status 1 "$tern" summary lenet5 --plot program.jpg
    has err "neither with .svg nor with .png"
    status 1 "$tern" summary lenet5 --plot nowhere/program.svg
    has err "nowhere/program.svg"
fi

finish

#!/usr/bin/env bash
# bench.sh - problems, formats, baselines of `tern bench`, with looks too short to mean anything.
. "$(dirname "$0")/lib.sh"
quick=(--seconds 0.001 --repeat 3 --rounds 1 --timeout 0.001 --warm-up 0 --threads 1)

cat > few.txt << 'END'
# two problems
relu N=4 x=Nx8 name="relu 8"

matmul N=4 a=Nx8 b=8x8 name="product 8"
END

# Formats.
status 0 "$tern" bench ops --problems few.txt "${quick[@]}"
has out '| relu 8    | fwd |     4 |   1 |'
has out '% roof'
has out '<!-- tern'
status 0 "$tern" bench ops --problems few.txt "${quick[@]}" --json
parses out
has out '"schema": "tern.bench/1"'
has out '"samples_ns": ['
has out '"verdict": "ok"'
status 0 "$tern" bench ops --problems few.txt "${quick[@]}" --format jsonl
[ "$(wc -l < out)" = 2 ] || bad "jsonl has $(wc -l < out) lines"
head -n 1 out > line
parses line
status 0 "$tern" bench ops --problems few.txt "${quick[@]}" --format csv
[ "$(wc -l < out)" = 3 ] || bad "csv has $(wc -l < out) lines"
[ "$(head -n 2 out | tail -n 1 | tr -cd , | wc -c)" = "$(head -n 1 out | tr -cd , | wc -c)" ] ||
    bad "a row of the csv has other columns than its head"
status 2 "$tern" bench ops --format text2
# In a math mode the reference is given operands that were rounded alike.
status 0 "$tern" bench ops 'matmul a=64x96 b=96x48' "${quick[@]}" --math bf16 --format csv
has out ",ok,"

# Lists and ranges, filters, one problem as text.
printf '%s\n' 'relu N=4 x=Nx8' \
    'conv2d_dw N=2 x=Nx2x4x4 g=Nx2x4x4 shape=2,2,3,3 pad=1 name="dw"' > dirs.txt
status 0 "$tern" bench ops --problems dirs.txt --dir bwd-w "${quick[@]}" --format csv
[ "$(sed 1d out | cut -d, -f4)" = bwd-w ] || bad "--dir bwd-w left $(sed 1d out)"
status 2 "$tern" bench ops --problems dirs.txt --dir update "${quick[@]}"
has err 'no problem is left'
status 0 "$tern" bench ops --problems few.txt --filter relu -b 1..8*2,5 "${quick[@]}" --format csv
[ "$(cut -d, -f5 out | tr '\n' ' ')" = "batch 1 2 4 8 5 " ] || bad "$(cut -d, -f5 out)"
status 0 "$tern" bench ops 'add a=3x4 b=4' "${quick[@]}" --threads 1..2 --format csv
[ "$(wc -l < out)" = 3 ] || bad "threads 1..2 gave $(wc -l < out) lines"
status 2 "$tern" bench ops --problems few.txt -b 8..1
has err 'range 1..8*2'
status 2 "$tern" bench ops --problems few.txt -b 0,1
status 2 "$tern" bench ops --problems few.txt --op tanh
status 2 "$tern" bench oops
has err 'did you mean ops?'

# What is wrong with a line is said with its place and the field.
wrong() { # wrong LINE FIELD
    printf '\n%s\n' "$1" > bad.txt
    status 2 "$tern" bench ops --problems bad.txt "${quick[@]}"
    has err "bad.txt:2: $2"
}
wrong 'relux x=4' 'relux: no such operation'
wrong 'relu y=4' 'y=4: relu has no input and no option "y"'
wrong 'relu' 'x: this input is missing'
wrong 'relu x=4x' 'x=4x: this is no shape'
wrong 'relu x=Nx4' 'x=Nx4: N=… must come first'
wrong 'relu N=0 x=4' 'N=0: a batch'
wrong 'relu x=4 x=4' 'x=4: this input was given before'
wrong 'relu x=4:blue' 'x=4:blue: normal, small'
wrong 'relu x=4 out=z' 'out=z: no such output'
wrong 'relu x=4 name="' 'name: a text in quotes'
printf 'conv2d x=1x3x8x8 w=4x3x3x3 stride=fast\n' > bad.txt
status 1 "$tern" bench ops --problems bad.txt "${quick[@]}"
has err 'bad.txt:1: conv2d: option stride'
status 2 "$tern" bench ops --problems nowhere.txt
has err 'nowhere.txt'

# Baselines: own one, another machine's, no such file, no such document.
status 0 "$tern" bench ops --problems few.txt "${quick[@]}" --save base.json
parses base.json
"$tern" bench ops --problems few.txt "${quick[@]}" --baseline base.json > out 2> err
case $? in 0 | 4) ;; *) bad "baseline: $(cat err)" ;; esac
if grep -q 'without jansson' err; then
    finish
fi
has out '95% interval'
has out '(threshold 3%)'
"$tern" bench ops --problems few.txt "${quick[@]}" --baseline base.json --json > out 2> err
parses out
sed 's/"hardware": "/"hardware": "another /' base.json > other.json
status 1 "$tern" bench ops --problems few.txt "${quick[@]}" --baseline other.json
has err 'other hardware'
"$tern" bench ops --problems few.txt "${quick[@]}" --baseline other.json --force > out 2> err
has out '95% interval'
status 1 "$tern" bench ops --problems few.txt "${quick[@]}" --baseline nowhere.json
has err 'nowhere.json'
head -c 200 base.json > cut.json
status 1 "$tern" bench ops --problems few.txt "${quick[@]}" --baseline cut.json
has err 'cut.json:'
echo '{}' > empty.json
status 1 "$tern" bench ops --problems few.txt "${quick[@]}" --baseline empty.json
has err 'no result of tern bench'
# Everything here is ten thousand times slower than that.
sed 's/^\( *\)\([0-9][0-9.e+]*\)\(,\{0,1\}\)$/\10.001\3/' base.json > fast.json
status 4 "$tern" bench ops --problems few.txt "${quick[@]}" --repeat 10 --baseline fast.json
has out 'SLOWER'
status 1 "$tern" bench ops --problems few.txt "${quick[@]}" --save nowhere/x.json

# In a math mode the reference multiplies what the device does.
for math in tf32 bf16 f16; do
    status 0 "$tern" bench ops 'matmul N=16 a=Nx32 b=32x24' \
        'linear_act_d N=8 x=Nx12 w=6x12 b=6 gy=Nx6 y=from:linear_act act=relu' "${quick[@]}" \
        --math $math
    lacks out WRONG
    has out "math $math"
done

finish

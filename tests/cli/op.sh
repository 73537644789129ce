#!/usr/bin/env bash
# op.sh - single operations on arrays from files, and predictions from images and arrays.
. "$(dirname "$0")/lib.sh"

# npy NAME TYPE SHAPE BYTES: a file of NumPy's format, written by hand.
npy() {
    local head="{'descr': '$2', 'fortran_order': False, 'shape': ($3), }" n
    n=$(((${#head} + 11 + 63) / 64 * 64 - 10))
    {
        printf '\x93NUMPY\x01\x00'
        # shellcheck disable=SC2059
        printf "\\x$(printf %02x $((n % 256)))\\x$(printf %02x $((n / 256)))"
        printf '%-*s\n' $((n - 1)) "$head"
        # shellcheck disable=SC2059
        printf "$4"
    } > "$1"
}
floats() { od -An -v -tf4 -j128 -w4 "$1" | tr -s ' \n' ' '; }
doubles() { od -An -v -tf8 -j128 -w8 "$1" | tr -s ' \n' ' '; }
one='\x00\x00\x80\x3f' two='\x00\x00\x00\x40' three='\x00\x00\x40\x40' four='\x00\x00\x80\x40'

npy a.npy '<f4' '4,' "$one$two$three$four"
npy b.npy '<f4' '4,' "$four$three$two$one"
npy i.npy '<i8' '2,' '\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00'

# y = a b; g = a: the gradients are a b and a a; second with v = (b, -).
status 0 "$tern" op mul a.npy b.npy --grad a.npy --second b.npy - -o o
[ "$(floats o/y.npy)" = " 4 6 6 4 " ] || bad "mul: $(floats o/y.npy)"
[ "$(floats o/grad_a.npy)" = " 4 6 6 4 " ] || bad "grad_a: $(floats o/grad_a.npy)"
[ "$(floats o/grad_b.npy)" = " 1 4 9 16 " ] || bad "grad_b: $(floats o/grad_b.npy)"
# <g b, v> with v = b: its derivative in b is g v, in g it is b v.
[ "$(floats o/second_a.npy)" = " 0 0 0 0 " ] || bad "second_a: $(floats o/second_a.npy)"
[ "$(floats o/second_b.npy)" = " 4 6 6 4 " ] || bad "second_b: $(floats o/second_b.npy)"
[ "$(floats o/second_g_y.npy)" = " 16 9 4 1 " ] || bad "second_g_y: $(floats o/second_g_y.npy)"
status 0 "$tern" op sum a.npy axes=1 keep=1 --dtype f64 -o o64 --json
parses out
[ "$(doubles o64/y.npy)" = " 10 " ] || bad "sum f64: $(doubles o64/y.npy)"
status 0 "$tern" op take a.npy i.npy -o taken
[ "$(floats taken/y.npy)" = " 1 4 " ] || bad "take: $(floats taken/y.npy)"
status 0 "$tern" --device ref op mul a.npy b.npy -o r
same o/y.npy r/y.npy

# Wrong arguments: the library's own words, status 1.
status 1 "$tern" op mul a.npy -o w
has err "error: mul"
status 1 "$tern" op mul a.npy i.npy -o w
has err "error: mul"
status 1 "$tern" op sum a.npy axis=1 -o w
has err "axis"
status 1 "$tern" op sum a.npy axes=x -o w
status 1 "$tern" op mul a.npy none.npy -o w
has err "none.npy"
status 1 "$tern" op mul a.npy b.npy --grad i.npy -o w
status 1 "$tern" op mul a.npy b.npy --grad a.npy a.npy -o w
has err "cotangents"
status 1 "$tern" op mul a.npy b.npy --grad - -o w
status 1 "$tern" op mul a.npy b.npy -o /proc/none
status 1 "$tern" op take a.npy b.npy -o w
printf 'nonsense' > bad.npy
status 1 "$tern" op relu bad.npy -o w
has err "bad.npy"

# Predictions: text, CSV, a document, names from stdin, arrays of several images.
status 0 "$tern" "${small[@]}" --name p
{ head -c 784 /dev/zero; head -c 784 /dev/zero | tr '\0' '\377'; } > pixels
{ printf '\0\0\10\3\0\0\0\2\0\0\0\34\0\0\0\34'; cat pixels; } > two.idx3-ubyte
status 0 "$tern" predict runs/p two.idx3-ubyte --top 2
[ "$(wc -l < out)" = 2 ] || bad "two images: $(cat out)"
grep -qE '^two.idx3-ubyte\[0\]   .+ [0-9.]+%   .+ [0-9.]+%$' out || bad "predict: $(cat out)"
echo two.idx3-ubyte | "$tern" predict runs/p - --format csv > csv || bad "names from stdin"
[ "$(head -1 csv)" = "file,rank,class,probability" ] || bad "csv: $(cat csv)"
[ "$(wc -l < csv)" = 3 ] || bad "csv: $(cat csv)"
status 0 "$tern" predict runs/p two.idx3-ubyte --json
parses out
[ "$(value out count)" = 2 ] || bad "count"
status 1 "$tern" predict runs/p a.npy
has err "a.npy"
has err "1x28x28"
status 1 "$tern" predict runs/p none.png two.idx3-ubyte
has err "none.png"
[ "$(wc -l < out)" = 2 ] || bad "one bad file keeps the others from being answered"
finish

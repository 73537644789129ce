#!/usr/bin/env bash
# cli/compare_math.sh - a whole step of ResNet-20 in 16 bits on tensor cores: every tensor is inside
# its bound, and a fault of a thousandth is seen. usage: compare_math.sh TERN
. "$(dirname "$0")/lib.sh"

if [ ! -e "$(dirname "$tern")/libtern_simt.so" ]; then
    echo 'skipped: this build has no emulated device'
    exit 77
fi
step=(compare --model resnet20 --size 3x8x8 --devices simt --math)
for math in bf16 f16; do
    status 0 "$tern" "${step[@]}" $math --json
    [ "$(value out verdict)" = inside ] || bad "verdict in $math"
    has out "\"kernel\": \"tensor_$math\""
done
status 3 "$tern" "${step[@]}" bf16 --inject conv1.out,rel=0.001
finish

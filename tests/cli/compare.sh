#!/usr/bin/env bash
# compare.sh - devices compared call by call: exit statuses, planted faults, names, the document.
. "$(dirname "$0")/lib.sh"

# Models by name; tests/full/compare.sh has the large ones, too.
for model in lenet5 mlp cnn lstm-rows resnet20; do
    status 0 "$tern" compare --model $model --devices cpu,ref
    has out "batch of 2, made images, seed 42"
    has out "$model, adam, lr 0.002"
    lacks out FAIL
    lacks out "not compared"
done
# Images so small that many gradients are exactly 0: Winograd leaves its rounding there.
status 0 "$tern" compare --model vgg-small --size 3x8x8 --devices cpu,ref
status 0 "$tern" compare --model lenet5 --devices cpu --batch 3 --steps 3 --optimizer sgd --clip 0.5
has out "batch of 3, "
has out "sgd, lr 0.05, fresh state      3 steps"
has out "| upd  | fc3      | update "

# fault MODEL LAYER.TENSOR PASS OPERATION [OPTION...]: planted, it is found and named, and nothing
# else is outside.
fault() {
    local model=$1 name=$2 pass=$3 op=$4
    shift 4
    status 3 "$tern" compare --model "$model" --devices cpu,ref --inject "$name,rel=0.01" "$@"
    has out "planted    $name of B"
    has out "first failure  $pass, $name ($op), step 1"
    has out ", 1 outside"
    [ "$(grep -c 'FAIL B' out)" = 1 ] || bad "$model $name: $(grep FAIL out)"
}
fault lenet5 conv1.out forward conv2d_act
fault lenet5 pool2.out forward max_pool2d
fault lenet5 conv2.dX backward conv2d_act_d
fault lenet5 conv1.dW backward conv2d_act_d
fault lenet5 fc2.db backward linear_act_d
fault lenet5 fc1.update update adam_update
fault lenet5 conv2.update update sgd_update --optimizer sgd
fault mlp fc3.out forward linear_act
fault mlp fc2.dW backward linear_act_d
for name in y out c_n; do fault lstm-rows lstm1.$name forward lstm; done
for name in dweight_ih_l0 dweight_hh_l0 dbias_ih_l0 dbias_hh_l0; do
    fault lstm-rows lstm1.$name backward lstm_d
done
fault lstm-rows lstm1.update update adam_update
fault lstm-rows fc1.dX backward linear_act_d
fault resnet20 block4.shortcut.conv1.out forward conv2d_act --size 3x16x16
fault resnet20 block4.bn2.dX backward batch_norm_d --size 3x16x16
fault resnet20 block9.bn1.dW backward batch_norm_d --size 3x16x16
fault resnet20 relu1.out forward relu --size 3x16x16
fault resnet20 block3.bn2.dX backward bn_add_act_d --size 3x16x16 --fused
fault resnet20 block5.conv2.update update adam_update --size 3x16x16
status 0 "$tern" compare --model resnet20 --size 3x16x16 --devices cpu,ref --fused
has out "reference), fused"
status 2 "$tern" compare --model resnet20 --devices cpu --fused --inject relu1.out,rel=1
has err "relu1 has no call of its own"
status 3 "$tern" compare --model mlp --devices cpu,cpu --inject fc1.out,rel=-0.01 --steps 2
has out "first failure  forward, fc1.out (linear_act), step 1"
has out "worst    ["
status 0 "$tern" compare --model mlp --devices cpu,ref --inject fc1.out,rel=1e-12
# Operands rounded to bf16, by the processor's own instructions where it has them: all inside, and a
# thousandth is seen.
in_bf16=(compare --model mlp --batch 16 --devices cpu,ref --math bf16)
status 0 "$tern" "${in_bf16[@]}" --json
[ "$(value out verdict)" = inside ] || bad "verdict in bf16"
if grep -qs avx512_bf16 /proc/cpuinfo; then has out '"kernel": "bf16"'; fi
status 0 env TERN_DISABLE=avx512_bf16 "$tern" "${in_bf16[@]}" --json
lacks out '"kernel": "bf16"'
status 3 "$tern" "${in_bf16[@]}" --inject fc1.out,rel=0.001
has out "first failure  forward, fc1.out (linear_act), step 1"
status 0 "$tern" compare --model resnet20 --size 3x16x16 --devices cpu,ref --math bf16
# Of several weights, dW is the first; each has its own name, too.
"$tern" compare --model lstm-rows --devices cpu --inject lstm1.dW,rel=0.5 > out
has out "planted    lstm1.dweight_ih_l0 of A"
"$tern" compare --model lstm-rows --devices cpu --inject lstm1.dbias_hh_l0,rel=0.5 > out
has out "planted    lstm1.dbias_hh_l0 of A"

# Math modes: the roundings of operands are calls of the step, and products are judged on what is
# left of them. In every mode a fault is found.
for math in tf32 bf16 f16; do
    status 0 "$tern" compare --model lenet5 --devices cpu,ref --math $math -v
    has out ", math $math"
    has out "round_to"
    status 3 "$tern" compare --model lenet5 --devices cpu,ref --math $math --inject fc2.dX,rel=0.01
    has out "first failure  backward, fc2.dX (linear_act_d), step 1"
done
status 0 "$tern" compare --model lenet5 --devices cpu --math f32 -v
lacks out "round_to"
status 0 "$tern" compare --model lenet5 --devices cpu --math bf16 --json
[ "$(value out math)" = bf16 ] || bad "math"

# Names that do not exist: what would be right is said, before anything is computed.
wrong() { # wrong TENSOR,rel=R TEXT...
    local given=$1
    shift
    status 2 "$tern" compare --model lenet5 --devices cpu,ref --inject "$given"
    for text in "$@"; do has err "$text"; done
}
wrong conv3.out,rel=0.1 'there is no layer "conv3"; did you mean "conv' 'layers: conv1, pool1'
wrong nonsense.out,rel=0.1 'there is no layer "nonsense"' 'layers: conv1'
wrong conv1.dX,rel=0.1 'conv1 has no dX' 'conv1 has: out, dW, db, update'
wrong pool1.dW,rel=0.1 'pool1 has no dW' 'pool1 has: out, dX'
wrong conv1,rel=0.1 'NAME.out|.dX|.dW|.db|.update,rel=R'
wrong conv1.out 'rel=R'
wrong conv1.out,rel=0 'R not 0'
wrong conv1.out,rel=nan 'rel=R'
wrong conv1.out,rel=1x 'rel=R'

# Wrong usage.
status 2 "$tern" compare --devices cpu,ref
has err "compare needs --model"
status 2 "$tern" compare --model lenet5
has err "compare needs --devices"
status 2 "$tern" compare --model lenet5 --devices cpu,ref,cpu
has err "at most 2"
status 2 "$tern" compare --model lenet5 --devices cpu,
has err "a name is empty"
status 2 "$tern" compare --model lenet5 --devices cpu,null
has err "computes nothing"
status 2 "$tern" compare --model lenet5 --devices cpu --device cpu
has err "--devices"
status 2 "$tern" compare --model lenet --devices cpu
has err 'did you mean "lenet5"?'
status 2 "$tern" compare a b --devices cpu
status 2 "$tern" compare a --model lenet5 --devices cpu
status 1 "$tern" compare --model lenet5 --devices cpu,quantum
has err "--devices quantum"
status 1 "$tern" compare none --devices cpu
has err "this is no run"
status 1 "$tern" compare --model lenet5 --size 1x4x4 --devices cpu
has err "lenet5"
status 0 "$tern" help compare
has out "--inject"
status 0 env TERN_DEVICE=cpu "$tern" compare --model mlp --devices cpu

# A run: its model, weights, data and optimizer; batch norm, dropout, clipping.
status 0 "$tern" "${small[@]}" --name r --optimizer sgd --lr 0.1 --clip 0.01 --smoothing 0.1
status 0 "$tern" compare runs/r --devices cpu,ref --steps 2
has out "batch of 2, shapes"
has out "runs/r, sgd, lr 0.1, fresh state      2 steps"
has out "| fwd  | dropout1 | out "
has out "| bwd  | bn1      | dX "
has out "| upd  | step     | div "
status 3 "$tern" compare runs/r --devices cpu,ref --inject dropout1.out,rel=0.1 --steps 2
has out "first failure  forward, dropout1.out (dropout), step 1"

# The document.
status 3 "$tern" compare --model lenet5 --devices cpu,ref --inject fc2.dW,rel=0.1 --json
parses out
[ "$(value out schema)" = tern.compare/1 ] || bad "schema"
[ "$(value out batch)" = 2 ] || bad "batch"
[ "$(value out verdict)" = outside ] || bad "verdict"
[ "$(value out outside)" = 1 ] || bad "outside"
has out '"inject": "fc2.dW,rel=0.1"'
grep -A3 '"first_failure"' out | grep -q '"layer": "fc2"' || bad "first_failure"
status 0 "$tern" compare --model lenet5 --devices cpu --json
parses out
[ "$(value out verdict)" = inside ] || bad "verdict"
[ "$(value out first_failure)" = null ] || bad "first_failure"
"$tern" compare --model lenet5 --devices cpu --json > again
same out again
status 3 "$tern" compare --model lenet5 --devices cpu --inject pool1.out,rel=0.1 --json
parses out
has out '"bound_share_nonfinite": "inf"'

# The emulated CUDA device, where it is at hand. An operation without a kernel is said to be so.
if [ -e "$(dirname "$tern")/libtern_simt.so" ]; then
    for model in lenet5 mlp lstm-rows; do
        status 0 "$tern" compare --model $model --devices cpu,simt
        has out "B  simt"
    done
    status 3 "$tern" compare --model lenet5 --devices cpu,simt --inject conv2.dW,rel=0.05
    has out "first failure  backward, conv2.dW (conv2d_act_d), step 1"
else
    echo "no simt device here: not compared with it"
fi
finish

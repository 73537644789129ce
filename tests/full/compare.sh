#!/usr/bin/env bash
# depends: host include cuda CMakeLists.txt tests/simt
# every model by name at full size: cpu, ref and the emulated CUDA device inside their bounds; a
# step of ResNet-20 in each math mode
# usage: TERN=path/to/tern BUILD=folder/of/the/test/preset bash compare.sh
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
sides="cpu,ref"
if [ -e "${BUILD:-}/libtern_simt.so" ]; then # it lies beside that build's command
    TERN=$BUILD/tern
    sides="cpu,ref cpu,simt"
fi
for model in lenet5 mlp cnn vgg-small resnet18 resnet20 lstm-rows; do
    for pair in $sides; do
        for fused in 0 1; do
            "$TERN" compare --model $model --devices "$pair" --fused=$fused > out || {
                cat out
                exit 1
            }
            echo "$model, $pair, fused $fused: $(tail -n 1 out)"
        done
    done
done

# A recurrent layer's bounds are narrow over all its steps: a percent is found in each tensor.
for pair in $sides; do
    for tensor in lstm1.{y,out,c_n,d{weight,bias}_{ih,hh}_l0,update} fc1.{out,dX,dW,db,update} \
        loss.{out,dX}; do
        status=0
        "$TERN" compare --model lstm-rows --devices "$pair" --inject $tensor,rel=1e-2 > out ||
            status=$?
        if [ $status != 3 ] || ! grep -q "first failure .*, $tensor (" out; then
            echo "a fault in $tensor is not found on $pair: exit status $status"
            exit 1
        fi
    done
    echo "lstm-rows, $pair: a fault of a percent is found in each tensor"
done

for math in tf32 bf16 f16; do
    for pair in $sides; do
        "$TERN" compare --model resnet20 --devices "$pair" --math $math > out || {
            cat out
            exit 1
        }
        echo "resnet20, $pair, in $math: $(tail -n 1 out)"
    done
done

#!/usr/bin/env bash
# 20 steps on the emulated CUDA device: chained, shuffled and augmented, they keep the losses of the
# CPU's; each restarted from the reference's weights and fed by it, every tensor is in its bound
# usage: BUILD=folder/of/the/test/preset bash simt_models.sh
# depends: host include cuda CMakeLists.txt tests/simt
set -eu
BUILD=$(cd "${BUILD:?}" && pwd)
if [ ! -e "$BUILD/libtern_simt.so" ]; then
    echo 'skipped: this build has no simt plug-in'
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
losses() { # losses RUN
    sed -n 's/.*"loss": *\([-0-9.eE+]*\).*/\1/p' "runs/$1/steps.jsonl"
}
compare() { # compare MODEL OPTION...
    local device model=$1
    shift
    for device in cpu simt; do
        "$BUILD/tern" train --data shapes --samples 320 --val-split 20 --model "$model" --steps 20 \
            --batch 8 --seed 3 --log-every 1 --device $device --name "$model-$device" "$@" \
            > /dev/null 2> log || {
            cat log
            exit 1
        }
    done
    paste <(losses "$model-cpu") <(losses "$model-simt") | awk -v model="$model" '
        {n++; d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d}
        END {printf "%s: %d steps, at most %.2g apart\n", model, n, most
             exit !(n == 20 && most <= 2e-3)}'
}
compare lenet5 --augment shift=2,flip
# At the usual rate two orders of summation on the CPU alone lead 0.05 apart in 20 steps: this net's
# batch norms over 8 images make much of little. So the rate is low here.
compare resnet20 --augment flip,crop=4 --lr 0.00003
compare cnn --augment rotate=10 # it has dropout
compare lstm-rows --augment shift=2
for model in lenet5 resnet20 lstm-rows; do
    "$BUILD/tern" compare --model $model --devices cpu,simt --steps 20 > out || {
        cat out
        exit 1
    }
    grep -q ' 20 steps' out
    echo "$model restarted: $(tail -n 1 out)"
done

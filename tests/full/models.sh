#!/usr/bin/env bash
# resnet20 and vgg-small learn in one epoch of Fashion-MNIST, with no more than 2 GiB resident;
# lstm-rows reaches 87 % in five
# usage: TERN=path/to/tern bash models.sh
set -eu
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
value() { # value KEY
    sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" result
}
for model in resnet20 vgg-small; do
    "$TERN" train --data fashion-mnist --model $model --epochs 1 --json > result 2> log || {
        cat log
        exit 1
    }
    echo "$model: loss $(value train_loss), test $(value test_acc)," \
        "$(($(value peak_rss_bytes) / 1048576)) MiB, $(value train_seconds) s"
    # Ten classes by chance: loss 2.30, a tenth right.
    awk -v loss="$(value train_loss)" -v acc="$(value test_acc)" -v rss="$(value peak_rss_bytes)" \
        'BEGIN {exit !(loss < 1.0 && acc > 0.6 && rss <= 2147483648)}'
done
"$TERN" train --data fashion-mnist --model lstm-rows --epochs 5 --json > result 2> log || {
    cat log
    exit 1
}
echo "lstm-rows, 5 epochs: test $(value test_acc), $(value train_seconds) s"
awk -v acc="$(value test_acc)" 'BEGIN {exit !(acc >= 0.87)}'

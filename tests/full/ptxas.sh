#!/usr/bin/env bash
# No kernel spills registers or uses local memory, but for those that cuda/ptxas.txt names: lines
# of `architecture kernel bytes-of-stack bytes-of-spills`, most bytes allowed.
#   ptxas.sh SOURCE [ARCHITECTURE...]
# depends: cuda host/base host/core include/tern
set -u
top=$(cd "${1:-$(dirname "$0")/../..}" && pwd)
[ $# -gt 0 ] && shift
nvcc=$(command -v nvcc || ls "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2> /dev/null)
if [ -z "$nvcc" ]; then
    echo "SKIPPED: there is no nvcc"
    exit 77
fi
[ $# -gt 0 ] || set -- 75 80 90 100 120
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
n=0
bad=0
for arch in "$@"; do
    for file in "$top"/cuda/*.cu; do
        "$nvcc" -std=c++17 -arch="sm_$arch" -O3 --fmad=false -I"$top/include" -I"$top/host" \
            -I"$top/cuda" -Xptxas -v -c "$file" -o "$scratch/x.o" 2> "$scratch/log" || {
            cat "$scratch/log"
            exit 1
        }
        while read -r kernel stack spills; do
            n=$((n + 1))
            read -r most_stack most_spills < <(awk -v a="$arch" -v k="$kernel" \
                '$1 == a && $2 == k {print $3, $4; found = 1} END {if (!found) print 0, 0}' \
                "$top/cuda/ptxas.txt")
            if [ "$stack" -gt "$most_stack" ] || [ "$spills" -gt "$most_spills" ]; then
                echo "sm_$arch ${file##*/}: $arch $kernel $stack $spills (allowed: $most_stack," \
                    "$most_spills)"
                bad=$((bad + 1))
            fi
        done < <(awk '/Function properties for/ {kernel = $NF}
            /bytes stack frame/ {
                gsub(",", "")
                stack = 0; spills = 0
                for (i = 1; i <= NF; i++) {
                    if ($i == "bytes" && $(i + 1) == "stack") stack = $(i - 1)
                    if ($i == "bytes" && $(i + 1) == "spill") spills += $(i - 1)
                }
                print kernel, stack, spills
            }' "$scratch/log")
    done
done
echo "ptxas: $n kernels, $bad beyond cuda/ptxas.txt"
[ "$bad" = 0 ] && [ "$n" -gt 100 ]

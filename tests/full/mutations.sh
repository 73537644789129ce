#!/usr/bin/env bash
# each of some twenty mistakes put into the kernels is found by the checked conformance suite
# usage: BUILD=folder/of/the/test/preset bash mutations.sh [NAME...]
# depends: host include cuda CMakeLists.txt tests/simt tests/conformance.c tests/check.c
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=$(cd "${BUILD:?}" && pwd)
parts=$BUILD/tests/simt
if [ ! -e "$BUILD/simt_checked/libtern_simt.so" ]; then
    echo 'skipped: this build has no checked simt plug-in'
    exit 77
fi
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
mapfile -t compiler < <(grep -v '^$' "$parts/tern_simt_checked_kernels/compiler.txt")
mapfile -t others < <(cd "$parts/CMakeFiles" &&
    find "$PWD"/{simt_core,simt_threads,simt_checks,tern_simt_checked}.dir -name '*.o')
cp "$BUILD/simt_checked/test_conformance" "$scratch/"

# What the suite says beside the plug-in in scratch; false: something was found.
suite() {
    local status=0
    (cd "$scratch" && LD_LIBRARY_PATH=$scratch timeout 300 ./test_conformance \
        '--filter=conformance/simt*' -j1) < /dev/null > "$scratch/said" 2>&1 || status=$?
    if grep -q 'Tested: 0' "$scratch/said"; then
        cat "$scratch/said"
        echo 'no test ran: the plug-in cannot be opened'
        exit 1
    fi
    return $status
}

cp "$BUILD/simt_checked/libtern_simt.so" "$scratch/"
suite || {
    tail -n 20 "$scratch/said"
    echo 'the unchanged kernels do not pass'
    exit 1
}

# NAME, the file that is changed, the kernels compiled with it, and a sed command; or a number: that
# barrier of the file goes.
mutants() {
    cat << 'END'
operands-swapped arithmetic.cu arithmetic s/? a\[at\[2\]\] : b\[at\[3\]\]/? b[at[3]] : a[at[2]]/
bound-by-a-vector nest.cuh unary s|n = e.count / wide;|n = e.count / wide + 1;|
bound-off-by-one copy.cu copy /fill_kernel/,/^}/s/i < e.count/i < e.count - 1/
barrier-after-loads gemm.cuh conv2d 1
barrier-before-loads gemm.cuh matmul 2
group-swapped depthwise.cu depthwise s/+ k \/ each \* c;/+ k % each * c;/
mask-inverted cross_entropy.cu cross_entropy s/k != own && e.smooth/k == own \&\& e.smooth/
mask-with-own-lane index.cu index s/(1u << lane) - 1/(2u << lane) - 1/
barrier-of-lists index.cu index 2
bound-of-a-piece layer_norm.cu layer_norm /layer_pieces_kernel/,/^}/s/j < end/j + 1 < end/
barrier-of-groups groups.cuh loss 1
barrier-in-the-tree groups.cuh cross_entropy 2
barrier-before-reuse groups.cuh layer_norm 3
bound-beyond-a-piece norm.cu norm /pieces_kernel/,/^}/s/r < end/r <= end/
border-off-by-one pool2d.cu pool2d s/col >= v.X\[1\]/col > v.X[1]/
mask-of-dropout random.cu random s/< cut ? T(0)/>= cut ? T(0)/
barrier-of-a-sum reduce.cu reduce 2
barrier-of-a-place reduce.cu reduce 5
barrier-of-adam update.cu update 1
bound-of-an-update update.cu update /sgd_kernel/,/^}/s/i < e.count/i <= e.count/
barrier-of-a-step step.cuh recurrent 1
barrier-of-a-step-back step.cuh recurrent_d 3
END
}

caught=0 missed=0
while read -r name file kernels change; do
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    rm -rf "$scratch/cuda"
    cp -r "$top/cuda" "$scratch/cuda"
    if [[ $change =~ ^[0-9]+$ ]]; then
        awk -v n="$change" '/__syncthreads\(\);/ && ++k == n {sub(/__syncthreads\(\);/, ";")} 1' \
            "$top/cuda/$file" > "$scratch/cuda/$file"
    else
        sed -i "$change" "$scratch/cuda/$file"
    fi
    if cmp -s "$top/cuda/$file" "$scratch/cuda/$file"; then
        echo "$name: $file is as before: the change no longer fits"
        missed=$((missed + 1))
        continue
    fi
    objects=()
    for object in "$parts"/tern_simt_checked_kernels/*.o; do
        [ "$(basename "$object" .o)" = "$kernels" ] || objects+=("$object")
    done
    "${compiler[@]}" -w -I"$scratch/cuda" -x c++ -c "$scratch/cuda/$kernels.cu" -o "$scratch/x.o" &&
        c++ -shared -o "$scratch/libtern_simt.so" "$scratch/x.o" "${objects[@]}" "${others[@]}" \
            "-Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset,--version-script=$parts/tern_simt.map" \
            -Wl,-z,nodelete -lm -lpthread || exit 1
    if suite; then
        echo "$name ($kernels.cu by $file): MISSED"
        missed=$((missed + 1))
    else
        by=$(sed -n '/^simt: .*): /{s///;p;q}' "$scratch/said" | cut -c 1-90)
        echo "$name ($kernels.cu by $file): caught: ${by:-wrong values}"
        caught=$((caught + 1))
    fi
done < <(mutants)
echo "mutations: $caught caught, $missed missed"
[ "$missed" = 0 ] && [ "$caught" -gt 0 ]

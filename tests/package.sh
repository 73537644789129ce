#!/usr/bin/env bash
# package.sh - what `cmake --install` puts down, looked at in a staged tree.
# usage: package.sh STEP BUILD_FOLDER; the step `stage` goes first.
set -eu
step=$1 build=$2
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
stage=$build/stage
prefix=$stage/usr
cc=${CC:-cc}

fail() {
    echo "package: $*"
    exit 1
}

need() { # need TOOL: skips the test without it
    command -v "$1" > /dev/null || {
        echo "skipped: no $1"
        exit 77
    }
}

staged_library() {
    find "$prefix" -name 'libtern.so.*.*.*' | head -n 1
}

case $step in
stage)
    rm -rf "$stage"
    DESTDIR=$stage cmake --install "$build" --prefix /usr > "$build/stage.log"
    [ -n "$(staged_library)" ] || fail "no library in the staged tree"
    [ -x "$prefix/bin/tern" ] || fail "no command in the staged tree"
    ;;
components) # `runtime` runs programs, `dev` compiles them; together they are everything
    rm -rf "$build/stage-parts"
    for part in runtime dev; do
        DESTDIR=$build/stage-parts/$part cmake --install "$build" --prefix /usr \
            --component $part > /dev/null
    done
    cd "$build/stage-parts"
    (cd runtime && find . -name '*.h' -o -name '*.pc' -o -name '*.cmake') | grep . &&
        fail "the files above are for compiling, but lie in runtime"
    (cd runtime && find . -name 'libtern.so.0') | grep -q . || fail "runtime has no libtern.so.0"
    (cd dev && find . -name 'tern' -type f -o -name 'libtern.so.*') | grep . &&
        fail "the files above are for running, but lie in dev"
    (cd dev && find . -name 'libtern.so') | grep -q . || fail "dev has no libtern.so"
    parts=$( (cd runtime && find . ! -type d && cd ../dev && find . ! -type d) | sort)
    whole=$(cd "$stage" && find . ! -type d | sort)
    [ "$parts" = "$whole" ] || fail "runtime and dev together are not the whole"
    ;;
symbols)
    need nm
    need readelf
    library=$(staged_library)
    readelf -d "$library" | grep -q 'SONAME.*\[libtern\.so\.0\]' ||
        fail "SONAME is not libtern.so.0"
    nm -D --defined-only "$library" | awk '{print $NF}' | grep -v '^tern_' &&
        fail "the symbols above are exported, but are not tern_*"
    # Every function that a public header declares is there, and nothing else is.
    exported=$(nm -D --defined-only "$library" | awk '{print $NF}' | sort -u)
    declared=$(cat "$source"/include/tern/*.h | "$cc" -fpreprocessed -dD -E -P - 2> /dev/null |
        tr '\n' ' ' | tr ';' '\n' | grep TERN_API | grep -o 'tern_[a-z0-9_]*(' | tr -d '(' |
        sort -u)
    [ -n "$declared" ] || fail "found no declaration in the headers"
    diff <(echo "$declared") <(echo "$exported") > "$build/symbols.diff" || {
        cat "$build/symbols.diff"
        fail "declared (<) and exported (>) differ"
    }
    echo "$(echo "$exported" | wc -l) symbols"
    # Inside the archive for the tests, all global names carry the project's prefixes, or, among the
    # inner kernels, the name of the instruction set behind.
    nm -g --defined-only "$build/libtern_internal.a" | awk 'NF == 3 {print $3}' |
        grep -Ev '^(tern|ti)_|_(portable|avx2|avx512)(_f64)?$' &&
        fail "the global symbols above have no prefix of ours"
    exit 0
    ;;
libraries) # links nothing of NVIDIA's and no BLAS
    need ldd
    for file in "$(staged_library)" "$prefix/bin/tern"; do
        listed=$(ldd "$file")
        echo "$listed"
        echo "$listed" | grep -Ei 'cuda|cudnn|cublas|nccl|nvidia|nvrtc|blas|lapack|mkl|dnnl|gomp' &&
            fail "$file links the above"
        [ "$file" = "$prefix/bin/tern" ] && echo "$listed" | grep 'libtern.so.0 => not found' &&
            fail "the staged command does not find its library"
    done
    exit 0
    ;;
paths) # nothing installed knows where it was built
    need strings
    bad=0
    while read -r file; do
        if strings -a "$file" | grep -F -e "$source" -e "$build"; then
            echo "^ in $file"
            bad=1
        fi
    done < <(find "$stage" -type f)
    [ $bad = 0 ] || fail "the paths above are of the machine that built"
    need readelf
    readelf -d "$prefix/bin/tern" | grep -E 'R(UN)?PATH' | grep -v '\[\$ORIGIN' &&
        fail "the command looks for libraries in the above"
    exit 0
    ;;
pkgconfig)
    need pkg-config
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name tern.pc)")
    export PKG_CONFIG_PATH
    out=$build/consumer-pkgconfig
    rm -rf "$out"
    mkdir -p "$out"
    flags=$(pkg-config --cflags --libs tern) || fail "pkg-config does not know tern"
    # shellcheck disable=SC2086 # flags are words
    "$cc" -std=c11 -Wall -Wextra -Wpedantic -Werror "$here/consumer/pkgconfig/main.c" $flags \
        -o "$out/consumer"
    LD_LIBRARY_PATH=$(dirname "$(staged_library)") "$out/consumer" "$(pkg-config --modversion tern)"
    ;;
cmake)
    out=$build/consumer-cmake
    rm -rf "$out"
    cmake -S "$here/consumer/cmake" -B "$out" -DCMAKE_PREFIX_PATH="$prefix" \
        -DCMAKE_C_COMPILER="$cc" > "$build/consumer-cmake.log"
    cmake --build "$out" >> "$build/consumer-cmake.log" || {
        cat "$build/consumer-cmake.log"
        fail "the consumer does not build"
    }
    grep -q "$prefix" "$out/CMakeCache.txt" || fail "another tern was found"
    "$out/consumer"
    ;;
*) fail "no step '$step'" ;;
esac

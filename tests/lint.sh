#!/usr/bin/env bash
# lint.sh - the rules of the house on the files of a tree: layers, one list per file, sizes, words,
# who prints, who reads the environment, what may lie at the root. lint_selftest.sh tests each.
# usage: lint.sh FOLDER [whole]
set -u
export LC_ALL=C
root=$(cd "$1" && pwd) || exit 1
here=$(cd "$(dirname "$0")" && pwd)

allowed='^(cuda|host|include|bench|tests|CMakeLists\.txt|CMakePresets\.json|README\.md|LICENSE'
allowed="$allowed"'|quickstart|CHANGELOG\.md|\.ci|\.clang-format|\.clang-tidy|\.gitignore'
allowed="$allowed"'|\.gitattributes|\.editorconfig)(/|$)'

# What git tracks, and new files in the source folders. What else a user keeps in the tree is not
# our business; without git, only files at known places are looked at, unless `whole` says that
# nothing else may be there.
list_files() {
    if [ -e "$root/.git" ] && git -C "$root" rev-parse > /dev/null 2>&1; then
        git -C "$root" ls-files
        git -C "$root" ls-files -o --exclude-standard | grep -E '^(cuda|host|include|bench|tests)/'
    else
        (cd "$root" && find . \( -name .git -o -path ./build -o -path ./data -o -path ./runs \) \
            -prune -o -type f -print | sed 's|^\./||') |
            if [ "${2:-}" = whole ]; then cat; else grep -E "$allowed"; fi
    fi | sort -u | while IFS= read -r file; do
        if [ -f "$root/$file" ]; then echo "$file"; fi
    done
}

files=$(list_files "$@")
[ -n "$files" ] || {
    echo "lint: no files in $root"
    exit 1
}
found=$(
    echo "$files" | grep -Ev "$allowed" | sed 's|^|root |; s|$|:1: does not belong at the root|'
    echo "$files" | grep -Ev '\.(gz|npy|npz|png|jpe?g|safetensors|zip|bin)$' |
        sed "s|^|$root/|" | tr '\n' '\0' | xargs -0 awk -v root="$root" -f "$here/lint.awk"
)
n=$(echo "$files" | wc -l)
if [ -n "$found" ]; then
    echo "$found"
    echo "lint: $(echo "$found" | wc -l) violations in $n files"
    exit 1
fi
echo "lint: $n files, nothing to complain about"

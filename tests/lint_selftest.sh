#!/usr/bin/env bash
# lint_selftest.sh - a small clean tree passes the lint; each planted violation is found by the rule
# that is meant to find it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree said=$scratch/said
failed=0 n=0

lines() { # lines FILE LINE...
    to=$1
    shift
    printf '%s\n' "$@" > "$to"
}

clean_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"/{include/tern,cuda,tests}
    mkdir -p "$tree"/host/{base,core,ops,cpu/ref,null,nn,cli,data,io,train}
    cd "$tree" || exit 1
    echo '#include <stdint.h>' > include/tern/base.h
    echo '#include "tern/base.h"' > include/tern/ops.h
    lines host/base/env.c '#include <stdlib.h>' 'char *ti_env(void) { return getenv("TERN_LOG"); }'
    lines host/core/context.c '/* printf( abort( in words */' 'void ti_log(void) { use(stderr); }'
    lines host/ops/add.c '#include "core/op.h"' '#include "tern/ops.h"' \
        'static int helper(int a)' '{' '    return a;' '}' \
        'const ti_op *const ti_ops_add[] = {NULL};' 'int tern_add(int a,' '    int b)' '{' '}'
    lines host/cpu/add.c '#include "core/row.h"' '#include "cpu/vec.h"' \
        'static int run(void)' '{' '    return 0;' '}' \
        'const ti_row ti_cpu_add[] = {' '    {.op = "add"},' '};'
    lines host/cpu/ref/add.c '#include "core/row.h"' 'const ti_row ti_ref_add[] = {{0}};'
    lines host/nn/linear.c '#include "tern/ops.h"'
    lines host/cli/main.c '#include <stdio.h>' 'int main(void) { return printf("hi"); }'
    echo '#include <cuda_runtime.h>' > cuda/backend.c
    echo 'all: nothing' > README.md
}

lint() {
    bash "$here/lint.sh" "$tree" whole 2>&1
}

# plant RULE FILE LINE: appends the line to the file; the rule must complain about the file.
plant() {
    n=$((n + 1))
    clean_tree
    mkdir -p "$(dirname "$tree/$2")"
    printf '%b\n' "$3" >> "$tree/$2"
    if lint > "$said"; then
        echo "lint accepts: $2: $3"
        failed=1
    elif ! grep -q "^$1 $2:" "$said"; then
        echo "not found by $1: $2: $3"
        cat "$said"
        failed=1
    fi
}

clean_tree
lint > "$said" || {
    cat "$said"
    echo "the clean tree is not accepted"
    exit 1
}

plant layers host/base/env.c '#include "core/tensor.h"'
plant layers host/base/env.c '#include "tern/ops.h"'
plant layers host/core/apply.c '#include "ops/conv.h"'
plant layers host/core/apply.c '#include "cpu/vec.h"'
plant layers host/core/apply.c '#include <nn/module.h>'
plant layers host/ops/add.c '#include "cpu/vec.h"'
plant layers host/ops/add.c '#include "nn/module.h"'
plant layers host/cpu/add.c '#include "ops/add.h"'
plant layers host/cpu/add.c '#include "null/null.h"'
plant layers host/cpu/add.c '#include "tern/nn.h"'
plant layers host/cpu/ref/add.c '#include "../vec.h"'
plant layers host/null/backend.c '#include "cpu/vec.h"'
plant layers cuda/backend.c '#include "cpu/vec.h"'
plant layers host/nn/linear.c '#include "core/tensor.h"'
plant layers host/train/fit.c '#include "base/memory.h"'
plant layers host/data/idx.c '#include "io/npy.h"'
plant layers host/io/npy.c '#include "train/fit.h"'
plant layers include/tern/ops.h '#include "core/op.h"'
plant layers host/core/apply.c '#include "nowhere/x.h"'
plant cuda host/cpu/add.c '#include <cuda_runtime.h>'
plant cuda host/cli/main.c '# include <cudnn.h>'
plant environment host/core/apply.c 'char *x = getenv("HOME");'
plant environment host/cli/main.c 'char *x = getenv("TERN_SEED");'
plant prints host/core/apply.c '    printf("%d", 1);'
plant prints host/io/npy.c '    fprintf(stdout, "x");'
plant prints host/base/env.c '    fputs("x", stderr);'
plant ends host/core/apply.c '    if (x) abort();'
plant ends host/train/fit.c '    exit (1);'
plant guest host/train/fit.c '    signal(SIGINT, stop);'
plant guest host/core/context.c '    setlocale(LC_ALL, "C");'
plant memory host/ops/add.c '    x = malloc(3);'
plant one-list host/cpu/add.c 'int helper(int a)\n{\n}'
plant one-list host/cpu/add.c 'int counter;'
plant one-list host/cpu/ref/mul.c 'static int x;'
plant one-list host/ops/add.c 'const ti_op *const ti_ops_add[] = {NULL};'
plant one-list host/ops/add.c 'int ti_helper(int a)\n{\n}'
plant columns host/core/apply.c "$(printf '/* %098d */' 1)"
plant columns host/core/apply.c 'int x; '
plant size host/core/apply.c "$(yes 'int x;' | head -n 601)"
plant size host/core/apply.h "$(yes 'int x;' | head -n 301)"
plant words host/core/apply.c '/* TO''DO: all */'
plant words README.md 'good enough for no''w'
plant paths README.md 'see /wor''k/notes'
plant root notes.txt 'x'

# What only looks like a violation.
clean_tree
{
    echo '/* getenv( and printf( and'
    echo '   malloc( in a comment of two lines */'
    echo 'int n = snprintf(b, 9, "exit(1)"); // abort()'
    printf 'const char *umlauts = "%s";\n' "$(printf 'ä%.0s' $(seq 70))"
} > "$tree/host/core/apply.c"
echo 'int ti_shared(int a);' > "$tree/host/ops/rules.h"
printf 'int ti_shared(int a)\n{\n}\n' >> "$tree/host/ops/add.c"
lint > "$said" || {
    cat "$said"
    failed=1
}

echo "$n planted violations"
exit $failed

#!/usr/bin/env bash
# values, derivatives, refusals and models agree with PyTorch (skipped where it is not installed)
# usage: TERN=path/to/tern bash torch_values.sh
# depends: host include cuda CMakeLists.txt tests/full/*.py
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
python3 -c 'import torch' 2> /dev/null || {
    echo 'skipped: PyTorch for Python is not installed'
    exit 77
}
python3 -W ignore "$here/torch_values.py" "$(dirname "$TERN")/libtern.so"

#!/usr/bin/env bash
# Compiles the kernels of this folder to PTX, beside their sources: compile.sh [FILE.cu …], all without arguments.
#
# The PTX is checked in, so that nobody needs nvcc to run the tests; run this after a change of a source. It installs
# nvcc and the headers, all of one release, from PyPI into .venv/nvcc-13.5 in the repository's root. g++ must be there: nvcc has it
# preprocess. A source is compiled for compute_80, or for what its first line says: "// target: compute_90".
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)

nvcc=$("$root/.ci/wheel" "nvidia-cuda-nvcc==13.5.37 nvidia-nvvm==13.5.37 nvidia-cuda-crt==13.5.37 \
nvidia-cuda-runtime==13.5.37 nvidia-cuda-cccl==13.3.5.0.6" .venv/nvcc-13.5 bin/nvcc)
cuda=${nvcc%/bin/nvcc}
chmod +x "$cuda"/bin/* "$cuda"/nvvm/bin/*

cd "$here"
[ $# -gt 0 ] || set -- *.cu
for source in "$@"; do
    target=$(sed -n '1s/^\/\/ target: //p' "$source")
    options=$(sed -n '1,2s/^\/\/ options: //p' "$source")
    # shellcheck disable=SC2086
    "$cuda/bin/nvcc" --ptx -arch="${target:-compute_80}" $options -o "${source%.cu}.ptx" "$source"
    # Line data names files by where they lie here.
    sed -i "s#\"$here/#\"#; s#\"$root/#\"#" "${source%.cu}.ptx"
    echo "${source%.cu}.ptx"
done

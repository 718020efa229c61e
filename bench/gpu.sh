#!/usr/bin/env bash
# bench/gpu.sh: the CUDA device's tests and figures, beside PyTorch on the same GPU, on a machine that may have neither
# Armadillo nor a network.
#
#   bench/gpu.sh bundle [FILE]  where armagrad builds, with CUDA: packs programs, plug-in and the libraries they need
#                               (but glibc and cuBLAS) into FILE, by default build/armagrad-gpu.tar.gz
#   bench/gpu.sh [FILE]         where the GPU is: unpacks FILE and runs it; under 8 minutes. Needs cuBLAS (of a CUDA
#                               toolkit or beside PyTorch) and, for the comparison, a python3 with PyTorch.
#
# Results stand in gpu-results/: tests.txt, sanitizer.txt, figures.txt, and table.txt, the figures side by side.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs=(gpu_bench cuda_test cuda_operations_test cuda_training_test)

# What a program or library loads that a bare machine may lack; glibc and the driver belong to the machine, cuBLAS to
# the toolkit there.
carried() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*)\.so|/lib(cuda|cudart|cublas|cublasLt|nvrtc|nvidia-[^/]*)\.so'
}

bundle() {
  local file=${1:-$root/build/armagrad-gpu.tar.gz} build=$root/build/gpu staging
  cmake --preset test -S "$root" -B "$build" -DARMAGRAD_CUDA=ON -DARMAGRAD_GPU_BENCH=ON >/dev/null
  ninja -C "$build" armagrad_cuda "${programs[@]}"
  staging=$(mktemp -d)
  trap 'rm -rf "$staging"' RETURN
  mkdir -p "$staging/armagrad-gpu/lib"
  cd "$staging/armagrad-gpu"
  cp "$root/bench/gpu.sh" "$root/bench/gpu/peer.py" .
  cp "$build/libarmagrad_cuda.so" "$build/bench/gpu/gpu_bench" "$build"/tests/cuda{,_operations,_training}_test .
  strip gpu_bench cuda*_test
  carried ./*_test gpu_bench libarmagrad_cuda.so | xargs cp -Lt lib
  tar -C "$staging" -czf "$file.part" armagrad-gpu
  mv "$file.part" "$file"
  echo "$file: $(du -h "$file" | cut -f1)"
}

# The folder of a cuBLAS of the plug-in's version.
cublas_folder() {
  local library folder wanted
  wanted=$(grep -aoE 'libcublas\.so\.[0-9]+' "$1/libarmagrad_cuda.so" | head -1)
  for folder in ${LD_LIBRARY_PATH//:/ } /usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/lib/x86_64-linux-gnu \
    $(python3 -c 'import site; print(*(s + "/nvidia/" + d for s in site.getsitepackages()
        for d in ("cu13/lib", "cublas/lib")))' 2>/dev/null); do
    library=$folder/$wanted
    [[ ! -e $library ]] || {
      echo "$folder"
      return
    }
  done
  echo "bench/gpu.sh: there is no $wanted: install a CUDA toolkit, or name its folder in LD_LIBRARY_PATH." >&2
  return 1
}

run() {
  local file=${1:-$root/build/armagrad-gpu.tar.gz} results=$PWD/gpu-results here cublas
  if [[ -e $root/gpu.sh && -e $root/libarmagrad_cuda.so ]]; then
    here=$root # unpacked before
  else
    here=$(mktemp -d)/armagrad-gpu
    tar -C "${here%/*}" -xzf "$file"
  fi
  cublas=$(cublas_folder "$here")
  mkdir -p "$results"
  own() { # runs a program of the bundle, for so many seconds at most
    local limit=$1
    shift
    env LD_LIBRARY_PATH="$here/lib:$cublas" ARMAGRAD_CUDA_PLUGIN="$here/libarmagrad_cuda.so" OPENBLAS_NUM_THREADS=4 \
      timeout "$limit" "$@"
  }
  # Says at once what is missing.
  own 60 "$here/gpu_bench" cuda 0.001 >"$results/first.txt" || exit 1

  local failed=0 test
  : >"$results/tests.txt"
  for test in "$here"/cuda*_test; do
    echo "== ${test##*/}" >>"$results/tests.txt"
    own 100 "$test" >>"$results/tests.txt" 2>&1 || failed=1
  done
  ((failed == 0)) && echo "Tests: passed" || echo "Tests: FAILED, see $results/tests.txt"

  if command -v compute-sanitizer >/dev/null; then
    local tool
    for tool in memcheck racecheck; do
      echo "== $tool" >>"$results/sanitizer.txt"
      own 60 compute-sanitizer --tool "$tool" --error-exitcode 3 "$here/cuda_test" >>"$results/sanitizer.txt" 2>&1 &&
        echo "compute-sanitizer $tool: clean" || echo "compute-sanitizer $tool: see $results/sanitizer.txt"
    done
  else
    echo "compute-sanitizer: not here"
  fi

  # In turns, so that both see the same machine; what counts is the smaller time of each.
  local round
  : >"$results/figures.txt"
  for round in 1 2; do
    own 100 "$here/gpu_bench" cuda 0.4 | sed 's/^/armagrad /' >>"$results/figures.txt"
    if python3 -c 'import torch' 2>/dev/null; then
      timeout 60 python3 "$here/peer.py" 0.4 | sed 's/^/pytorch /' >>"$results/figures.txt" || true
    elif ((round == 1)); then
      echo "PyTorch: not here"
    fi
  done
  awk '
    $2 == "device" { if (!told[$0]++) print; next }
    { key = $1 " " $2; better = $4 == "us" ? (!(key in best) || $3 < best[key]) : $3 > best[key] + 0
      if (better) best[key] = $3
      unit[$2] = $4; if (!seen[$2]++) names[++n] = $2 }
    END {
      printf "%-28s %12s %12s  %-8s %s\n", "", "armagrad", "PyTorch", "", "PyTorch / armagrad"
      for (i = 1; i <= n; ++i) {
        a = best["armagrad " names[i]]; p = best["pytorch " names[i]]
        printf "%-28s %12s %12s  %-8s %s\n", names[i], a, p, unit[names[i]], a && p ? sprintf("%.2f", p / a) : ""
      } }' "$results/figures.txt" | tee "$results/table.txt"
  return $failed
}

if [[ ${1:-} == bundle ]]; then
  bundle "${2:-}"
else
  # Beside its bundle's programs the script is not in bench/.
  [[ ! -e $(dirname "${BASH_SOURCE[0]}")/libarmagrad_cuda.so ]] || root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
  run "${1:-}"
fi

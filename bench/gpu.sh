#!/usr/bin/env bash
# bench/gpu.sh: the CUDA device's tests and figures, beside PyTorch on the same GPU, on a machine that may have neither
# Armadillo nor a network.
#
#   bench/gpu.sh bundle [FILE]  where armagrad builds, with CUDA: packs programs, plug-in and the libraries they need
#                               (but glibc and CUDA's) into FILE, by default build/armagrad-gpu.tar.gz
#   bench/gpu.sh [FILE]         where the GPU is: unpacks FILE and runs it; never longer than 8 minutes. Needs cuBLAS,
#                               for linear algebra cuSOLVER (of a CUDA toolkit or beside PyTorch), and, for the
#                               comparison, a python3 with PyTorch.
#
# Results stand in gpu-results/: table.txt, the figures side by side, figures.json, the same for programs, figures.txt,
# all that was measured, tests.txt and sanitizer.txt.
#
# To try the script itself without a GPU, name the tests' stand-in for CUDA as the plug-in, and few seconds for each
# figure: ARMAGRAD_CUDA_PLUGIN=.../libarmagrad_cuda_stand_in.so GPU_SECONDS=0.001 bench/gpu.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
tests=(cuda_test cuda_operations_test cuda_linear_algebra_test cuda_training_test cuda_attacks_test)
limit=450 # seconds, for all that `run` does
each=${GPU_SECONDS:-0.4} # seconds, for each figure

# What a program or library loads that a bare machine may lack; glibc and the driver belong to the machine, CUDA's
# libraries to the toolkit there.
carried() {
  ldd "$@" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
    grep -vE '/(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*)\.so|/lib(cuda|cudart|cublas|cublasLt|cusolver|nvrtc|nvidia-[^/]*)\.so'
}

bundle() {
  local file=${1:-$root/build/armagrad-gpu.tar.gz} build=$root/build/gpu staging
  cmake --preset test -S "$root" -B "$build" -DARMAGRAD_CUDA=ON -DARMAGRAD_GPU_BENCH=ON >/dev/null
  ninja -C "$build" armagrad_cuda gpu_bench "${tests[@]}"
  staging=$(mktemp -d)
  trap 'rm -rf "$staging"' RETURN
  mkdir -p "$staging/armagrad-gpu/lib"
  cd "$staging/armagrad-gpu"
  cp "$root/bench/gpu.sh" "$root/bench/gpu/peer.py" .
  cp "$build/libarmagrad_cuda.so" "$build/bench/gpu/gpu_bench" "${tests[@]/#/$build/tests/}" .
  strip gpu_bench cuda*_test
  carried ./*_test gpu_bench libarmagrad_cuda.so | xargs cp -Lt lib
  tar -C "$staging" -czf "$file.part" armagrad-gpu
  mv "$file.part" "$file"
  echo "$file: $(du -h "$file" | cut -f1)"
}

# Folders of CUDA's libraries, in a toolkit or beside PyTorch, with a colon between them. There must be the cuBLAS that
# the plug-in was linked to.
cuda_folders() {
  local folder folders='' wanted found=''
  wanted=$(grep -aoE 'libcublas\.so\.[0-9]+' "$1" | head -1 || true)
  for folder in $(tr : " " <<<"${LD_LIBRARY_PATH:-}") /usr/local/cuda/lib64 /usr/local/cuda-*/lib64 /usr/lib/x86_64-linux-gnu \
    $(python3 -c 'import glob, site; print(*(f for s in site.getsitepackages() for f in glob.glob(s + "/nvidia/*/lib")))' \
      2>/dev/null); do
    [[ -z $wanted || ! -e $folder/$wanted ]] || found=$folder
    [[ ! -d $folder || $folder == /usr/lib/* ]] || folders+=:$folder
  done
  if [[ -n $wanted && -z $found ]]; then
    echo "bench/gpu.sh: there is no $wanted: install a CUDA toolkit, or name its folder in LD_LIBRARY_PATH." >&2
    return 1
  fi
  echo "${folders#:}"
}

# From lines of "who name value unit": the better of each name's values, both side by side.
table() {
  awk '
    $2 == "device" { if (!told[$0]++) print; next }
    { key = $1 " " $2; better = $4 ~ /^(us|s)$/ ? (!(key in best) || $3 < best[key]) : $3 > best[key] + 0
      if (better) best[key] = $3
      unit[$2] = $4; if (!seen[$2]++) names[++n] = $2 }
    END {
      printf "%-28s %12s %12s  %-8s %s\n", "", "armagrad", "PyTorch", "", "PyTorch / armagrad"
      for (i = 1; i <= n; ++i) {
        a = best["armagrad " names[i]]; p = best["pytorch " names[i]]
        printf "%-28s %12s %12s  %-8s %s\n", names[i], a, p, unit[names[i]], a && p ? sprintf("%.2f", p / a) : ""
      } }' "$1"
}
json() {
  awk '
    function quoted(s) { gsub(/[\\"]/, "\\\\&", s); return "\"" s "\"" }
    $2 == "device" { who = $1; sub(/^[^ ]+ device /, ""); if (!told[who]++) devices = devices (devices ? ", " : "") quoted(who) ": " quoted($0); next }
    { rows = rows (rows ? ",\n" : "") "  {\"by\": " quoted($1) ", \"name\": " quoted($2) ", \"value\": " $3 ", \"unit\": " quoted($4) "}" }
    END { printf "{\"devices\": {%s}, \"figures\": [\n%s\n]}\n", devices, rows }' "$1"
}

run() {
  local file=${1:-$root/build/armagrad-gpu.tar.gz} results=$PWD/gpu-results place=$here libraries
  if [[ ! -e $place/gpu_bench ]]; then # else unpacked before
    place=$(mktemp -d)/armagrad-gpu
    tar -C "${place%/*}" -xzf "$file"
  fi
  local plugin=${ARMAGRAD_CUDA_PLUGIN:-$place/libarmagrad_cuda.so}
  libraries=$(cuda_folders "$plugin")
  mkdir -p "$results"
  # Runs a program for so many seconds at most, and no longer than is left.
  for_at_most() {
    local most=$1 left=$((limit - SECONDS))
    shift
    ((left > 1)) || { echo "bench/gpu.sh: no time is left for ${1##*/}" >&2; return 1; }
    timeout "$((most < left ? most : left))" "$@"
  }
  own() {
    local most=$1
    shift
    LD_LIBRARY_PATH="$place/lib${libraries:+:$libraries}" ARMAGRAD_CUDA_PLUGIN="$plugin" OPENBLAS_NUM_THREADS=4 ARMAGRAD_QUIET=1 \
      for_at_most "$most" "$@"
  }
  # Says at once what is missing.
  own 60 "$place/gpu_bench" cuda 0.001 >"$results/first.txt" || return 1

  # In turns, so that both see the same machine; what counts is the better time of each.
  figures() {
    own 80 "$place/gpu_bench" cuda "$each" | sed 's/^/armagrad /' >>"$results/figures.txt" ||
      echo "The benchmark did not come to its end in round $1"
    if python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
      for_at_most 60 python3 "$place/peer.py" "$each" | sed 's/^/pytorch /' >>"$results/figures.txt" || true
    elif (($1 == 1)); then
      echo "PyTorch: not here, or it sees no GPU"
    fi
  }
  : >"$results/figures.txt"
  figures 1

  local failed=0 test tool
  : >"$results/tests.txt"
  for test in "${tests[@]}"; do
    echo "== $test" >>"$results/tests.txt"
    own 100 "$place/$test" >>"$results/tests.txt" 2>&1 || failed=1
  done
  ((failed == 0)) && echo "Tests: passed" || echo "Tests: FAILED, see $results/tests.txt"

  figures 2
  table "$results/figures.txt" | tee "$results/table.txt"
  json "$results/figures.txt" >"$results/figures.json"

  : >"$results/sanitizer.txt"
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      echo "== $tool" >>"$results/sanitizer.txt"
      own 100 compute-sanitizer --tool "$tool" --error-exitcode 3 "$place/cuda_test" >>"$results/sanitizer.txt" 2>&1 &&
        echo "compute-sanitizer $tool: clean" || echo "compute-sanitizer $tool: see $results/sanitizer.txt"
    done
  else
    echo "compute-sanitizer: not here" | tee "$results/sanitizer.txt"
  fi
  return $failed
}

if [[ ${1:-} == bundle ]]; then
  bundle "${2:-}"
else
  run "${1:-}"
fi

#!/usr/bin/env bash
# refused_test.sh COMPILER FLAG...: compiles every statement of refused.txt by itself and looks for what the compiler
# must say about it.
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compiler=("$@" -std=c++20)

# The headers once, as both compilers find them again by -include.
echo '#include <armagrad/autodiff/autodiff.hpp>' >"$folder/engine.hpp"
"${compiler[@]}" -x c++-header "$folder/engine.hpp" -o "$folder/engine.hpp.gch"

# Whether $1 contains one of the alternatives of $2, of different compilers, with bars between them.
contains() {
  local ways way
  IFS='|' read -ra ways <<<"$2"
  for way in "${ways[@]}"; do
    [[ $1 != *"$way"* ]] || return 0
  done
  return 1
}

count=0 wrong=0
while IFS= read -r line; do
  [[ -n $line && $line != '#'* ]] || continue
  statement=${line%%  =>  *} expected=${line##*  =>  }
  cat >"$folder/statement.cpp" <<END
void f(armagrad::Tape<double>& tape, armagrad::Var<double> x, armagrad::Var<float> y, const arma::mat& A) { $statement; }
END
  status=0
  said=$("${compiler[@]}" -fsyntax-only -include "$folder/engine.hpp" "$folder/statement.cpp" 2>&1) || status=$?
  count=$((count + 1))
  if [[ $expected == compiles ]]; then
    ((status == 0)) && continue
    printf 'should compile: %s\n%s\n' "$statement" "$said"
  else
    ((status != 0)) && contains "$said" "$expected" && continue
    printf 'should be refused with "%s": %s\n%s\n' "$expected" "$statement" "${said:-it compiled}"
  fi
  wrong=$((wrong + 1))
done <"$here/refused.txt"
echo "$count statements, $wrong wrong"
((count >= 20 && wrong == 0))

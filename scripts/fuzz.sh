#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: runs the fuzz targets (all, or those that are named) under libFuzzer.
#
# What is found on the way is kept in tests/fuzz/found; a broken promise ends the run and leaves its
# input in tests/fuzz/artifacts. Shrink it (`cargo fuzz tmin`), commit it to tests/fuzz/regressions,
# mend the parser.
#
# Needs a C++ compiler. cargo-fuzz is installed into target/tools when it is missing. The stable
# compiler does: RUSTC_BOOTSTRAP lets it take the flags of the coverage, and no sanitizer is used,
# for there is no unsafe code.
set -euo pipefail

version=0.13.2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/target/tools
export PATH=$tools/bin:$PATH RUSTC_BOOTSTRAP=1

[[ ${1:-} =~ ^[0-9]+$ ]] || { echo 'usage: scripts/fuzz.sh SECONDS [TARGET…]' >&2; exit 2; }
seconds=$1
shift

if [[ $(cargo-fuzz --version 2>/dev/null) != "cargo-fuzz $version" ]]; then
  cargo install cargo-fuzz --locked --version "$version" --root "$tools"
fi

cd "$root/tests/fuzz"
fuzz() { cargo fuzz "$@" --fuzz-dir . --sanitizer none; }
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || mapfile -t targets < <(cargo fuzz list --fuzz-dir .)
fuzz build
for target in "${targets[@]}"; do
  mkdir -p "found/$target" "regressions/$target"
  echo "fuzz: $target, $seconds s"
  cargo fuzz run "$target" --fuzz-dir . --sanitizer none "found/$target" "corpus/$target" "regressions/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
    -verbosity=0
done

#!/usr/bin/env bash
# cross.sh [TARGET…]: compiles for the systems that nothing is run on here, as far as a compiler can say
# without their linkers: `cargo check`, libraries and programs for Windows, tests and benchmarks too for macOS.
#
# Needs the standard library of each target, which rustup installs. Where a compiler cannot have it but has its
# sources, CROSS_FLAGS='-Zbuild-std=std,panic_abort' (and RUSTC_BOOTSTRAP=1) compiles it on the way.
#
# What C there is (SQLite, Zstandard, ring) is not compiled: nothing is linked, so its compilers are
# stand-ins that write empty files. A real build needs real ones, such as MinGW's.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
read -r -a flags <<<"${CROSS_FLAGS:-}"
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=(x86_64-pc-windows-gnu aarch64-apple-darwin)

# The files that a C compiler or an archiver is asked for, empty.
stand_ins=$root/target/cross
mkdir -p "$stand_ins"
cat >"$stand_ins/tool" <<'TOOL'
#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    -o) shift; : >"$1" ;;
    -o?*) : >"${1#-o}" ;;
    *.a) : >"$1" ;;
  esac
  shift
done
TOOL
chmod +x "$stand_ins/tool"

has_std() {
  [[ ${CROSS_FLAGS:-} == *build-std* ]] ||
    compgen -G "$("${RUSTC:-rustc}" --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null
}

failed=()
for target in "${targets[@]}"; do
  has_std "$target" || rustup target add "$target" || true
  if ! has_std "$target"; then
    echo "cross: $target was NOT checked: its standard library is not installed." >&2
    echo "cross: rustup target add $target    # needs a network; or see the head of scripts/cross.sh" >&2
    failed+=("$target")
    continue
  fi
  what=(--workspace)
  [[ $target == *windows* ]] || what+=(--all-targets)
  name=${target//-/_}
  scripts/step.sh "cross: $target" env "CC_$name=$stand_ins/tool" "CXX_$name=$stand_ins/tool" \
    "AR_$name=$stand_ins/tool" "RANLIB_$name=$stand_ins/tool" SDKROOT=/ \
    ${CARGO:-cargo} check --locked --target "$target" ${flags[@]+"${flags[@]}"} "${what[@]}" ||
    failed+=("$target")
done
if [[ ${#failed[@]} -gt 0 ]]; then
  echo "cross: FAILED or not checked: ${failed[*]}" >&2
  exit 1
fi

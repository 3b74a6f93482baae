#!/usr/bin/env bash
# install.sh PREFIX: installs the release binary, its manual pages and its completions below PREFIX.
set -euo pipefail

[[ $# -eq 1 && -n $1 ]] || { echo 'usage: scripts/install.sh PREFIX' >&2; exit 2; }
prefix=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=${CARGO_TARGET_DIR:-$root/target}/release/arkstream
[[ -x $program ]] || { echo "install: $program is not there: run 'make build' first" >&2; exit 1; }

install -D -m 755 "$program" "$prefix/bin/arkstream"
"$program" man "$prefix/share/man/man1"
complete() {
  install -d "$prefix/share/$2"
  "$program" completions "$1" >"$prefix/share/$2/$3"
}
complete bash bash-completion/completions arkstream
complete zsh zsh/site-functions _arkstream
complete fish fish/vendor_completions.d arkstream.fish
echo "installed $prefix/bin/arkstream, manual pages and completions in $prefix/share"

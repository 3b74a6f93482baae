#!/usr/bin/env bash
# step.sh NAME COMMAND [ARGUMENT…]: runs one step, says what it is and how long it took.
# The exit status is the command's. Paths of the test environment (scripts/setup.sh) are exported.
set -uo pipefail

name=$1
shift
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
env_file="${ARKSTREAM_TEST_ENV:-$root/.test-env}/env.sh"
if [[ -f $env_file ]]; then
  # shellcheck disable=SC1090
  source "$env_file"
fi

printf '\n==> %s\n' "$name"
start=$SECONDS
"$@"
status=$?
if ((status == 0)); then
  printf '==> %s: ok, %d s\n' "$name" $((SECONDS - start))
else
  printf '==> %s: FAILED with exit status %d, %d s\n' "$name" "$status" $((SECONDS - start)) >&2
fi
exit "$status"

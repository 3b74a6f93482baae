//! Nothing stays behind.
//!
//! Stacks live in statics, and statics are not dropped: a test binary ends by `exit`. The kernel
//! ends the servers then (see `arkstream_sample::Server`), but nobody is left to remove folders.
//! A small shell process waits for the end of this one, whatever its cause, and removes them.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Reads paths until this process is gone (the pipe is closed then), and removes them. The
/// servers in them get their signal at that very moment, and need another to go.
const SCRIPT: &str = r#"
set --
while IFS= read -r path; do set -- "$@" "$path"; done
for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  sleep 0.3
  left=
  for path; do
    pid=$(head -n 1 "$path/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; then left=1; continue; fi
    rm -rf -- "$path" 2>/dev/null
    if [ -e "$path" ]; then left=1; fi
  done
  if [ -z "$left" ]; then exit 0; fi
done
"#;

/// Lets `path` be removed when this process has ended.
#[allow(clippy::zombie_processes)] // It outlives this process; that is its purpose.
pub(crate) fn remove_at_the_end(path: &Path) {
    static PIPE: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let pipe = PIPE.get_or_init(|| {
        // Its own group: an interrupt at the terminal is not meant for it. No output of ours:
        // whoever reads this binary's output must not wait for it.
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Mutex::new(child.stdin.take().expect("piped"))
    });
    let line = format!("{}\n", path.display());
    let mut pipe = pipe.lock().expect("no test panics here");
    pipe.write_all(line.as_bytes()).expect("the janitor lives");
}

/// A new empty folder whose name begins with `name`.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let root = ROOT.get_or_init(|| {
        let root = tempfile::Builder::new()
            .prefix("arkstream-e2e-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        // The database server, which may run as another user, writes below it at times.
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(&root, open).expect("ours");
        remove_at_the_end(&root);
        root
    });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = root.join(format!("{name}-{number}"));
    std::fs::create_dir(&path).expect("a new folder");
    path
}

//! Running a command where it sees other mounts than everybody else: without the system's
//! PostgreSQL programs, or on a disk that is full.

use std::process::Command;
use std::sync::OnceLock;

/// `command`, run by a shell script in a mount namespace of its own. The script finds the command
/// as `"$@"`; what it mounts is gone afterwards.
///
/// Needs root, or a system that lets users make namespaces.
pub(crate) fn in_namespace(script: &str, command: &Command) -> Command {
    let mut outer = Command::new("unshare");
    outer.args(flags()).args(["sh", "-c", script, "sh"]);
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

fn flags() -> &'static [&'static str] {
    static FLAGS: OnceLock<&[&str]> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let candidates: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];
        let works = |flags: &&&[&str]| {
            let mut trial = Command::new("unshare");
            trial
                .args(**flags)
                .args(["sh", "-c", "mount -t tmpfs none /mnt"]);
            trial.output().is_ok_and(|output| output.status.success())
        };
        candidates.iter().find(works).copied().expect(
            "this test mounts file systems: run it as root, or allow unprivileged user namespaces",
        )
    })
}

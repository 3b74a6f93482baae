//! ChromaDB directories that are missing, ambiguous or closed to us.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use super::{FEW_MODELS, backup, fails, new_out, set_mode};
use crate::support::{Stack, arkstream, run, scratch, sh};

/// The same command by a user who owns nothing; by the same one when that is not root.
pub(super) fn as_nobody(command: &Command) -> Command {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    // Where it was built, that user may not even look.
    let binary = BINARY.get_or_init(|| {
        let copy = scratch("bin").join("arkstream");
        std::fs::copy(arkstream().get_program(), &copy).expect("copies the binary");
        copy
    });
    let is_root = std::fs::metadata("/proc/self")
        .is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    let mut outer = match is_root {
        true => {
            let mut outer = Command::new("setpriv");
            outer
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(binary);
            outer
        }
        false => Command::new(binary),
    };
    outer.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer.current_dir("/");
    outer
}

/// A copy of the Odoo database whose settings say this of the ChromaDB directory.
fn configured(directory: &str) -> String {
    let stack = Stack::shared();
    let name = stack.fresh_database();
    let sql = format!("UPDATE ai_memory_config SET chroma_persist_directory = '{directory}'");
    stack.server.psql(&name, &sql).expect("psql");
    name
}

/// A backup that has to find the ChromaDB directory itself.
fn finding(database: &str, out: &Path, extra: &[&str]) -> Command {
    let mut command = arkstream();
    command.args([
        "backup",
        "--progress",
        "none",
        "--no-graph",
        "--no-filestore",
    ]);
    command
        .args(FEW_MODELS)
        .args(["--odoo-db", &Stack::shared().url(database)]);
    command.args(extra).arg("--out").arg(out);
    command
}

/// An empty folder with a ChromaDB directory of that name in it.
fn folder_with_chroma(name: &str) -> PathBuf {
    let folder = scratch("odoo-home");
    let stack = Stack::shared();
    sh(
        &folder,
        &format!("cp -a '{}' '{name}'", stack.chroma.display()),
    );
    folder
}

/// A process that looks like a running Odoo, in that working directory.
struct FakeOdoo(Child);

impl FakeOdoo {
    fn in_folder(folder: &Path) -> Self {
        let mut command = Command::new("sleep");
        command
            .arg0("/usr/bin/odoo-bin")
            .arg("600")
            .current_dir(folder);
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("sleep starts"),
        )
    }
}

impl Drop for FakeOdoo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_missing_directory_is_named() {
    let (out, stack) = (new_out(), Stack::shared());
    let missing = stack.dir.join("no-such-chroma").display().to_string();
    let mut command = backup(&stack.url(&stack.odoo), &out, &["--chroma", &missing]);
    fails(
        &mut command,
        &out,
        7,
        &[&missing, "No such file"],
        "--chroma",
    );
}

#[test]
fn a_directory_that_is_no_chroma_is_refused() {
    let (out, stack) = (new_out(), Stack::shared());
    let other = stack.filestore.display().to_string();
    let mut command = backup(&stack.url(&stack.odoo), &out, &["--chroma", &other]);
    fails(
        &mut command,
        &out,
        7,
        &[&other, "chroma.sqlite3"],
        "--chroma",
    );
}

#[test]
fn a_directory_that_may_not_be_read_is_no_empty_one() {
    let (out, stack) = (new_out(), Stack::shared());
    let folder = folder_with_chroma("closed");
    let closed = folder.join("closed");
    let name = closed.display().to_string();
    let parent = out.parent().unwrap();
    set_mode(parent, 0o777);
    // First the directory, then one folder of vectors, then the database.
    let vectors = std::fs::read_dir(&closed)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .expect("a folder of vectors");
    for (path, open) in [
        (closed.clone(), 0o755),
        (vectors, 0o755),
        (closed.join("chroma.sqlite3"), 0o644),
    ] {
        sh(&folder, "chmod -R a+rwX closed");
        set_mode(&path, 0);
        let mut command = as_nobody(&backup(&stack.url(&stack.odoo), &out, &["--chroma", &name]));
        command.args(FEW_MODELS).arg("--fresh");
        fails(
            &mut command,
            &out,
            7,
            &[&name, "ermission denied"],
            "run Arkstream as the user",
        );
        set_mode(&path, open);
    }
}

#[test]
fn a_directory_that_may_not_be_locked_is_told_apart_from_a_damaged_one() {
    let (out, stack) = (new_out(), Stack::shared());
    let folder = folder_with_chroma("read-only");
    sh(&folder, "chmod -R a+rX,a-w read-only");
    set_mode(out.parent().unwrap(), 0o777);
    let name = folder.join("read-only").display().to_string();
    let mut command = as_nobody(&backup(&stack.url(&stack.odoo), &out, &["--chroma", &name]));
    fails(
        command.args(FEW_MODELS),
        &out,
        7,
        &[&name],
        "write permission",
    );
}

#[test]
fn a_relative_directory_that_is_nowhere_names_what_was_tried() {
    let (out, database) = (new_out(), configured("./chroma_nowhere"));
    let (base, working) = (scratch("base"), scratch("odoo-home"));
    let _odoo = FakeOdoo::in_folder(&working);
    let tried = [
        base.join("./chroma_nowhere").display().to_string(),
        working.join("./chroma_nowhere").display().to_string(),
    ];
    let base = base.display().to_string();
    let mut command = finding(&database, &out, &["--chroma-base", &base]);
    let words = ["`./chroma_nowhere`", &tried[0], &tried[1]];
    fails(&mut command, &out, 2, &words, "--no-chroma");
}

#[test]
fn a_relative_directory_that_is_there_twice_is_not_guessed() {
    let (out, database) = (new_out(), configured("./chroma_twice"));
    let (one, two) = (
        folder_with_chroma("chroma_twice"),
        folder_with_chroma("chroma_twice"),
    );
    let _odoo = FakeOdoo::in_folder(&two);
    let found = [&one, &two].map(|folder| folder.join("chroma_twice").display().to_string());
    let base = one.display().to_string();
    let mut command = finding(&database, &out, &["--chroma-base", &base]);
    let words = ["more than one", &found[0], &found[1]];
    fails(&mut command, &out, 2, &words, "--chroma DIR");

    // Named, it is no question any more; nor is it when it is left out.
    run(&mut finding(
        &database,
        &out,
        &["--chroma", &found[1], "--dry-run"],
    ))
    .ok();
    run(&mut finding(&database, &out, &["--no-chroma", "--dry-run"])).ok();
}

#[test]
fn a_relative_directory_is_found_by_the_working_directory_of_a_running_odoo() {
    let (out, database) = (new_out(), configured("./chroma_of_odoo"));
    let folder = folder_with_chroma("chroma_of_odoo");
    let _odoo = FakeOdoo::in_folder(&folder);
    let report = run(finding(&database, &out, &[]).arg("--json")).ok().json();
    assert!(report["chroma_hold_ms"].is_u64(), "{report}");
    assert!(
        report["components"]["chroma"]["members"].as_u64() > Some(3),
        "{report}"
    );
}

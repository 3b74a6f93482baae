//! Files and vectors that changed since.

use std::path::{Path, PathBuf};

use super::{copied, let_files_settle, new_out, verified};
use crate::support::{ChromaWriter, Stack, files_below, run, scratch, sh};

/// A copy of the shared filestore.
fn filestore() -> PathBuf {
    let folder = scratch("filestore").join("files");
    let from = Stack::shared().filestore.display();
    sh(
        Path::new("/"),
        &format!("cp -a '{from}' '{}'", folder.display()),
    );
    folder
}

/// Names of files that attachments of the database refer to, with at least so many bytes.
fn attached(database: &str, at_least: u64) -> Vec<String> {
    let sql = format!(
        "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname IS NOT NULL \
         AND file_size >= {at_least} AND res_model LIKE 'ai.%' ORDER BY 1"
    );
    let names = Stack::shared().server.psql(database, &sql).expect("psql");
    names.lines().map(str::to_owned).collect()
}

fn backup(database: &str, filestore: &Path, out: &Path) -> std::process::Command {
    let stack = Stack::shared();
    let folder = filestore.to_str().expect("UTF-8");
    let options = ["--filestore", folder];
    let mut command = crate::failures::backup(&stack.url(database), out, &options);
    command.arg("--json");
    command
}

#[test]
fn of_the_filestore_what_was_replaced_removed_or_added_is_what_it_is_now() {
    let stack = Stack::shared();
    let (database, filestore) = (stack.fresh_database(), filestore());
    let names = attached(&database, 200);
    let [replaced, renewed, gone, ..] = &names[..] else {
        panic!("{names:?}");
    };
    let_files_settle();
    let out = new_out();
    let first = verified(&out, &run(&mut backup(&database, &filestore, &out)).ok());
    // Other bytes, the same size and time of change; equal bytes in a new file.
    let path = filestore.join(replaced);
    let mut other = std::fs::read(&path).unwrap();
    other.reverse();
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, &other).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before).unwrap();
    let path = filestore.join(renewed);
    let same = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &same).unwrap();
    std::fs::remove_file(filestore.join(gone)).unwrap();
    // A new attachment.
    let new = "ab/ab00000000000000000000000000000000000000";
    std::fs::create_dir_all(filestore.join("ab")).unwrap();
    std::fs::write(filestore.join(new), b"a new file").unwrap();
    let sql = format!(
        "UPDATE ir_attachment SET store_fname = '{new}' WHERE id = \
         (SELECT min(id) FROM ir_attachment WHERE store_fname = '{}')",
        names[3]
    );
    stack.server.psql(&database, &sql).expect("psql");

    let out = new_out();
    let mut command = backup(&database, &filestore, &out);
    // What is missing, and what is not what its name says, is told.
    let ended = run(command.arg("--base").arg(&first.path)).expect_code(3);
    let second = verified(&out, &ended);
    let member = |name: &str| second.dir.join("odoo_data/filestore").join(name);
    assert!(std::fs::read(member(replaced)).unwrap() == other);
    assert!(std::fs::read(member(renewed)).unwrap() == same);
    assert_eq!(std::fs::read(member(new)).unwrap(), b"a new file");
    assert!(!member(gone).exists());
    let what = second.report["omissions"].to_string();
    assert!(what.contains(gone) && what.contains(replaced), "{what}");
    for name in files_below(&second.dir.join("odoo_data/filestore")) {
        let live = std::fs::read(filestore.join(&name)).unwrap();
        assert!(std::fs::read(member(&name)).unwrap() == live, "{name}");
    }
    let (whole, all) = copied(&second, "filestore");
    // The one with equal bytes is copied too where it was compressed.
    assert!(whole + 3 >= all && whole < all, "{whole} of {all}");
}

#[test]
fn of_chroma_what_changed_is_read_and_the_rest_is_copied() {
    let stack = Stack::shared();
    let chroma = scratch("increment").join("chroma_data");
    let made = stack.chroma.display();
    sh(
        Path::new("/"),
        &format!("cp -a '{made}' '{}'", chroma.display()),
    );
    let backup = |out: &Path, base: Option<&Path>| {
        let folder = chroma.to_str().expect("UTF-8");
        let options = ["--models", "ai.conversation", "--chroma", folder];
        let mut command = crate::failures::backup(&stack.url(&stack.odoo), out, &options);
        command.arg("--json");
        if let Some(base) = base {
            command.arg("--base").arg(base);
        }
        verified(out, &run(&mut command).ok())
    };
    let_files_settle();
    let first = backup(&new_out(), None);
    let writer = ChromaWriter::start(&chroma);
    crate::failures::running::until("it writes", crate::failures::running::SOON, || {
        writer.acknowledged() > 5
    });
    writer.finish();
    let second = backup(&new_out(), Some(&first.path));
    let member = |name: &str| second.dir.join("databases/chroma_data").join(name);
    let files = files_below(&second.dir.join("databases/chroma_data"));
    assert!(files.len() > 10, "{files:?}");
    for name in &files {
        let live = std::fs::read(chroma.join(name)).unwrap();
        assert!(std::fs::read(member(name)).unwrap() == live, "{name}");
    }
    let (whole, all) = copied(&second, "chroma");
    assert!(whole > 10 && whole < all, "{whole} of {all}");
}

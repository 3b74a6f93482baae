//! With nothing but odoo.conf, the whole stack is found.

use std::path::PathBuf;

use super::{WRONG_PASSWORD, fails, has_advice, is_not_published, keeps_secrets, new_out};
use crate::support::{Stack, arkstream, run, scratch};

/// An odoo.conf beside the folder `chroma_data`, as Odoo is started from there.
fn odoo_conf(password: &str, extra: &str) -> PathBuf {
    let stack = Stack::shared();
    let folder = scratch("etc");
    std::os::unix::fs::symlink(&stack.chroma, folder.join("chroma_data")).unwrap();
    let text = format!(
        "; written by hand\n[options]\nadmin_passwd = {WRONG_PASSWORD}\ndb_host = 127.0.0.1\n\
         db_port = {}\ndb_user = postgres\ndb_password = {password}\ndb_name = {}\n\
         data_dir = {}\npg_path = None\nlist_db = False\n{extra}\n",
        stack.server.port(),
        stack.odoo,
        stack.data_dir().display()
    );
    let path = folder.join("odoo.conf");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn odoo_conf_alone_finds_database_filestore_graph_and_chroma() {
    let (out, stack) = (new_out(), Stack::shared());
    let mut command = arkstream();
    command.args(["backup", "--json", "--odoo-conf"]);
    command
        .arg(odoo_conf(stack.server.password(), ""))
        .arg("--out")
        .arg(&out);
    let ended = run(&mut command).ok();
    keeps_secrets(&ended.stdout, &ended.stderr);
    let report = ended.json();
    for component in ["models", "filestore", "graph", "chroma"] {
        let members = &report["components"][component]["members"];
        assert!(members.as_u64() > Some(0), "{component}: {report}");
    }
    assert_eq!(
        report["omissions"].as_array().map(Vec::len),
        Some(0),
        "{report}"
    );
    // Not in the bundle either: not in its log, its metadata, its instructions.
    for member in [
        "logs/export_log.txt",
        "metadata.json",
        "restore_instructions.md",
        "manifest.json",
    ] {
        let text = run(arkstream().arg("cat").arg(&out).arg(member))
            .ok()
            .stdout;
        keeps_secrets(&text, "");
    }
    run(arkstream().arg("verify").arg(&out)).ok();
}

#[test]
fn a_wrong_password_in_odoo_conf_is_not_repeated() {
    let out = new_out();
    let mut command = arkstream();
    command
        .args(["backup", "--odoo-conf"])
        .arg(odoo_conf(WRONG_PASSWORD, ""))
        .arg("--out")
        .arg(&out);
    let words = ["password authentication failed"];
    fails(&mut command, &out, 7, &words, "check the password");
}

#[test]
fn an_odoo_conf_that_says_too_little_or_too_much() {
    let out = new_out();
    for (text, word, help) in [
        (
            "[options]\ndb_name = one, two\n",
            "ambiguous: one, two",
            "--odoo-db",
        ),
        ("[options]\ndb_name = False\n", "no db_name", "--odoo-db"),
        (
            "[queue_job]\ndb_name = x\n",
            "no section [options]",
            "odoo -c",
        ),
        (
            "db_password = wr0ng-passw0rd-nobody-may-see\n",
            "before the first section",
            "odoo -c",
        ),
        (
            "[options]\nwr0ng-passw0rd-nobody-may-see\n",
            "line 2",
            "odoo -c",
        ),
    ] {
        let path = scratch("etc").join("odoo.conf");
        std::fs::write(&path, text).unwrap();
        let mut command = arkstream();
        command
            .args(["backup", "--odoo-conf"])
            .arg(&path)
            .arg("--out")
            .arg(&out);
        let ended = run(&mut command).expect_code(2);
        assert!(ended.stderr.contains(word), "{text:?}: {}", ended.stderr);
        has_advice(&ended.stderr, help);
        keeps_secrets(&ended.stdout, &ended.stderr);
        is_not_published(&out);
    }
    let mut command = arkstream();
    command
        .args(["backup", "--odoo-conf", "/no/such/odoo.conf"])
        .arg("--out")
        .arg(&out);
    let ended = run(&mut command).expect_code(2);
    assert!(
        ended.stderr.contains("/no/such/odoo.conf: No such file"),
        "{}",
        ended.stderr
    );
}

//! `doctor` tells beforehand what a backup would meet.

use std::process::Command;

use serde_json::Value;

use super::{WRONG_PASSWORD, keeps_secrets};
use crate::support::{Stack, arkstream, run, scratch};

/// `arkstream doctor` of the shared stack.
fn doctor() -> Command {
    let stack = Stack::shared();
    let mut command = arkstream();
    command.args(["doctor", "--odoo-db", &stack.url(&stack.odoo)]);
    command
        .arg("--filestore")
        .arg(&stack.filestore)
        .arg("--chroma")
        .arg(&stack.chroma);
    command
        .args(["--graph-db", &stack.url(&stack.graph)])
        .arg("--out")
        .arg(scratch("out"));
    command
}

fn findings(report: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = report["findings"].as_array().expect("a list").iter();
    list.map(|f| (text(&f["verdict"]), text(&f["what"]), text(&f["how"])))
        .collect()
}

#[test]
fn a_good_stack_is_ready() {
    let stack = Stack::shared();
    let text = run(&mut doctor()).ok();
    assert!(
        text.stdout.contains("ready for a backup"),
        "{}",
        text.stdout
    );
    for word in [
        "odoo database",
        "graph database",
        "filestore",
        "chroma",
        "pg_dump",
        "free",
    ] {
        assert!(text.stdout.contains(word), "{word}: {}", text.stdout);
    }
    keeps_secrets(&text.stdout, &text.stderr);

    let report = run(doctor().arg("--json")).ok().json();
    assert_eq!(report["ready"], true);
    let exact = |what: &str, key: &str| {
        let mut list = report["findings"].as_array().expect("a list").iter();
        let found = list.find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what} is not in {report}"))[key].clone()
    };
    assert!(exact("plan of models", "items").as_u64() > Some(0));
    assert!(exact("plan of filestore", "bytes").as_u64() > Some(0));
    assert!(exact("output folder", "free_bytes").as_u64() > Some(0));
    let findings = findings(&report);
    assert!(
        findings.iter().all(|(verdict, ..)| verdict != "bad"),
        "{findings:?}"
    );
    let version = stack
        .server
        .psql("postgres", "SHOW server_version")
        .unwrap();
    let version = version.split_whitespace().next().unwrap().to_owned();
    let of = |name: &str| {
        findings
            .iter()
            .find(|(_, what, _)| what == name)
            .map(|f| f.2.clone())
    };
    assert!(
        of("odoo database").unwrap().contains(&version),
        "{findings:?}"
    );
    assert!(
        of("pg_dump for the graph database")
            .unwrap()
            .contains("pg_dump (PostgreSQL)")
    );
    assert!(
        of("plan of models").unwrap().contains("items"),
        "{findings:?}"
    );
}

#[test]
fn what_is_bad_is_said_with_its_remedy_and_the_rest_is_looked_at_too() {
    let stack = Stack::shared();
    let graph = stack
        .server
        .tcp_url(&stack.graph, "postgres", WRONG_PASSWORD);
    let mut command = arkstream();
    command.args([
        "doctor",
        "--json",
        "--odoo-db",
        &stack.url(&stack.odoo),
        "--graph-db",
        &graph,
    ]);
    command.args([
        "--filestore",
        "/no/such/filestore",
        "--chroma",
        "/no/such/chroma",
    ]);
    command.args(["--out", "/no/such/folder/bundle.zip"]);
    let ended = run(&mut command).expect_code(7);
    keeps_secrets(&ended.stdout, &ended.stderr);
    let report = ended.json();
    assert_eq!(report["ready"], false);
    let bad: Vec<_> = findings(&report)
        .into_iter()
        .filter(|f| f.0 == "bad")
        .collect();
    for word in [
        "check the password",
        "/no/such/filestore",
        "/no/such/chroma",
        "/no/such/folder",
    ] {
        assert!(
            bad.iter().any(|(_, _, how)| how.contains(word)),
            "{word} is not in {bad:?}"
        );
    }
    let good = findings(&report)
        .into_iter()
        .any(|f| f.0 == "ok" && f.1 == "odoo database");
    assert!(good, "{report}");

    let text = run(doctor().args(["--odoo-conf", "/no/such/odoo.conf"]))
        .expect_code(2)
        .stdout;
    assert!(
        text.contains("BAD") && text.contains("/no/such/odoo.conf"),
        "{text}"
    );
    assert!(text.contains("a backup would fail"), "{text}");
}

#[test]
fn an_unreachable_server_is_bad_and_the_rest_is_said_all_the_same() {
    let url = format!("postgresql://odoo:{WRONG_PASSWORD}@no-such-host.invalid/odoo");
    let ended = run(arkstream().args(["doctor", "--odoo-db", &url])).expect_code(7);
    keeps_secrets(&ended.stdout, &ended.stderr);
    for word in [
        "BAD",
        "no-such-host.invalid",
        "pg_dump found",
        "output folder",
        "free",
    ] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
}

#[test]
fn doctor_changes_nothing() {
    let folder = scratch("out");
    run(doctor().arg("--json").arg("--out").arg(&folder));
    assert!(crate::support::files_below(&folder).is_empty());
}

//! What must not be in a bundle, or not in the wrong part of it.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, path::Path};

use super::inventory::odoo_only_command;
use crate::support::{Bundle, Profile, Stack, run, scratch};

/// Secrets of tables that are none of the stack's business.
fn foreign_secrets() -> Vec<String> {
    let answer = Stack::shared().ask(
        "SELECT password FROM res_users WHERE password IS NOT NULL UNION ALL \
         SELECT totp_secret FROM res_users WHERE totp_secret IS NOT NULL UNION ALL \
         SELECT key FROM res_users_apikeys UNION ALL SELECT key FROM auth_totp_device UNION ALL \
         SELECT value FROM ir_config_parameter WHERE key = 'database.secret'",
    );
    let secrets: Vec<String> = answer.lines().map(str::to_owned).collect();
    assert!(secrets.len() > 15, "{}", secrets.len());
    secrets
}

/// Every byte of the bundle, unpacked, and every value of its Parquet members besides.
fn everything(bundle: &Bundle) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = bundle
        .members()
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(bundle.dir.join(&name)).expect("a file");
            (name, bytes)
        })
        .collect();
    let folders: BTreeSet<String> = bundle
        .members()
        .iter()
        .filter(|name| name.ends_with(".parquet"))
        .filter_map(|name| name.rsplit_once('/').map(|(folder, _)| folder.to_owned()))
        .collect();
    assert!(folders.len() > 100);
    let rows = bundle.every_row("odoo_data");
    assert!(rows.len() > 100_000, "{}", rows.len());
    found.push(("rows".to_owned(), rows.into_bytes()));
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn no_password_of_a_user_is_anywhere_in_the_bundle() {
    let bundle = Bundle::shared(Profile::SamAi);
    let secrets = foreign_secrets();
    let raw = std::fs::read(&bundle.path).expect("the bundle");
    for (name, bytes) in everything(bundle)
        .iter()
        .chain([&("the file itself".to_owned(), raw)])
    {
        for secret in &secrets {
            assert!(!contains(bytes, secret), "{name} holds the secret {secret}");
        }
    }
    let users = bundle.table("public.res_users");
    let left_out = users["columns_left_out"].to_string();
    assert!(
        left_out.contains("password") && left_out.contains("totp_secret"),
        "{left_out}"
    );
    let members = bundle.members().join("\n");
    assert!(
        !members.contains("apikeys") && !members.contains("auth_totp"),
        "{members}"
    );
}

/// The search above finds what is there: the same rows, of the whole database.
#[test]
fn the_search_for_secrets_finds_them_where_they_are() {
    let bundle = Bundle::shared(Profile::All);
    let rows = bundle.every_row("odoo_data");
    for secret in foreign_secrets() {
        assert!(rows.contains(&secret), "{secret}");
    }
}

/// Members that describe the bundle, the output of the run, and the journal it wrote on the way.
#[test]
fn passwords_of_connections_reach_no_description_log_or_message() {
    let stack = Stack::shared();
    let folder = scratch("passwords");
    let out = folder.join("bundle.zip");
    let odoo = stack
        .server
        .tcp_url(&stack.odoo, "postgres", stack.server.password());
    let graph = stack
        .server
        .tcp_url(&stack.graph, "postgres", stack.server.password());
    let mut command = crate::support::arkstream();
    command.args([
        "backup",
        "-vv",
        "--progress",
        "plain",
        "--json",
        "--odoo-db",
        &odoo,
        "--graph-db",
        &graph,
    ]);
    command
        .arg("--filestore")
        .arg(&stack.filestore)
        .arg("--chroma")
        .arg(&stack.chroma);
    let run = run(command.args(["--models", "ai.*"]).arg("--out").arg(&out)).ok();
    let bundle = Bundle::open(out, run.json(), run.stderr.clone());
    let mut places = vec![
        ("standard output", run.stdout),
        ("standard error", run.stderr),
    ];
    let described = [
        "logs/export_log.txt",
        "manifest.json",
        "metadata.json",
        "restore_instructions.md",
        "odoo_data/model_list.json",
    ];
    for name in described {
        places.push((
            name,
            std::fs::read_to_string(bundle.dir.join(name)).expect(name),
        ));
    }
    for (place, text) in &places {
        assert!(!text.contains(stack.server.password()), "{place}");
        for secret in foreign_secrets() {
            assert!(!text.contains(&secret), "{place}");
        }
    }
    assert!(
        places[1].1.contains("DEBUG") || places[1].1.len() > 2000,
        "-vv says much"
    );
}

#[test]
fn a_password_is_in_no_argument_of_the_programs_that_are_started() {
    let stack = Stack::shared();
    let folder = scratch("arguments");
    let url = stack
        .server
        .tcp_url(&stack.graph, "postgres", stack.server.password());
    let odoo = stack.url(&stack.odoo);
    let mut command = odoo_only_command(
        &odoo,
        &["--models", "ai.message"],
        &folder.join("bundle.zip"),
    );
    // The graph is dumped by pg_dump, a process of its own, whose arguments everybody can read.
    let arguments: Vec<_> = command
        .get_args()
        .filter(|a| *a != "--no-graph")
        .map(ToOwned::to_owned)
        .collect();
    let program = command.get_program().to_owned();
    command = std::process::Command::new("strace");
    command
        .args(["-f", "-qq", "-s", "4096", "-e", "trace=execve", "-o"])
        .arg(folder.join("trace"));
    command.arg(program).args(arguments);
    command.env("ARKSTREAM_GRAPH_DB", url).current_dir(&folder);
    run(&mut command).ok();
    let trace = std::fs::read_to_string(folder.join("trace")).expect("a trace");
    let dump = trace
        .lines()
        .find(|line| line.contains("pg_dump\"") && line.contains("--no-owner"));
    assert!(dump.is_some(), "{trace}");
    // The very first line is ours: strace starting the program.
    assert!(!trace.contains(stack.server.password()), "{trace}");
}

/// Rows, dumps and descriptions are for the owner alone; files keep the mode they have.
#[test]
fn unpacked_members_have_the_modes_that_protect_them() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let mode = |path: &Path| {
        std::fs::metadata(path)
            .expect("a file")
            .permissions()
            .mode()
            & 0o777
    };
    for name in bundle.members() {
        let copied = [
            ("odoo_data/filestore/", &stack.filestore),
            ("databases/chroma_data/", &stack.chroma),
        ];
        let source = copied
            .iter()
            .find_map(|(folder, source)| Some(source.join(name.strip_prefix(folder)?)));
        let expected = source.map_or(0o600, |source| mode(&source));
        assert_eq!(mode(&bundle.dir.join(&name)), expected, "{name}");
    }
}

//! Arguments and `arkstream.toml`: what is wrong is said before anything is done, and what is
//! said twice is taken from the right place.

use std::{path::PathBuf, process::Command};

use super::{
    WRONG_PASSWORD, fails, has_advice, is_not_published, keeps_secrets, new_out, small_backup,
};
use crate::support::{Stack, arkstream, run, scratch};

/// A usage error of the argument parser: exit 2, `words`, and where to read on.
#[track_caller]
fn misuse(command: &mut Command, words: &[&str]) {
    let ended = run(command).expect_code(2).says(words);
    assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    let told = ended.stderr.contains("--help") || ended.stderr.contains("  help: ");
    assert!(told, "no way on: {}", ended.stderr);
    keeps_secrets(&ended.stdout, &ended.stderr);
}

#[test]
fn unknown_and_conflicting_flags() {
    let out = new_out();
    misuse(small_backup(&out).arg("--frobnicate"), &["--frobnicate"]);
    misuse(
        small_backup(&out).args(["--chroma", "/x"]),
        &["--chroma", "--no-chroma"],
    );
    misuse(
        small_backup(&out).args(["--filestore", "/x"]),
        &["--filestore", "--no-filestore"],
    );
    misuse(
        small_backup(&out).args(["--graph-db", "dbname=x"]),
        &["--graph-db", "--no-graph"],
    );
    misuse(arkstream().arg("bakcup"), &["bakcup", "backup"]);
    run(&mut arkstream())
        .expect_code(2)
        .says(&["Usage: arkstream", "backup", "--help"]);
    is_not_published(&out);
}

#[test]
fn values_that_make_no_sense() {
    let out = new_out();
    misuse(
        small_backup(&out).args(["--memory", "lots"]),
        &["--memory", "256MiB"],
    );
    misuse(
        small_backup(&out).args(["--memory", "3 elephants"]),
        &["elephants", "MiB"],
    );
    misuse(
        small_backup(&out).args(["--jobs", "0"]),
        &["--jobs", "1..=64"],
    );
    misuse(
        small_backup(&out).args(["--lock-timeout", "soon"]),
        &["--lock-timeout", "60s"],
    );
    misuse(
        small_backup(&out).args(["--graph-snapshot", "mine"]),
        &["shared", "own"],
    );
    for percent in ["0", "101", "x"] {
        misuse(
            arkstream().args(["verify", "x.zip", "--sample", percent]),
            &["at most 100"],
        );
    }
    fails(
        small_backup(&out).args(["--memory", "31MiB"]),
        &out,
        2,
        &["31.0 MiB", "32.0 MiB"],
        "--memory",
    );
}

#[test]
fn no_source_at_all() {
    let out = new_out();
    let mut command = arkstream();
    command.arg("backup").arg("--out").arg(&out);
    fails(
        &mut command,
        &out,
        2,
        &["neither --odoo-db nor --odoo-conf"],
        "--odoo-db postgresql://",
    );
}

#[test]
fn connection_strings_that_are_none() {
    for (text, word) in [
        (
            "mysql://odoo:wr0ng-passw0rd-nobody-may-see@localhost/odoo",
            "postgresql://",
        ),
        (
            "postgresql://odoo:wr0ng-passw0rd-nobody-may-see@localhost:port/odoo",
            "port",
        ),
        (
            "host=localhost password=wr0ng-passw0rd-nobody-may-see sslmode=perhaps",
            "sslmode",
        ),
        (
            "host=localhost password='wr0ng-passw0rd-nobody-may-see",
            "quote",
        ),
        (
            // Not by its name, which may be a piece of a password with a space in it.
            "host=localhost passwort=wr0ng-passw0rd-nobody-may-see",
            "the name of parameter 2 is not known",
        ),
    ] {
        assert!(text.contains(WRONG_PASSWORD));
        let out = new_out();
        let mut command = super::backup(text, &out, &[]);
        let ended = run(&mut command).expect_code(2);
        assert!(ended.stderr.contains(word), "{text}: {}", ended.stderr);
        has_advice(&ended.stderr, "");
        keeps_secrets(&ended.stdout, &ended.stderr);
        is_not_published(&out);
    }
}

#[test]
fn patterns_and_profiles_that_select_nothing_useful() {
    let (out, stack) = (new_out(), Stack::shared());
    let url = stack.url(&stack.odoo);
    let with = |flag: &str, value: &str| super::backup(&url, &out, &[flag, value]);
    fails(
        &mut with("--models", "ai.[conversation"),
        &out,
        2,
        &["ai.[conversation"],
        "",
    );
    fails(&mut with("--exclude", "{a"), &out, 2, &["{a"], "");
    fails(
        &mut with("--models", "no.such.model"),
        &out,
        2,
        &["no.such.model"],
        "",
    );
    fails(
        &mut with("--profile", "/no/such/profile"),
        &out,
        2,
        &["/no/such/profile"],
        "sam_ai",
    );
}

/// `arkstream backup` in a folder that holds this `arkstream.toml`.
fn with_settings(toml: &str) -> (Command, PathBuf) {
    let folder = scratch("settings");
    std::fs::write(folder.join("arkstream.toml"), toml).unwrap();
    let mut command = arkstream();
    command
        .args(["backup", "--dry-run", "--json"])
        .current_dir(&folder);
    (command, folder)
}

#[test]
fn the_settings_file_is_read_strictly_and_its_secrets_stay_in_it() {
    let secret = format!("odoo_db = \"postgresql://odoo:{WRONG_PASSWORD}@localhost/odoo\"\n");
    for (line, word) in [
        ("pasword = \"wr0ng-passw0rd-nobody-may-see\"\n", "pasword"),
        (
            "password_file = [\"wr0ng-passw0rd-nobody-may-see\"]\n",
            "password_file",
        ),
        (
            "memory = 3\nodoo-db = \"wr0ng-passw0rd-nobody-may-see\"",
            "arkstream.toml",
        ),
        (
            "this is wr0ng-passw0rd-nobody-may-see and no TOML",
            "arkstream.toml",
        ),
        ("jobs = \"wr0ng-passw0rd-nobody-may-see\"", "arkstream.toml"),
        (
            "jobs = \"a \\\" in it, wr0ng-passw0rd-nobody-may-see\"",
            "arkstream.toml",
        ),
        ("lock_timeout = \"soon\"", "lock_timeout"),
        ("memory = \"lots\"", "memory"),
    ] {
        let (mut command, folder) = with_settings(&format!("{secret}{line}"));
        let ended = run(&mut command).expect_code(2);
        assert!(ended.stderr.contains(word), "{line:?}: {}", ended.stderr);
        has_advice(&ended.stderr, "arkstream schema config");
        keeps_secrets(&ended.stdout, &ended.stderr);
        assert_eq!(crate::support::files_below(&folder), ["arkstream.toml"]);
    }
    let mut command = arkstream();
    command.args(["backup", "--config", "/no/such/settings.toml"]);
    let ended = run(&mut command).expect_code(2);
    assert!(
        ended.stderr.contains("/no/such/settings.toml"),
        "{}",
        ended.stderr
    );
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    let toml = format!(
        "odoo_db = {url:?}\nno_graph = true\nno_chroma = true\nno_filestore = true\n\
         models = [\"ai.conversation\"]\nout = \"file.zip\"\n"
    );
    let tables = |ended: &crate::support::Run| -> Vec<String> {
        let plan = ended.json();
        let models = &plan["plan"][0];
        assert_eq!(models["component"], "models", "{plan}");
        let items = models["items"].as_array().unwrap().iter();
        items
            .map(|item| item["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let bundle = |ended: &crate::support::Run| ended.json()["bundle"].as_str().unwrap().to_owned();
    let has = |tables: &[String], table: &str| tables.iter().any(|name| name.contains(table));

    let (mut command, _) = with_settings(&toml);
    let file = run(&mut command).ok();
    assert_eq!(bundle(&file), "file.zip");
    let of_file = tables(&file);
    assert!(
        has(&of_file, "models/ai.conversation") && !has(&of_file, "models/ai.message"),
        "{of_file:?}"
    );

    let (mut command, _) = with_settings(&toml);
    command
        .env("ARKSTREAM_OUT", "environment.zip")
        .env("ARKSTREAM_MODELS", "ai.message");
    let environment = run(&mut command).ok();
    assert_eq!(bundle(&environment), "environment.zip");
    assert!(has(&tables(&environment), "models/ai.message"));

    let (mut command, _) = with_settings(&toml);
    command
        .env("ARKSTREAM_OUT", "environment.zip")
        .env("ARKSTREAM_MODELS", "no.such.model");
    command.env("ARKSTREAM_ODOO_DB", "host=no-such-host.invalid");
    command.args([
        "--out",
        "line.zip",
        "--models",
        "ai.message",
        "--odoo-db",
        &url,
    ]);
    let line = run(&mut command).ok();
    assert_eq!(bundle(&line), "line.zip");
    assert!(has(&tables(&line), "models/ai.message"));

    // A source that is named outranks the file's refusal of it.
    let (mut command, _) = with_settings(&toml);
    let named = run(command.arg("--filestore").arg(&stack.filestore))
        .ok()
        .json();
    let components = named["plan"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["component"].clone());
    assert!(
        components
            .into_iter()
            .any(|component| component == "filestore"),
        "{named}"
    );
}

#[test]
fn the_spreadsheet_of_a_nightly_backup_is_asked_for_in_the_file() {
    let stack = Stack::shared();
    let url = stack.url(&stack.odoo);
    let toml = format!(
        "odoo_db = {url:?}\nno_graph = true\nno_chroma = true\nno_filestore = true\n\
         out = \"file.zip\"\nxlsx = true\ntemp = \"no-such-folder\"\n"
    );
    let (_, folder) = with_settings(&toml);
    let mut command = arkstream();
    run(command.arg("backup").current_dir(&folder))
        .expect_code(6)
        .says(&["no-such-folder", "--temp"]);
    assert_eq!(crate::support::files_below(&folder), ["arkstream.toml"]);
}

#[test]
fn a_dry_run_writes_nothing() {
    let out = new_out();
    let ended = run(small_backup(&out).arg("--dry-run")).ok();
    assert!(
        ended.stdout.contains("nothing was changed"),
        "{}",
        ended.stdout
    );
    assert!(crate::support::files_below(out.parent().unwrap()).is_empty());
}

#[test]
fn completions_and_schemas_are_printed() {
    let script = run(arkstream().args(["completions", "bash"])).ok().stdout;
    for word in [
        "_arkstream()",
        "complete -F _arkstream",
        "--chroma-max-hold",
    ] {
        assert!(script.contains(word), "{word} is not in the script");
    }
    let schema = run(arkstream().args(["schema", "config"])).ok().json();
    let known = schema["properties"].as_object().expect("an object").clone();
    for key in ["odoo_db", "chroma_max_hold", "memory", "models"] {
        assert!(known.contains_key(key), "{key} is not in the schema");
    }
    assert_eq!(schema["additionalProperties"], false);
    for name in ["manifest", "metadata", "model_list", "journal"] {
        run(arkstream().args(["schema", name])).ok().json();
    }
    misuse(
        arkstream().args(["schema", "manfest"]),
        &["a similar value exists: 'manifest'", "model_list"],
    );
    misuse(arkstream().args(["completions", "cobol"]), &["bash", "zsh"]);
}

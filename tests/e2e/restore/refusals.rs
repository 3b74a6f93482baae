//! What is refused before anything is touched, and what a dry run leaves alone.

use std::{fs, process::Stdio, thread, time::Duration};

use super::stage::{Place, bundle, json_of, source};
use crate::support::{Stack, arkstream, run, scratch};

#[test]
fn a_dry_run_changes_nothing_and_counts_what_the_real_run_does() {
    let place = Place::copy();
    place.sql(
        "UPDATE ai_message SET content = 'mine' WHERE id % 3 = 0; DELETE FROM ai_token_usage WHERE id % 2 = 0; \
         INSERT INTO ai_conversation_tag (name) VALUES ('{\"en_US\": \"extra\"}')",
    );
    fs::create_dir_all(&place.chroma).expect("a folder");
    fs::write(place.chroma.join("former"), "x").expect("writes");
    let databases = || {
        let sql = format!(
            "SELECT datname FROM pg_database WHERE datname LIKE '{}%' ORDER BY 1",
            place.graph
        );
        source().server.psql("postgres", &sql).expect("psql")
    };
    let state = || {
        let files = crate::support::files_below(&place.dir);
        let files: Vec<_> = files
            .into_iter()
            .filter(|f| !f.starts_with("state"))
            .collect();
        let schemas = place.sql("SELECT nspname FROM pg_namespace ORDER BY 1");
        let sequences = place.sql(
            "SELECT string_agg(sequencename || ' ' || COALESCE(last_value, -1), ',' ORDER BY 1) FROM pg_sequences",
        );
        (
            place.every_row(),
            files,
            schemas,
            sequences,
            databases().replace(' ', ""),
        )
    };
    let before = state();
    let planned = json_of(
        place
            .everything(bundle())
            .args(["--mode", "replace", "--dry-run"]),
    );
    assert_eq!(state(), before);
    let done = json_of(place.everything(bundle()).args(["--mode", "replace"]));
    for key in ["inserted", "updated", "deleted", "unchanged", "unmapped"] {
        assert_eq!(planned["plan"][key], done[key], "{key}");
    }
    assert!(done["inserted"].as_u64() > Some(0) && done["deleted"].as_u64() > Some(0));
    for component in ["models", "filestore", "graph", "chroma"] {
        assert_eq!(
            planned["plan"]["components"][component]["tables"],
            done["components"][component]["tables"],
            "{component}"
        );
    }
}

#[test]
fn a_flipped_bit_is_refused_before_anything_is_staged_and_the_rest_can_be_restored() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'");
    let damaged = scratch("restore-damaged").join("bundle.zip");
    let mut bytes = fs::read(bundle()).expect("reads");
    let mut cat = arkstream();
    cat.arg("cat").arg(bundle()).arg("manifest.json");
    let manifest = run(&mut cat).ok().json();
    let member = manifest["members"]
        .as_array()
        .expect("members")
        .iter()
        .find(|m| {
            m["name"]
                .as_str()
                .is_some_and(|n| n.starts_with("odoo_data/models/ai.message/"))
        })
        .expect("a part")
        .clone();
    let at = member["data_offset"].as_u64().expect("a number") + 100;
    bytes[usize::try_from(at).expect("fits")] ^= 4;
    fs::write(&damaged, bytes).expect("writes");
    let before = place.every_row();
    run(place.everything(&damaged).args(["--mode", "replace"]))
        .expect_code(4)
        .says(&["ai.message", "--components filestore,chroma,graph"]);
    assert_eq!(place.every_row(), before);
    assert_eq!(
        place.sql("SELECT count(*) FROM pg_namespace WHERE nspname ~ '^arkstream'"),
        "0"
    );
    assert!(!place.chroma.exists());
    run(place
        .everything(&damaged)
        .args(["--components", "filestore,graph,chroma"]))
    .ok();
    assert!(place.chroma.exists());
    assert_eq!(place.every_row(), before);
}

#[test]
fn everything_incompatible_is_listed_at_once() {
    let place = Place::copy();
    place.sql(
        "UPDATE ir_module_module SET latest_version = replace(latest_version, '18.0', '17.0') WHERE name = 'base'; \
         ALTER TABLE ai_token_usage DROP COLUMN model_name; \
         ALTER TABLE ai_message ADD COLUMN must_have int NOT NULL DEFAULT 1; ALTER TABLE ai_message ALTER COLUMN must_have DROP DEFAULT; \
         DROP TABLE ai_qr_code CASCADE",
    );
    let before = place.every_row();
    run(place.rows(bundle()).args(["--mode", "replace"]))
        .expect_code(5)
        .says(&[
            "Odoo 18.0",
            "Odoo 17.0",
            "no column model_name",
            "must_have",
            "ai_qr_code",
            "4 problems",
            "nothing was changed",
        ]);
    assert_eq!(place.every_row(), before);
}

#[test]
fn a_module_that_is_not_installed_is_named() {
    let place = Place::copy();
    let module = place.sql(
        "SELECT d.module FROM ir_model_data d WHERE d.model = 'ir.model' AND d.name = 'model_ai_message' ORDER BY id LIMIT 1",
    );
    place.sql(&format!(
        "UPDATE ir_module_module SET state = 'uninstalled' WHERE name = '{module}'"
    ));
    run(place.rows(bundle()).args(["--mode", "replace"]))
        .expect_code(5)
        .says(&[&module, "is not installed"]);
}

#[test]
fn an_older_chroma_is_not_given_a_newer_directory() {
    let place = Place::copy();
    // The directory of an installation that never ran the newest migration.
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(&source().chroma)
        .arg(&place.chroma)
        .status()
        .expect("cp");
    assert!(status.success());
    let mut forget = crate::support::python();
    forget.args([
        "-c",
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
         c.execute('DELETE FROM migrations WHERE rowid = (SELECT max(rowid) FROM migrations)'); c.commit()",
    ]);
    run(forget.arg(place.chroma.join("chroma.sqlite3"))).ok();
    run(place.everything(bundle()).args(["--components", "chroma"]))
        .expect_code(5)
        .says(&["migration"]);
}

#[test]
fn references_to_rows_that_nobody_knows_are_refused_and_named() {
    let place = Place::copy();
    place.sql(
        "SET session_replication_role = replica; UPDATE res_users SET login = 'someone-else' WHERE id = 5; \
         DELETE FROM ir_model_data WHERE model = 'res.users'; UPDATE ai_message SET content = 'mine'; \
         UPDATE ir_config_parameter SET value = 'another' WHERE key = 'database.uuid'",
    );
    let before = place.every_row();
    run(place.rows(bundle()).args(["--mode", "replace"]))
        .expect_code(6)
        .says(&["res_users", "user5@example.com"]);
    assert_eq!(place.every_row(), before);
}

#[test]
fn a_component_without_a_place_to_go_to_is_never_passed_over() {
    let place = Place::copy();
    let mut command = arkstream();
    command
        .arg("restore")
        .arg(bundle())
        .args(["--yes", "--odoo-db", &place.url()]);
    command.arg("--state-dir").arg(&place.state);
    run(&mut command).expect_code(2).says(&[
        "filestore",
        "--filestore DIR",
        "--components models,graph,chroma",
    ]);
}

#[test]
fn rows_that_are_there_are_not_replaced_without_a_word() {
    let place = Place::copy();
    run(&mut place.rows(bundle()))
        .expect_code(6)
        .says(&["--mode replace", "--mode merge"]);
}

#[test]
fn nobody_at_the_terminal_and_no_yes_is_no_agreement() {
    let place = Place::copy();
    let before = place.every_row();
    let mut command = arkstream();
    command.arg("restore").arg(bundle()).args([
        "--components",
        "models",
        "--odoo-db",
        &place.url(),
    ]);
    command
        .args(["--mode", "replace", "--progress", "none", "--state-dir"])
        .arg(&place.state);
    run(&mut command).expect_code(2).says(&["--yes"]);
    assert_eq!(place.every_row(), before);
}

#[test]
fn who_holds_a_lock_is_named() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'");
    let mut holder = std::process::Command::new(source().server.bin_dir().join("psql"));
    holder.arg(source().url(&place.database)).args([
        "-c",
        "BEGIN; UPDATE ai_message SET content = 'x' WHERE id = 1; SELECT pg_sleep(300)",
    ]);
    holder
        .env("PGAPPNAME", "slow report")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut holder = holder.spawn().expect("psql");
    let waiting = || {
        place.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'slow report' AND state = 'active'")
    };
    while waiting() == "0" {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));
    run(place
        .rows(bundle())
        .args(["--mode", "replace", "--lock-timeout", "1s"]))
    .expect_code(6)
    .says(&["ai_message", "slow report", "user postgres"]);
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn a_role_that_does_not_own_the_tables_is_told_whom_to_ask() {
    let place = Place::copy();
    let server = &source().server;
    let _ = server.psql(
        "postgres",
        "CREATE ROLE visitor LOGIN PASSWORD 'guest pass'",
    );
    let url = server.tcp_url(&place.database, "visitor", "guest pass");
    server
        .psql(
            &place.database,
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO visitor",
        )
        .expect("psql");
    let mut command = arkstream();
    command.arg("restore").arg(bundle()).args([
        "--yes",
        "--components",
        "models",
        "--odoo-db",
        &url,
    ]);
    command
        .args(["--mode", "replace", "--state-dir"])
        .arg(&place.state);
    let ended = run(&mut command)
        .expect_code(6)
        .says(&["odoo", "connect as"]);
    assert!(!ended.stderr.contains("guest pass"));
}

#[test]
fn a_wrong_password_is_an_error_without_the_password() {
    let place = Place::copy();
    let url = source()
        .server
        .tcp_url(&place.database, source().owner(), "not the password");
    let mut command = arkstream();
    command.arg("restore").arg(bundle()).args([
        "--yes",
        "--components",
        "models",
        "--odoo-db",
        &url,
    ]);
    command
        .args(["--mode", "replace", "--state-dir"])
        .arg(&place.state);
    let ended = run(&mut command).expect_code(7).says(&["password"]);
    assert!(!ended.stderr.contains("not the password"));
    let record = crate::support::files_below(&place.state);
    for name in record {
        let text = fs::read_to_string(place.state.join(name)).unwrap_or_default();
        assert!(!text.contains("not the password") && !text.contains(Stack::OWNER_PASSWORD));
    }
}

#[test]
fn no_record_holds_a_password() {
    let place = Place::copy();
    place.sql("DELETE FROM ai_token_usage");
    super::stage::done(place.rows(bundle()).args(["--mode", "replace"]));
    let mut seen = 0;
    for name in crate::support::files_below(&place.state) {
        let text = fs::read_to_string(place.state.join(&name)).unwrap_or_default();
        assert!(!text.contains(Stack::OWNER_PASSWORD), "{name}");
        seen += usize::from(text.contains("restore_id"));
    }
    assert_eq!(seen, 1);
}

#[test]
fn a_dry_run_says_what_the_switch_takes_and_ends_as_the_restore_would() {
    let place = Place::copy();
    place.sql("UPDATE ai_message SET content = 'mine'");
    let ended = run(place
        .rows(bundle())
        .args(["--mode", "replace", "--dry-run"]))
    .expect_code(0);
    for part in [
        "foreign keys stay live",
        "estimates:",
        "write-ahead log",
        "for staging",
    ] {
        assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
    }
    place.sql("UPDATE ir_config_parameter SET value = 'another' WHERE key = 'database.uuid'");
    let lossy = ["--mode", "replace", "--missing-reference", "null"];
    run(place.rows(bundle()).args(lossy).arg("--dry-run")).expect_code(3);
    run(place.rows(bundle()).args(lossy)).expect_code(3);
}

#[test]
fn who_writes_and_what_may_not_be_made_is_told_by_the_check() {
    let place = Place::copy();
    place.sql(&format!(
        "REVOKE TEMPORARY ON DATABASE {0} FROM PUBLIC; ALTER DATABASE {0} OWNER TO postgres; GRANT CREATE ON DATABASE {0} TO odoo",
        place.database
    ));
    let mut writer = std::process::Command::new(source().server.bin_dir().join("psql"));
    writer.arg(source().url(&place.database)).args([
        "-c",
        "BEGIN; UPDATE ai_message SET content = 'x' WHERE id = 1; SELECT pg_sleep(300)",
    ]);
    writer
        .env("PGAPPNAME", "slow report")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut writer = writer.spawn().expect("psql");
    while place.sql("SELECT count(*) FROM pg_locks WHERE relation = 'ai_message'::regclass AND mode = 'RowExclusiveLock'") == "0" {
        thread::sleep(Duration::from_millis(20));
    }
    run(place.rows(bundle()).args(["--mode", "replace"]))
        .expect_code(6)
        .says(&["slow report", "ai_message", "GRANT TEMPORARY"]);
    let _ = writer.kill();
    let _ = writer.wait();
}

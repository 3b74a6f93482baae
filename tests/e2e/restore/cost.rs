//! What a restore writes: of large data the server's log and disk pay for every copy.

use std::path::Path;

use crate::support::{Stack, StackOptions, arkstream, run, scratch, soak};

/// Bytes in the long values of [`LONG_VALUES`], which nothing compresses.
const LONG: u64 = 5_000 * 8_192;

const LONG_VALUES: &str = "\
    INSERT INTO ai_message (conversation_id, role, content) \
      SELECT (SELECT min(id) FROM ai_conversation), 'user', \
        (SELECT string_agg(md5(n::text || '/' || piece), '') FROM generate_series(1, 256) piece) \
      FROM generate_series(1, 5000) n";

/// Beyond the number of rows from which on foreign keys are dropped.
const MANY: u64 = 201_000;

const MANY_ROWS: &str = "\
    INSERT INTO ai_token_usage (provider, model_name) SELECT 'local', 'model' FROM generate_series(1, 201000)";

/// Bytes of log that are written while the rows of a model come back into an emptied table.
fn log_of_a_restore(stack: &Stack, dir: &Path, model: &str, table: &str) -> u64 {
    let bundle = dir.join(format!("{table}.zip"));
    let mut backup = stack.backup_command(&bundle);
    run(backup.args(["--models", model])).ok();
    stack.ask(&format!(
        "SET session_replication_role = replica; DELETE FROM {table}; CHECKPOINT"
    ));
    let written = || -> u64 {
        let lsn = stack.ask("SELECT pg_current_wal_insert_lsn() - '0/0'");
        lsn.parse().expect("a number")
    };
    let before = written();
    let mut command = arkstream();
    command
        .arg("restore")
        .arg(&bundle)
        .args(["--yes", "--json"]);
    command.args(["--components", "models", "--mode", "replace"]);
    command.args(["--odoo-db", &stack.url(&stack.odoo)]);
    command.arg("--state-dir").arg(dir.join("state"));
    let report = run(&mut command);
    assert!(matches!(report.code, Some(0 | 3)), "{report:?}");
    assert_eq!(report.json()["proof"]["holds"], true, "{report:?}");
    written() - before
}

fn stack() -> Stack {
    Stack::new(StackOptions {
        graph: false,
        chroma: false,
        ..StackOptions::default()
    })
}

#[test]
fn a_restore_into_empty_tables_writes_each_value_twice() {
    let (stack, dir) = (stack(), scratch("restore-cost"));
    stack.ask(LONG_VALUES);
    let bytes = log_of_a_restore(&stack, &dir, "ai.message", "ai_message");
    println!("{bytes} bytes of log, {LONG} of values");
    assert!(bytes < LONG * 27 / 10, "{bytes} bytes");
}

#[test]
fn many_rows_of_empty_tables_are_worked_out_once() {
    if soak(true, false) {
        return;
    }
    let (stack, dir) = (stack(), scratch("restore-cost"));
    stack.ask(MANY_ROWS);
    let bytes = log_of_a_restore(&stack, &dir, "ai.token.usage", "ai_token_usage");
    println!("{} bytes of log a row", bytes / MANY);
    assert!(bytes / MANY < 800, "{bytes} bytes");
}

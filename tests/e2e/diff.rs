//! `arkstream diff`: what differs between two backups is what was changed between them.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use crate::support::{Run, Stack, arkstream, run, scratch, soak};

fn diff(first: &Path, second: &Path, words: &[&str]) -> Run {
    run(arkstream().arg("diff").arg(first).arg(second).args(words))
}

/// What `--json` says of a table.
fn table<'a>(report: &'a Value, name: &str) -> &'a Value {
    let tables = report["tables"].as_array().expect("a list");
    let found = tables.iter().find(|table| table["table"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {report:#}"))
}

fn ids(table: &Value, kind: &str) -> BTreeSet<i64> {
    let samples = table["samples"].as_array().expect("a list");
    let of_kind = samples.iter().filter(|row| row["is"] == kind);
    of_kind
        .map(|row| row["id"].as_i64().expect("an id"))
        .collect()
}

fn numbers(lines: &str) -> BTreeSet<i64> {
    let lines = lines
        .lines()
        .filter(|line| !line.starts_with(char::is_alphabetic));
    lines
        .map(|line| line.trim().parse().expect("an id"))
        .collect()
}

#[test]
fn two_backups_of_one_state_are_equal_and_each_change_is_told() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let sql = |text: &str| stack.server.psql(&database, text).expect("psql");
    let folder = scratch("diff");
    let [first, second, third] = ["1.zip", "2.zip", "3.zip"].map(|name| folder.join(name));
    for out in [&first, &second] {
        run(&mut stack.backup_of(&database, out)).ok();
    }
    let said = diff(&first, &second, &[]).ok().stdout;
    assert!(said.contains("nothing differs"), "{said}");
    let report = diff(&first, &second, &["--json"]).ok().json();
    assert_eq!(report["equal"], true, "{report:#}");
    let read = report["tables"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["passes"] != 0);
    let read: Vec<_> = read.map(|t| &t["table"]).collect();
    assert!(read.len() < 10, "equal parts need not be read: {read:?}");

    let changed = numbers(&sql(
        "UPDATE ai_message SET content = content || ' (edited)' \
         WHERE id IN (SELECT id FROM ai_message ORDER BY id LIMIT 3) RETURNING id",
    ));
    let added = numbers(&sql(
        "INSERT INTO ai_message (content, conversation_id, role) \
         SELECT 'a new one', conversation_id, 'user' FROM ai_message ORDER BY id LIMIT 2 RETURNING id",
    ));
    sql("ALTER TABLE ai_conversation ADD COLUMN shoe_size integer");
    sql("UPDATE ir_module_module SET latest_version = '18.0.9.9.9' WHERE name = 'ai_brain'");
    let file = sql(
        "DELETE FROM ir_attachment WHERE id = (SELECT min(id) FROM ir_attachment \
         WHERE res_model = 'ai.conversation' AND store_fname IN (SELECT store_fname \
         FROM ir_attachment GROUP BY 1 HAVING count(*) = 1)) RETURNING store_fname",
    );
    let file = file.lines().next().expect("a file").trim();
    run(&mut stack.backup_of(&database, &third)).ok();

    let report = diff(&second, &third, &["--json", "--limit", "10"])
        .expect_code(9)
        .json();
    assert_eq!(report["equal"], false);
    let messages = table(&report, "public.ai_message");
    assert_eq!((changed.len(), added.len()), (3, 2));
    assert_eq!(ids(messages, "changed"), changed);
    assert_eq!(ids(messages, "added"), added);
    for (what, number) in [("changed", 3), ("added", 2), ("removed", 0)] {
        assert_eq!(messages[what], number, "{what}");
    }
    let fields = &messages["samples"][0]["fields"];
    assert_eq!(fields.as_array().unwrap().len(), 1, "{fields:#}");
    assert_eq!(fields[0]["name"], "content");
    assert!(
        fields[0]["second"].as_str().unwrap().ends_with(" (edited)"),
        "{fields:#}"
    );
    let conversations = table(&report, "public.ai_conversation");
    assert_eq!(conversations["columns"]["added"], json!(["shoe_size"]));
    assert_eq!(conversations["changed"], 0, "a new column changes no row");
    assert_eq!(table(&report, "public.ir_attachment")["removed"], 1);
    let stores = report["stores"].as_array().unwrap();
    let filestore = stores
        .iter()
        .find(|s| s["component"] == "filestore")
        .unwrap();
    assert_eq!(
        filestore["removed"],
        json!([format!("odoo_data/filestore/{file}")])
    );
    for component in ["graph", "chroma"] {
        let store = stores.iter().find(|s| s["component"] == component).unwrap();
        assert_eq!(store["changed"], json!([]), "{component}");
    }
    let versions = report["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 1, "{versions:#?}");
    assert_eq!(versions[0]["what"], "module ai_brain");
    assert_eq!(versions[0]["second"], "18.0.9.9.9");

    let said = diff(&second, &third, &["--model", "ai.message", "--limit", "1"]);
    let said = said.expect_code(9).stdout;
    let first_id = changed.first().unwrap();
    for word in [
        &format!("ai.message, id {first_id}, changed"),
        "(edited)",
        "ai.message, id",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(said.matches(", changed\n").count(), 1, "{said}");
    assert!(
        !said.contains("ir_attachment") && !said.contains("ai_brain"),
        "{said}"
    );
    diff(&second, &third, &["--model", "ai.graph.nothing"])
        .expect_code(2)
        .says(&["neither bundle has a table of that model"]);
    // Of what was not changed, nothing is told.
    diff(&second, &third, &["--model", "ai.prompt.library"]).ok();
    diff(&second, &folder.join("none.zip"), &[]).expect_code(7);
}

/// Rows in a table with planted differences; a million in a soak.
#[test]
fn planted_differences_in_a_large_table_are_found_within_the_budget() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let sql = |text: &str| stack.server.psql(&database, text).expect("psql");
    let rows = soak(30_000, 1_000_000);
    sql(&format!(
        "INSERT INTO ai_message (id, content, conversation_id, role) \
         SELECT 1000000 + n, repeat(md5(n::text), 4), (SELECT min(id) FROM ai_conversation), 'user' \
         FROM generate_series(1, {rows}) n"
    ));
    let folder = scratch("planted");
    let backup = |name: &str| {
        let mut command = arkstream();
        command.args([
            "backup",
            "--no-filestore",
            "--no-graph",
            "--no-chroma",
            "--progress",
            "none",
        ]);
        command.args([
            "--no-report",
            "--models",
            "ai.message",
            "--odoo-db",
            &stack.url(&database),
        ]);
        run(command.arg("--out").arg(folder.join(name))).ok();
        folder.join(name)
    };
    let first = backup("first.zip");
    let step = rows / 500;
    let changed = numbers(&sql(&format!(
        "UPDATE ai_message SET token_count = 7 WHERE id > 1000000 AND id % {step} = 0 RETURNING id"
    )));
    let removed = numbers(&sql(&format!(
        "DELETE FROM ai_message WHERE id > 1000000 AND id % {step} = 1 \
         AND id <= 1000000 + {rows} / 2 RETURNING id"
    )));
    let added = numbers(&sql(
        "INSERT INTO ai_message (id, content, conversation_id, role) \
         SELECT 5000000 + n, 'new', (SELECT min(id) FROM ai_conversation), 'user' \
         FROM generate_series(1, 250) n RETURNING id",
    ));
    assert_eq!(changed.len() + removed.len() + added.len(), 1000);
    let second = backup("second.zip");
    let words = [
        "--json",
        "--model",
        "ai.message",
        "--limit",
        "1000",
        "--memory",
        "32MiB",
    ];
    let report = diff(&first, &second, &words).expect_code(9).json();
    let messages = table(&report, "public.ai_message");
    for (what, expected) in [("changed", changed), ("added", added), ("removed", removed)] {
        assert_eq!(messages[what], expected.len(), "{what}");
        assert_eq!(ids(messages, what), expected, "{what}");
    }
    // The program itself, and what it has read of the manifests, beside the budget.
    let peak = report["peak_memory_bytes"].as_u64().expect("a number");
    eprintln!("{rows} rows: {peak} bytes, {} passes", messages["passes"]);
    assert!(peak < (32 + 64) << 20, "{peak}");
}

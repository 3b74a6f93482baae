//! Every value in the bundle is the database's.

mod sequences;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Bundle, Profile, Stack, arkstream, python, run, scratch, soak, support_file};

/// Compares a bundle with a database by pyarrow and psql, tables that travel whole as wholes, and
/// lets DuckDB count. Returns what `compare.py` found, whatever that is.
pub(crate) fn compare(bundle: &Bundle, database: &str) -> Value {
    compare_on(Stack::shared(), bundle, database)
}

/// The same with a database of another stack's server.
pub(crate) fn compare_on(stack: &Stack, bundle: &Bundle, database: &str) -> Value {
    let psql = stack.server.bin_dir().join("psql");
    let mut command = python();
    command
        .arg(support_file("compare.py"))
        .arg(&bundle.dir)
        .arg("--duckdb");
    let psql = format!("{} -d '{}'", psql.display(), stack.url(database));
    command.args(["--psql", &psql]);
    for table in whole_tables(bundle) {
        command.args(["--whole", &table]);
    }
    let run = run(&mut command);
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    run.json()
}

/// Tables of the manifest that are there with all rows and all columns.
fn whole_tables(bundle: &Bundle) -> BTreeSet<String> {
    tables(bundle)
        .into_iter()
        .filter(|table| {
            table["filter"].is_null() && table["columns_left_out"] == json!([]) && is_stored(table)
        })
        .map(|table| table["table"].as_str().expect("a name").to_owned())
        .collect()
}

/// Rows of a query, such as the states of sequences, are no table of the database.
fn is_stored(table: &Value) -> bool {
    table["table"].as_str().expect("a name").contains('.')
}

fn tables(bundle: &Bundle) -> Vec<Value> {
    bundle.json("manifest.json")["tables"]
        .as_array()
        .expect("a list")
        .clone()
}

/// `SELECT count(*)` of each table: of itself, or of its leaves when it is partitioned.
fn live_counts(tables: &BTreeSet<String>) -> BTreeMap<String, u64> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let counts: Vec<String> = tables
        .iter()
        .map(|table| {
            let (schema, name) = table.split_once('.').expect("qualified");
            let name = format!("{}.{}", quoted(schema), quoted(name));
            format!(
                "SELECT '{table}', CASE WHEN (SELECT relkind FROM pg_class WHERE oid = '{name}'::regclass) = 'p' \
                 THEN (SELECT count(*) FROM {name}) ELSE (SELECT count(*) FROM ONLY {name}) END"
            )
        })
        .collect();
    let answer = Stack::shared().ask(&counts.join(" UNION ALL "));
    answer
        .lines()
        .map(|line| {
            let (table, count) = line.split_once('|').expect("two columns");
            (table.to_owned(), count.parse().expect("a number"))
        })
        .collect()
}

fn holds_the_values_of_the_database(profile: Profile) -> Value {
    let bundle = Bundle::shared(profile);
    let found = compare(bundle, &Stack::shared().odoo);
    assert_eq!(found["difference_count"], 0, "{:#}", found["differences"]);

    let compared: BTreeSet<&str> = found["compared"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let all = tables(bundle);
    let stored: Vec<_> = all.iter().filter(|table| is_stored(table)).collect();
    let names: BTreeSet<&str> = stored
        .iter()
        .filter_map(|table| table["table"].as_str())
        .collect();
    assert_eq!(compared, names, "each table of the manifest is compared");
    let rows: u64 = stored
        .iter()
        .map(|table| table["rows"].as_u64().expect("a number"))
        .sum();
    assert_eq!(found["rows"], rows, "each row of the manifest is compared");

    let whole = whole_tables(bundle);
    for (table, count) in live_counts(&whole) {
        assert_eq!(
            found["duckdb_counts"][&table], count,
            "DuckDB's count of {table}"
        );
    }
    found
}

#[test]
fn every_value_of_the_sam_ai_profile_equals_the_databases() {
    let found = holds_the_values_of_the_database(Profile::SamAi);
    assert!(found["tables"].as_u64() > Some(100), "{}", found["tables"]);
    assert!(
        found["values"].as_u64() > Some(30_000),
        "{}",
        found["values"]
    );
}

#[test]
fn every_value_of_the_whole_database_equals_the_databases() {
    holds_the_values_of_the_database(Profile::All);
    let bundle = Bundle::shared(Profile::All);
    // Of the whole database, every table travels whole, the support tables included.
    let stored = tables(bundle).into_iter().filter(is_stored).count();
    assert_eq!(whole_tables(bundle).len(), stored);
    // Leaves travel with their partitioned table; everything else is listed by its own name.
    let in_database = Stack::shared().ask(
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition \
         AND relnamespace = 'public'::regnamespace",
    );
    assert_eq!(in_database, stored.to_string());
}

/// The comparison above is worth something only if it sees one changed value of any kind.
#[test]
fn the_comparison_finds_a_single_changed_value_in_each_column_of_the_type_matrix() {
    let stack = Stack::shared();
    let bundle = Bundle::shared(Profile::SamAi);
    let database = stack.fresh_database();
    let columns = type_matrix_columns();
    assert!(columns.len() > 95, "{columns:?}");
    // Row 0 is NULL in every column but the key; it takes row 1's values.
    let (names, values): (Vec<_>, Vec<_>) = columns
        .iter()
        .filter(|c| *c != "id")
        .map(|c| (format!("\"{c}\""), format!("b.\"{c}\"")))
        .unzip();
    let (names, values) = (names.join(", "), values.join(", "));
    let sql = format!(
        "UPDATE x_type_matrix a SET ({names}) = (SELECT {values} FROM x_type_matrix b WHERE b.id = 1) WHERE a.id = 0"
    );
    stack.server.psql(&database, &sql).expect("an update");
    let folder = scratch("matrix");
    let part = "odoo_data/models/sam.type.matrix";
    crate::support::sh(
        &folder,
        &format!(
            "mkdir -p odoo_data/models && cp -r '{}' odoo_data/models/",
            bundle.dir.join(part).display()
        ),
    );
    let mut command = python();
    let psql = format!("psql -d '{}'", stack.url(&database));
    command
        .arg(support_file("compare.py"))
        .arg(&folder)
        .args(["--psql", &psql, "--shown", "1000"]);
    let found = run(&mut command).expect_code(1).json();
    let differing: BTreeSet<&str> = found["differences"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|difference| difference["column"].as_str())
        .collect();
    let expected: BTreeSet<&str> = columns
        .iter()
        .map(String::as_str)
        .filter(|column| *column != "id")
        .collect();
    assert_eq!(differing, expected);
}

fn type_matrix_columns() -> Vec<String> {
    let answer = Stack::shared().ask(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'x_type_matrix'::regclass AND attnum > 0 \
         AND NOT attisdropped ORDER BY attnum",
    );
    answer.lines().map(str::to_owned).collect()
}

/// A table of many block ranges, with holes and updated rows, read by several connections under a
/// small budget: each row is in exactly one part.
#[test]
fn a_table_in_many_parts_loses_no_row_and_no_value() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let rows = soak(60_000, 600_000);
    let sql = format!(
        "CREATE TABLE sam_many (id serial PRIMARY KEY, name text, data jsonb, cost numeric, at timestamp);
         INSERT INTO sam_many (name, data, cost, at) SELECT repeat(md5(i::text), 1 + i % 20), jsonb_build_object('n', i), \
            CASE WHEN i % 1000 = 0 THEN 'NaN' ELSE i / 8.0 END, timestamp '2024-01-01' + i * interval '1 second' \
            FROM generate_series(1, {rows}) i;
         DELETE FROM sam_many WHERE id % 7 = 0 OR id BETWEEN 3000 AND 6000;
         UPDATE sam_many SET name = name || ' again' WHERE id % 5 = 0;
         INSERT INTO ir_model (id, name, model, \"order\", state, transient)
            VALUES (9001, '{{\"en_US\": \"Many\"}}', 'sam.many', 'id', 'base', false)"
    );
    stack.server.psql(&database, &sql).expect("a large table");
    let path = scratch("many").join("bundle.zip");
    let mut command = arkstream();
    command.args([
        "backup",
        "--json",
        "--progress",
        "none",
        "--memory",
        "32MiB",
        "--jobs",
        "2",
    ]);
    command.args([
        "--no-filestore",
        "--no-graph",
        "--no-chroma",
        "--models",
        "sam.many",
    ]);
    command
        .args(["--odoo-db", &stack.url(&database)])
        .arg("--out")
        .arg(&path);
    let run = run(&mut command).ok();
    let bundle = Bundle::open(path, run.json(), run.stderr);
    let entry = bundle.table("public.sam_many");
    let parts = entry["parts"].as_array().expect("a list");
    assert!(parts.len() > 3, "{} parts", parts.len());
    // The ranges follow each other without a gap, and the last one is open-ended.
    for pair in parts.windows(2) {
        assert_eq!(pair[0]["end_block"], pair[1]["first_block"], "{pair:?}");
    }
    assert_eq!(parts[0]["first_block"], 0);
    assert!(parts.last().expect("one")["end_block"].is_null());
    let found = compare(&bundle, &database);
    assert_eq!(found["difference_count"], 0, "{:#}", found["differences"]);
    let count = stack
        .server
        .psql(&database, "SELECT count(*) FROM sam_many")
        .expect("psql");
    assert_eq!(found["duckdb_counts"]["public.sam_many"].to_string(), count);
}

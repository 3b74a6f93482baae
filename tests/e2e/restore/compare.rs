//! Source and target side by side, as the server prints their rows, the ids of users, partners and
//! companies brought back by arithmetic. Shares no code with the program.

use std::collections::BTreeMap;

use super::stage::{Place, source};

/// How far [`Place::shifted`] moved ids.
const SHIFT: i64 = 1000;

/// Tables whose ids were moved.
const MOVED: [&str; 3] = ["res_users", "res_partner", "res_company"];

/// The tables of the bundle that hold all rows of their live tables.
pub(crate) fn whole_tables(manifest: &serde_json::Value) -> Vec<String> {
    manifest["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .filter(|table| {
            table["filter"].is_null()
                && table["columns_left_out"]
                    .as_array()
                    .is_none_or(Vec::is_empty)
                && table["table"]
                    .as_str()
                    .is_some_and(|name| name.contains('.'))
        })
        .map(|table| table["table"].as_str().expect("a name").to_owned())
        .collect()
}

/// The rows of a table of the source, as the target must have them.
#[track_caller]
pub(crate) fn rows(database: &str, table: &str, moved: bool) -> Vec<String> {
    let columns = columns(database, table);
    let (_, name) = table.split_once('.').expect("a schema");
    let list: Vec<String> = columns
        .iter()
        .map(|(column, kind)| match kind.as_str() {
            "key" if moved => format!("{column} - {SHIFT}"),
            "company" if moved => format!(
                "CASE WHEN jsonb_typeof({column}) = 'object' THEN (SELECT COALESCE(jsonb_object_agg( \
                 CASE WHEN key ~ '^[0-9]+$' THEN (key::int8 - {SHIFT})::text ELSE key END, value), '{{}}') FROM jsonb_each({column})) ELSE {column} END"
            ),
            // What leads to rows that nobody knows again cannot follow them to another database.
            "reference" => format!("CASE WHEN {column} !~ '^(res|sale|project)[.]' THEN {column} END"),
            _ => column.clone(),
        })
        .collect();
    // A partitioned table has its rows in its partitions.
    let kind = format!(
        "SELECT relkind FROM pg_class WHERE oid = '{}'::regclass",
        quoted(name)
    );
    let kind = source().server.psql(database, &kind).expect("psql");
    let sql = format!(
        "SET row_security = off; SELECT regexp_replace(ROW({})::text, '/web/(image|content)/[0-9]+', '/web/link', 'g') FROM {} {} ORDER BY 1",
        list.join(", "),
        if kind == "p" { "" } else { "ONLY" },
        quoted(name)
    );
    let text = source().server.psql(database, &sql).expect("psql");
    text.lines().map(str::to_owned).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Columns with what their values lead to.
fn columns(database: &str, table: &str) -> Vec<(String, String)> {
    let (schema, name) = table.split_once('.').expect("a schema");
    let moved: Vec<String> = MOVED
        .iter()
        .map(|name| format!("'{name}'::regclass"))
        .collect();
    let sql = format!(
        "SELECT quote_ident(a.attname) || '|' || CASE \
           WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = a.attrelid \
             AND k.conkey[1] = a.attnum AND k.confrelid IN ({})) OR EXISTS (SELECT FROM ir_model_fields f WHERE f.name = a.attname \
             AND f.ttype = 'many2one' AND NOT f.company_dependent AND replace(f.model, '.', '_') IN ('{name}', 'sam_knowledge_doc') \
             AND f.relation IN ('res.users', 'res.partner', 'res.company')) THEN 'key' \
           WHEN EXISTS (SELECT FROM ir_model_fields f WHERE f.name = a.attname AND f.company_dependent \
             AND replace(f.model, '.', '_') = '{name}') THEN 'company' \
           WHEN EXISTS (SELECT FROM ir_model_fields f WHERE f.name = a.attname AND f.ttype = 'reference' \
             AND replace(f.model, '.', '_') = '{name}') THEN 'reference' ELSE '' END \
         FROM pg_attribute a WHERE a.attrelid = '{}.{}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        moved.join(", "),
        quoted(schema),
        quoted(name)
    );
    let text = source().server.psql(database, &sql).expect("psql");
    text.lines()
        .map(|line| {
            let (column, kind) = line.rsplit_once('|').expect("two fields");
            (column.to_owned(), kind.to_owned())
        })
        .collect()
}

/// The tables of which source and target differ, with a first difference.
#[track_caller]
pub(crate) fn differing(place: &Place, tables: &[String], moved: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for table in tables {
        let expected = rows(&source().odoo, table, false);
        let live = rows(&place.database, table, moved);
        if expected != live {
            let first = expected
                .iter()
                .zip(&live)
                .find(|(a, b)| a != b)
                .map_or_else(String::new, |(a, b)| format!("\n  {a}\n  {b}"));
            found.insert(
                table.clone(),
                format!("{} rows, {} live{first}", expected.len(), live.len()),
            );
        }
    }
    found
}

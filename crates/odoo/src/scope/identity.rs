//! Rows that are referred to and do not travel: enough of them to be known again.
//!
//! A message names its author, a profile its company. Those rows belong to somebody else, so only
//! columns travel by which a restore finds them in the target database: names, logins, codes, and
//! their external ids. The columns are a list of allowed names; beyond it, a column whose name
//! smells of a secret never travels.
//!
//! References are followed one step. Users and companies lead one step further, to their partners
//! and companies, because that is where their names are.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_postgres::{CatalogTable, TableTask, quote_ident};

use super::builder::Builder;
use super::filter::{Condition, ids_of};
use super::{KnownRows, support};

/// Columns by which rows are known again.
const IDENTITY: &[&str] = &[
    "id",
    "name",
    "complete_name",
    "display_name",
    "technical_name",
    "login",
    "email",
    "code",
    "iso_code",
    "url_code",
    "symbol",
    "ref",
    "default_code",
    "barcode",
    "vat",
    "company_registry",
    "active",
    "type",
    "model",
    "module",
    "res_model",
    "sequence_code",
    "xml_id",
    "partner_id",
    "company_id",
];

/// Columns that are an identity in one table and may be a secret in another.
const IDENTITY_OF: &[(&str, &str)] = &[("ir_ui_view", "key"), ("ir_config_parameter", "key")];

/// No column whose name holds one of these ever travels with an identity.
const SECRET: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "totp",
    "private_key",
    "salt",
    "hash",
    "signature",
];

/// Tables whose identity needs another table's, in the order in which they are followed.
const STEPS: &[(&str, &str, &str)] = &[
    ("res_users", "company_id", "res_company"),
    ("res_users", "partner_id", "res_partner"),
    ("res_company", "partner_id", "res_partner"),
];

/// Where those steps begin.
pub const FOLLOWED: [&str; 2] = ["res_users", "res_company"];

/// Queries that give values of columns.
type Queries = BTreeMap<Vec<String>, BTreeSet<String>>;

/// Rows to identify, by the table's object id.
type Wanted = BTreeMap<u32, Queries>;

/// Adds the identity rows, and the external ids of all that travels.
pub(super) fn add(builder: &mut Builder<'_>, known: &KnownRows) {
    let mut wanted = Wanted::new();
    for task in builder.tasks() {
        collect(builder, task, &mut wanted);
    }
    // What others are followed from comes first.
    for table in FOLLOWED {
        let oid = builder.odoo(table).map(|table| table.table.oid);
        add_table(builder, &mut wanted, known, oid);
        for (_, column, target) in STEPS.iter().filter(|(from, ..)| *from == table) {
            step(builder, &mut wanted, table, column, target);
        }
    }
    let left: Vec<u32> = wanted.keys().copied().collect();
    for oid in left {
        add_table(builder, &mut wanted, known, Some(oid));
    }
    support::add_external_ids(builder);
}

fn add_table(builder: &mut Builder<'_>, wanted: &mut Wanted, known: &KnownRows, oid: Option<u32>) {
    let table = oid.and_then(|oid| builder.catalog.by_oid(oid));
    let queries = oid.and_then(|oid| wanted.remove(&oid));
    if let (Some(table), Some(queries)) = (table, queries) {
        let columns = columns_of(table, &queries);
        let conditions = match known.get(&table.table.oid) {
            Some(ids) => [Condition::ids(ids)].into(),
            None => conditions(queries),
        };
        builder.add_identity(table, &conditions, columns);
    }
}

/// The columns of a table that identify its rows.
#[must_use]
pub fn identity_columns(table: &CatalogTable) -> Vec<String> {
    let allowed = |name: &str| {
        IDENTITY.contains(&name)
            || IDENTITY_OF.contains(&(table.table.name.as_str(), name))
            || table.primary_key.iter().any(|column| column == name)
    };
    table
        .columns
        .iter()
        .map(|column| column.pg.name.as_str())
        .filter(|name| allowed(name) && !is_secret(name))
        .map(str::to_owned)
        .collect()
}

fn columns_of(table: &CatalogTable, queries: &Queries) -> Vec<String> {
    let mut columns = identity_columns(table);
    let referenced: BTreeSet<&String> = queries.keys().flatten().collect();
    for column in referenced {
        if !columns.contains(column) && !is_secret(column) {
            columns.push(column.clone());
        }
    }
    columns
}

fn is_secret(column: &str) -> bool {
    let column = column.to_lowercase();
    SECRET.iter().any(|word| column.contains(word))
}

/// The foreign keys of a task that lead out of the bundle.
fn collect(builder: &Builder<'_>, task: &TableTask, wanted: &mut Wanted) {
    // Single-column keys to one column of one table are read in one scan.
    let mut scans: BTreeMap<(u32, &[String]), Vec<&[String]>> = BTreeMap::new();
    for key in &task.table.foreign_keys {
        let Some(target) = builder.named(&key.references) else {
            continue;
        };
        if builder.planned(target.table.oid).is_none() {
            let columns = (target.table.oid, key.referenced_columns.as_slice());
            scans.entry(columns).or_default().push(&key.columns);
        }
    }
    for ((oid, referenced), keys) in scans {
        let query = referring(builder, task, &keys);
        wanted
            .entry(oid)
            .or_default()
            .entry(referenced.to_vec())
            .or_default()
            .insert(query);
    }
}

/// `SELECT r.… FROM ONLY table t, LATERAL (VALUES (t.a), (t.b)) r WHERE …`.
fn referring(builder: &Builder<'_>, task: &TableTask, keys: &[&[String]]) -> String {
    let width = keys.first().map_or(0, |columns| columns.len());
    let names: Vec<String> = (1..=width).map(|number| format!("v{number}")).collect();
    let values: Vec<String> = keys
        .iter()
        .map(|columns| {
            let columns: Vec<_> = columns
                .iter()
                .map(|c| format!("t.{}", quote_ident(c)))
                .collect();
            format!("({})", columns.join(", "))
        })
        .collect();
    let given: Vec<_> = names
        .iter()
        .map(|name| format!("r.{name} IS NOT NULL"))
        .collect();
    let mut rows = builder.rows(task);
    rows.from = format!(
        "{}, LATERAL (VALUES {}) r({})",
        rows.from,
        values.join(", "),
        names.join(", ")
    );
    let selected: Vec<_> = names.iter().map(|name| format!("r.{name}")).collect();
    format!(
        "SELECT {} {}",
        selected.join(", "),
        rows.and(&given.join(" AND "))
    )
}

/// Follows a column of identity rows to another table.
fn step(builder: &Builder<'_>, wanted: &mut Wanted, table: &str, column: &str, target: &str) {
    let (Some(table), Some(target)) = (builder.odoo(table), builder.odoo(target)) else {
        return;
    };
    let Some(task) = builder
        .planned(table.table.oid)
        .filter(|task| task.columns.is_some())
    else {
        return;
    };
    if table.column(column).is_some() && builder.planned(target.table.oid).is_none() {
        let query = ids_of(&builder.rows(task), column);
        let queries = wanted.entry(target.table.oid).or_default();
        queries
            .entry(vec!["id".to_owned()])
            .or_default()
            .insert(query);
    }
}

fn conditions(queries: Queries) -> BTreeSet<Condition> {
    queries
        .into_iter()
        .map(|(columns, queries)| {
            let columns: Vec<_> = columns.iter().map(String::as_str).collect();
            let queries: Vec<_> = queries.iter().map(String::as_str).collect();
            Condition::any(&columns, queries.join(" UNION "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_allowed_column_smells_of_a_secret() {
        for name in IDENTITY {
            assert!(!is_secret(name), "{name}");
        }
        for name in [
            "password",
            "new_password",
            "totp_secret",
            "access_token",
            "API_KEY",
            "signup_token",
            "private_key",
            "salt",
            "password_hash",
            "signature",
            "x_apikey",
        ] {
            assert!(is_secret(name), "{name}");
        }
    }
}

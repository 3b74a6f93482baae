//! Rows that the bundle only refers to: found again by what identifies them, never written.
//!
//! By external id first; by id where bundle and target are one database and what names the row is
//! equal on both sides; then by login, code or name where it names exactly one row on either
//! side. What is ambiguous is not found: a private row must not reach the wrong person.

use arkstream_pipeline::Failure;
use arkstream_postgres::CatalogTable;

use super::maps::Mapping;
use super::tables::{Class, Table, col};

/// What names a row, by table: each entry is tried in turn.
const NAMES: &[(&str, &[&[&str]])] = &[
    ("res_users", &[&["login"]]),
    ("res_company", &[&["name"]]),
    ("res_currency", &[&["name"]]),
    ("res_lang", &[&["code"]]),
    ("res_country", &[&["code"]]),
    ("ir_model", &[&["model"]]),
    ("ir_model_fields", &[&["model", "name"]]),
    ("ir_module_module", &[&["name"]]),
    ("ir_config_parameter", &[&["key"]]),
    ("ir_ui_view", &[&["key"]]),
    ("mail_message_subtype", &[&["name", "res_model"], &["name"]]),
    ("res_partner", &[&["name", "email"]]),
];

/// For all other tables, the first of these that both sides have.
const OTHERS: &[&str] = &[
    "complete_name",
    "technical_name",
    "login",
    "code",
    "key",
    "name",
];

/// Whose partner is known because the row itself is.
const OWN_PARTNER: &[&str] = &["res_users", "res_company"];

/// Fills the maps of all identity tables.
pub(super) async fn fill(mapping: &Mapping<'_>) -> Result<(), Failure> {
    let mut tables: Vec<&Table> = mapping
        .tables
        .of(Class::Identity)
        .filter(|table| table.has_id())
        .collect();
    // Users and companies lead to their partners.
    tables.sort_by_key(|table| {
        (
            !OWN_PARTNER.contains(&table.name()),
            table.entry.table.clone(),
        )
    });
    for table in tables {
        mapping.by_external_id(table).await?;
        let names = names_of(table);
        if mapping.resolving.same_database {
            by_id(mapping, table, &names).await?;
        }
        if table.name() == "res_partner" {
            for owner in OWN_PARTNER {
                by_owner(mapping, table, owner).await?;
            }
        }
        for name in &names {
            by_name(mapping, table, name).await?;
        }
        let nothing = format!("UPDATE {} SET write = false", mapping.map(table));
        mapping.run(table, &nothing).await?;
        mapping.publish(table).await?;
    }
    Ok(())
}

/// What names the rows of a table, as far as both sides have it.
fn names_of(table: &Table) -> Vec<Vec<String>> {
    let owned = |columns: &[&str]| -> Vec<String> {
        columns.iter().map(|column| (*column).to_owned()).collect()
    };
    match NAMES.iter().find(|(name, _)| *name == table.name()) {
        Some((_, names)) => names
            .iter()
            .map(|columns| owned(columns))
            .filter(|columns| columns.iter().all(|column| table.has(column)))
            .collect(),
        None => OTHERS
            .iter()
            .filter(|column| table.has(column))
            .map(|column| owned(&[column]))
            .take(1)
            .collect(),
    }
}

/// Rows of the same id that are named alike. A table whose rows have no name is not mapped by id
/// either.
async fn by_id(mapping: &Mapping<'_>, table: &Table, names: &[Vec<String>]) -> Result<(), Failure> {
    let Some(columns) = names.first() else {
        return Ok(());
    };
    let sql = format!(
        "INSERT INTO {map} SELECT w.id, t.id, 'id', false FROM {w} w JOIN {live} t ON t.id = w.id \
         WHERE {} = {} ON CONFLICT DO NOTHING",
        key("w", columns, &table.live),
        key("t", columns, &table.live),
        map = mapping.map(table),
        w = mapping.typed(table),
        live = table.only_live(),
    );
    mapping.run(table, &sql).await
}

/// Partners of users or companies that were found.
async fn by_owner(mapping: &Mapping<'_>, partners: &Table, owner: &str) -> Result<(), Failure> {
    let Some(owner) = mapping
        .tables
        .odoo(owner)
        .filter(|table| table.has_id() && table.has("partner_id"))
    else {
        return Ok(());
    };
    let sql = format!(
        "INSERT INTO {map} SELECT DISTINCT ON (t.partner_id) w.partner_id, t.partner_id, 'key', false \
         FROM {w} w JOIN {owners} m ON m.old = w.id JOIN {live} t ON t.id = m.new \
         JOIN {p} p ON p.id = w.partner_id WHERE t.partner_id IS NOT NULL \
         ORDER BY t.partner_id, w.partner_id ON CONFLICT DO NOTHING",
        map = mapping.map(partners),
        w = mapping.typed(owner),
        owners = mapping.map(owner),
        live = owner.only_live(),
        p = mapping.typed(partners),
    );
    mapping.run(partners, &sql).await
}

/// Rows whose name is the name of exactly one row on either side.
async fn by_name(mapping: &Mapping<'_>, table: &Table, columns: &[String]) -> Result<(), Failure> {
    let side = |from: &str, alias: &str| {
        format!(
            "(SELECT pg_catalog.min({alias}.id) AS id, {key} AS key FROM {from} {alias} \
             WHERE {first} IS NOT NULL GROUP BY 2 HAVING pg_catalog.count(*) = 1)",
            key = key(alias, columns, &table.live),
            first = columns
                .first()
                .map_or("NULL".to_owned(), |column| col(alias, column)),
        )
    };
    let sql = format!(
        "INSERT INTO {map} SELECT b.id, l.id, 'name', false FROM {} b JOIN {} l ON l.key = b.key \
         ON CONFLICT DO NOTHING",
        side(&mapping.typed(table), "w"),
        side(&table.only_live(), "t"),
        map = mapping.map(table),
    );
    mapping.run(table, &sql).await
}

/// The text of the columns that name a row. Of translated names the English one counts.
fn key(alias: &str, columns: &[String], live: &CatalogTable) -> String {
    let values: Vec<String> = columns
        .iter()
        .map(|column| {
            let value = col(alias, column);
            match live.column(column).map(|c| c.pg.type_name.as_str()) {
                Some("jsonb") => format!("COALESCE({value} ->> 'en_US', {value}::pg_catalog.text)"),
                _ => value,
            }
        })
        .collect();
    format!("ROW({})::pg_catalog.text", values.join(", "))
}

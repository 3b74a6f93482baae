//! Rows that the bundle only refers to: found again by what identifies them, never written.
//!
//! By external id first; by id where bundle and target are one database and what names the row, or the
//! moment of its creation, is equal on both sides; then by login, code or name where it names exactly one row on either
//! side. What is ambiguous is not found: a private row must not reach the wrong person.
//!
//! The bundle has only those persons that its rows refer to, so it cannot tell whether a person's
//! name occurred once where it was taken. Persons are therefore found by e-mail and name together,
//! or by a column that the database itself keeps unique, never by name alone.

use arkstream_pipeline::Failure;
use arkstream_postgres::{CatalogTable, failure_of};

use super::maps::Mapping;
use super::tables::{Class, Table, col, row_text};

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
    ("res_partner", &[&["email", "name"]]),
];

/// Tables of persons, beside those with a column of [`CONTACT`].
const PERSONS: &[&str] = &[
    "res_users",
    "res_partner",
    "hr_employee",
    "mail_guest",
    "calendar_attendee",
];

/// Columns by which a person is reached.
const CONTACT: &[&str] = &[
    "email",
    "email_from",
    "email_normalized",
    "work_email",
    "private_email",
    "login",
    "phone",
    "mobile",
    "mobile_phone",
    "work_phone",
    "private_phone",
];

/// What may be known of a person and unique.
const UNIQUE: &[&str] = &["login", "code", "barcode", "ref", "technical_name"];

/// For all other tables, the first of these that both sides have.
const OTHERS: &[&str] = &[
    "complete_name",
    "technical_name",
    "login",
    "code",
    "key",
    "name",
];

/// How many persons under other names are listed, by table.
const SHOWN: usize = 20;

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
        let telling = if is_person(table) {
            telling(mapping, table).await?
        } else {
            names
        };
        for name in &telling {
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

fn is_person(table: &Table) -> bool {
    let listed = NAMES.iter().any(|(name, _)| *name == table.name());
    PERSONS.contains(&table.name())
        || !listed
            && CONTACT
                .iter()
                .any(|column| table.live.column(column).is_some())
}

/// What tells one person from all others: the login, other columns that the target keeps unique, and
/// e-mail and name together.
async fn telling(mapping: &Mapping<'_>, table: &Table) -> Result<Vec<Vec<String>>, Failure> {
    let sql = "SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a \
               ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = $1 AND i.indisunique \
               AND i.indisvalid AND i.indnkeyatts = 1 AND i.indpred IS NULL";
    let rows = mapping
        .client
        .query(sql, &[&table.live.table.oid])
        .await
        .map_err(|error| {
            failure_of(
                &format!("look for what is unique in {}", table.entry.table),
                &error,
            )
        })?;
    let unique: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut found: Vec<Vec<String>> = UNIQUE
        .iter()
        .filter(|column| table.has(column) && unique.iter().any(|name| name == *column))
        .map(|column| vec![(*column).to_owned()])
        .collect();
    if table.has("email") {
        let more = table.has("name").then(|| "name".to_owned());
        found.push(std::iter::once("email".to_owned()).chain(more).collect());
    }
    Ok(found)
}

/// Persons that were found, for people, though login, e-mail or name differ: an external id or an
/// owner says that they are the same.
pub(super) async fn differing(mapping: &Mapping<'_>) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for table in mapping
        .tables
        .of(Class::Identity)
        .filter(|table| table.has_id() && is_person(table))
    {
        let columns: Vec<&str> = ["login", "email", "name"]
            .into_iter()
            .filter(|column| table.has(column))
            .collect();
        if columns.is_empty() {
            continue;
        }
        let shown = |alias: &str| {
            let values: Vec<String> = columns
                .iter()
                .map(|column| format!("{}::pg_catalog.text", col(alias, column)))
                .collect();
            format!(
                "pg_catalog.left(pg_catalog.concat_ws(', ', {}), 80)",
                values.join(", ")
            )
        };
        let sql = format!(
            "SELECT w.id::pg_catalog.text, {}, m.new::pg_catalog.text, {}, m.how, pg_catalog.count(*) OVER () \
             FROM {} m JOIN {} w ON w.id = m.old JOIN {} t ON t.id = m.new WHERE {} <> {} ORDER BY m.old LIMIT {SHOWN}",
            shown("w"),
            shown("t"),
            mapping.map(table),
            mapping.typed(table),
            table.only_live(),
            row_text("w", columns.iter().copied()),
            row_text("t", columns.iter().copied()),
        );
        let rows = mapping.client.query(&sql, &[]).await.map_err(|error| {
            failure_of(
                &format!(
                    "look for persons of {} under other names",
                    table.entry.table
                ),
                &error,
            )
        })?;
        for row in &rows {
            let text = |index: usize| row.get::<_, String>(index);
            let how = match text(4).as_str() {
                "key" => "as the partner of the same user or company".to_owned(),
                how => format!("by {how}"),
            };
            lines.push(format!(
                "{} {} ({}) is taken for {} ({}), {how}",
                table.entry.table,
                text(0),
                text(1),
                text(2),
                text(3)
            ));
        }
        let all = rows
            .first()
            .map_or(0, |row| row.get::<_, i64>(5))
            .unsigned_abs();
        if all > rows.len() as u64 {
            lines.push(format!(
                "{}: {} more are taken for persons with another login, e-mail or name",
                table.entry.table,
                all - rows.len() as u64
            ));
        }
    }
    Ok(lines)
}

/// Rows of the same id that are named alike, or were created at the same moment.
async fn by_id(mapping: &Mapping<'_>, table: &Table, names: &[Vec<String>]) -> Result<(), Failure> {
    let mut same = Vec::new();
    if let Some(columns) = names.first() {
        same.push(format!(
            "{} = {}",
            key("w", columns, &table.live),
            key("t", columns, &table.live)
        ));
    }
    if table.has("create_date") {
        same.push("w.create_date = t.create_date".to_owned());
    }
    if same.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {map} SELECT w.id, t.id, 'id', false FROM {w} w JOIN {live} t ON t.id = w.id \
         WHERE {same} ON CONFLICT DO NOTHING",
        same = same.join(" OR "),
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
             WHERE {first} <> '' GROUP BY 2 HAVING pg_catalog.count(*) = 1)",
            key = key(alias, columns, &table.live),
            first = columns.first().map_or("NULL".to_owned(), |column| {
                format!("{}::pg_catalog.text", col(alias, column))
            }),
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

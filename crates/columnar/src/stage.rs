//! The staging table of a part: which columns it has, and how the live values come out of them.
//!
//! Every field of the part's schema becomes one column. A typed field has the PostgreSQL type of
//! its column, so the wire values of COPY BINARY are those the server once sent. A text field
//! (companions, and types without an Arrow equivalent) is staged as `text`, and the type's own
//! input function reads it back: `expression` casts it.
//!
//! Type names come out of a file and go into SQL, so only names of the table below are taken, and
//! they are written anew from it.

use std::collections::HashMap;

use arrow_schema::Schema;

use crate::error::StageError;
use crate::layout::{KEY_COMPANION, KEY_ENCODING, KEY_PG_TYPE};
use crate::select::quote_identifier;

/// One column of a staging table, in COPY order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageColumn {
    /// Its name.
    pub name: String,
    /// Its type as SQL.
    pub sql_type: String,
}

/// How values stand on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Char,
    Jsonb,
    Bytea,
    Date,
    Timestamp,
    Time,
    Uuid,
}

/// A typed column: its element's wire form and OID, and whether it is an array of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) wire: Wire,
    pub(crate) oid: u32,
    pub(crate) array: bool,
}

/// Name without modifiers, wire form, OID, whether it takes modifiers.
const TYPES: &[(&str, Wire, u32, bool)] = &[
    ("boolean", Wire::Bool, 16, false),
    ("bytea", Wire::Bytea, 17, false),
    ("\"char\"", Wire::Char, 18, false),
    ("name", Wire::Text, 19, false),
    ("bigint", Wire::Int8, 20, false),
    ("smallint", Wire::Int2, 21, false),
    ("integer", Wire::Int4, 23, false),
    ("text", Wire::Text, 25, false),
    ("json", Wire::Text, 114, false),
    ("real", Wire::Float4, 700, false),
    ("double precision", Wire::Float8, 701, false),
    ("bpchar", Wire::Text, 1042, false),
    ("character", Wire::Text, 1042, true),
    ("character varying", Wire::Text, 1043, true),
    ("date", Wire::Date, 1082, false),
    ("time without time zone", Wire::Time, 1083, true),
    ("timestamp without time zone", Wire::Timestamp, 1114, true),
    ("timestamp with time zone", Wire::Timestamp, 1184, true),
    ("numeric", Wire::Numeric, 1700, true),
    ("uuid", Wire::Uuid, 2950, false),
    ("jsonb", Wire::Jsonb, 3802, false),
];

/// What becomes of one field of the schema.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) column: StageColumn,
    pub(crate) pg_type: String,
    /// `None`: text.
    pub(crate) typed: Option<Typed>,
    pub(crate) companion: Option<String>,
}

/// The fields of a part's schema.
pub(crate) fn fields(schema: &Schema) -> Result<Vec<Field>, StageError> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let metadata = field.metadata();
            let pg_type = of(metadata, KEY_PG_TYPE);
            let typed = if of(metadata, KEY_ENCODING) == "native" {
                let Some((sql_type, typed)) = parse(&pg_type) else {
                    let column = field.name().clone();
                    return Err(StageError::Type { column, pg_type });
                };
                Some((sql_type, typed))
            } else {
                None
            };
            let sql_type = typed
                .as_ref()
                .map_or_else(|| "pg_catalog.text".to_owned(), |(sql, _)| sql.clone());
            Ok(Field {
                column: StageColumn {
                    name: field.name().clone(),
                    sql_type,
                },
                pg_type,
                typed: typed.map(|(_, typed)| typed),
                companion: metadata.get(KEY_COMPANION).cloned(),
            })
        })
        .collect()
}

/// SQL for a column's live value, from the row alias.
pub(crate) fn expression(field: &Field, alias: &str, target_type: &str) -> String {
    let column = |name: &str| format!("{alias}.{}", quote_identifier(name));
    let value = column(&field.column.name);
    match &field.companion {
        Some(companion) => {
            let text = column(companion);
            format!(
                "CASE WHEN {text} IS NULL THEN {value}::{target_type} ELSE {text}::{target_type} END"
            )
        }
        None => format!("{value}::{target_type}"),
    }
}

fn of(metadata: &HashMap<String, String>, key: &str) -> String {
    metadata.get(key).cloned().unwrap_or_default()
}

/// Reads what `format_type()` printed: `numeric(10,2)[]`, `timestamp(3) without time zone`.
fn parse(pg_type: &str) -> Option<(String, Typed)> {
    let (element, array) = match pg_type.strip_suffix("[]") {
        Some(element) => (element, true),
        None => (pg_type, false),
    };
    let (name, modifiers) = match element.split_once('(') {
        Some((head, rest)) => {
            let (modifiers, tail) = rest.split_once(')')?;
            (format!("{}{tail}", head.trim_end()), Some(modifiers))
        }
        None => (element.to_owned(), None),
    };
    let (_, wire, oid, takes) = TYPES.iter().find(|(known, ..)| *known == name)?;
    if let Some(modifiers) = modifiers {
        let digit = |c: char| c.is_ascii_digit() || c == ',' || c == '-';
        if !takes || modifiers.is_empty() || !modifiers.chars().all(digit) {
            return None;
        }
    }
    // The text was checked piece by piece, so it can be taken as it stands.
    let sql = pg_type.to_owned();
    Some((
        sql,
        Typed {
            wire: *wire,
            oid: *oid,
            array,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_with_their_modifiers() {
        let wire = |text: &str| parse(text).map(|(sql, typed)| (sql, typed.wire, typed.array));
        let same =
            |text: &str, kind, array| assert_eq!(wire(text), Some((text.to_owned(), kind, array)));
        same("numeric(10,2)", Wire::Numeric, false);
        same("numeric(10,2)[]", Wire::Numeric, true);
        same("timestamp(3) without time zone", Wire::Timestamp, false);
        same("character varying(64)[]", Wire::Text, true);
        same("\"char\"", Wire::Char, false);
    }

    #[test]
    fn a_type_that_is_sql_in_disguise_is_refused() {
        for text in [
            "integer); DROP TABLE x; --",
            "text(1)x",
            "numeric(1;2)",
            "integer[][]",
            "public.mood",
            "int",
            "",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

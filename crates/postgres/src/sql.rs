//! Names and values as SQL text.

/// An identifier as SQL: always quoted, so that no name is a keyword or folded to lower case.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for character in name.chars() {
        if character == '"' {
            text.push('"');
        }
        text.push(character);
    }
    text.push('"');
    text
}

/// A string as an SQL literal, right whatever `standard_conforming_strings` says.
#[must_use]
pub fn quote_literal(value: &str) -> String {
    let escaped = value.contains('\\');
    let mut text = String::with_capacity(value.len() + 3);
    text.push_str(if escaped { "E'" } else { "'" });
    for character in value.chars() {
        if character == '\'' || character == '\\' {
            text.push(character);
        }
        text.push(character);
    }
    text.push('\'');
    text
}

/// Bytes of a `bytea` that a row's text holds; the text has twice as many digits, and no text of the
/// server is longer than 1 GiB.
const LARGEST_IN_TEXT: u32 = 64 << 20;

/// A value as it stands in a row's text where rows are compared: itself, but for a `bytea` that is too
/// large, its hash.
#[must_use]
pub fn compared(value: &str, sql_type: &str) -> String {
    if sql_type != "bytea" {
        return value.to_owned();
    }
    format!(
        "CASE WHEN pg_catalog.octet_length({value}) > {LARGEST_IN_TEXT} THEN pg_catalog.sha256({value}) ELSE {value} END"
    )
}

/// The bytes of a row of these values: what tells whether two rows, or one row at two moments, are
/// exactly the same. Each value comes with its type and whether that has a binary form
/// ([`CatalogColumn::has_binary_form`](crate::CatalogColumn)). Half the work of their text, and as exact: what
/// differs as text (`1.0` and `1.00`) differs here. Two rows must have the same types.
pub fn row_bytes<'t>(values: impl IntoIterator<Item = (String, &'t str, bool)>) -> String {
    let values = values
        .into_iter()
        .map(|(value, sql_type, binary)| match binary {
            true => compared(&value, sql_type),
            false => format!("{value}::pg_catalog.text"),
        });
    let values: Vec<String> = values.collect();
    format!("pg_catalog.record_send(ROW({}))", values.join(", "))
}

/// The hash of bytes, as text.
#[must_use]
pub fn hash_of(bytes: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.sha256({bytes}), 'hex')")
}

/// Whether values of the type `t` (of `pg_type`), whose elements are of the type `e`, can be sent in
/// binary form, as SQL.
pub(crate) const HAS_BINARY_FORM: &str = "t.typtype IN ('b', 'e') AND t.typsend <> 0 \
    AND (e.oid IS NULL OR e.typtype IN ('b', 'e') AND e.typsend <> 0)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_end_their_quotes() {
        assert_eq!(quote_ident(r#"We"ird Näme"#), r#""We""ird Näme""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r"E'a\\''b'");
    }

    #[test]
    fn a_value_without_a_binary_form_is_compared_as_text() {
        let values = [
            ("t.a".to_owned(), "integer", true),
            ("t.b".to_owned(), "aclitem", false),
        ];
        assert_eq!(
            row_bytes(values),
            "pg_catalog.record_send(ROW(t.a, t.b::pg_catalog.text))"
        );
    }

    #[test]
    fn only_a_large_bytea_is_compared_by_its_hash() {
        assert_eq!(compared("t.a", "text"), "t.a");
        let text = compared("t.a", "bytea");
        assert!(text.contains("octet_length(t.a) > 67108864 THEN pg_catalog.sha256(t.a) ELSE t.a"));
    }
}

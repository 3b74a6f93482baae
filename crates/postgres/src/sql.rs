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
    fn only_a_large_bytea_is_compared_by_its_hash() {
        assert_eq!(compared("t.a", "text"), "t.a");
        let text = compared("t.a", "bytea");
        assert!(text.contains("octet_length(t.a) > 67108864 THEN pg_catalog.sha256(t.a) ELSE t.a"));
    }
}

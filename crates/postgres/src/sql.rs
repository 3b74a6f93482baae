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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_end_their_quotes() {
        assert_eq!(quote_ident(r#"We"ird Näme"#), r#""We""ird Näme""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(r"a\'b"), r"E'a\\''b'");
    }
}

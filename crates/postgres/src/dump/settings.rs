//! `ALTER DATABASE … SET`: settings that belong to a database and are in no dump of it.

use tokio_postgres::{Client, Error};

use crate::sql::{quote_ident, quote_literal};

/// Settings whose value is a list of names. They are written element by element, because one
/// literal would be taken for one name.
const LISTS: &[&str] = &[
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Statements that make the same settings for the database and for roles in it.
pub(super) async fn statements(client: &Client, database: &str) -> Result<Vec<String>, Error> {
    let rows = client
        .query(
            "SELECT r.rolname::pg_catalog.text, c.setting \
             FROM pg_catalog.pg_db_role_setting s \
             JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
             LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
             CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS c(setting) \
             WHERE d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .filter_map(|row| statement(database, row.get(0), row.get(1)))
        .collect())
}

fn statement(database: &str, role: Option<&str>, setting: &str) -> Option<String> {
    let (name, value) = setting.split_once('=')?;
    let whose = match role {
        Some(role) => format!(
            "ROLE {} IN DATABASE {}",
            quote_ident(role),
            quote_ident(database)
        ),
        None => format!("DATABASE {}", quote_ident(database)),
    };
    // A custom setting (its name has a dot) is where applications keep keys and tokens.
    if name.contains('.') {
        let comment =
            format!("-- ALTER {whose} SET {name}: the value of a custom setting is not recorded");
        // Behind the end of its line, a name would be SQL.
        return Some(comment.replace(char::is_control, " "));
    }
    let value = if LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        let elements: Vec<String> = split_list(value)
            .iter()
            .map(|item| quote_literal(item))
            .collect();
        if elements.is_empty() {
            "''".to_owned()
        } else {
            elements.join(", ")
        }
    } else {
        quote_literal(value)
    };
    Some(format!(
        "ALTER {whose} SET {} TO {value};",
        quote_ident(name)
    ))
}

/// The statement that makes a setting of `pg_db_role_setting`.
#[cfg(feature = "fuzzing")]
pub fn setting_statement(database: &str, role: Option<&str>, setting: &str) -> Option<String> {
    statement(database, role, setting)
}

/// The elements of `ag_catalog, "$user", public`.
fn split_list(value: &str) -> Vec<String> {
    let mut elements = Vec::new();
    let mut rest = value.chars().peekable();
    while rest.peek().is_some() {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut element = String::new();
        if rest.next_if_eq(&'"').is_some() {
            while let Some(c) = rest.next() {
                if c == '"' && rest.next_if_eq(&'"').is_none() {
                    break;
                }
                element.push(c);
            }
            while rest.next_if(|c| *c != ',').is_some() {}
        } else {
            while let Some(c) = rest.next_if(|c| *c != ',') {
                element.push(c);
            }
            element.truncate(element.trim_end().len());
        }
        rest.next();
        if !element.is_empty() {
            elements.push(element);
        }
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_written_element_by_element() {
        assert_eq!(
            statement("my \"db", None, r#"search_path=ag_catalog, "$user", "a,""b", public"#),
            Some(
                r#"ALTER DATABASE "my ""db" SET "search_path" TO 'ag_catalog', '$user', 'a,"b', 'public';"#
                    .to_owned()
            )
        );
    }

    #[test]
    fn the_value_of_a_custom_setting_may_be_a_secret_and_is_not_recorded() {
        let line = statement("g", Some("App"), "app.jwt_secret=s3cret").unwrap();
        assert!(
            line.starts_with("-- ") && line.contains("app.jwt_secret"),
            "{line}"
        );
        assert!(!line.contains("s3cret"), "{line}");
        let line = statement("g\nDROP TABLE t; --", None, "app.key=x").unwrap();
        assert!(
            !line.contains('\n'),
            "a name does not end the comment: {line}"
        );
    }

    #[test]
    fn other_values_are_one_literal() {
        assert_eq!(
            statement("g", Some("App"), "application_name=it's, so"),
            Some(
                r#"ALTER ROLE "App" IN DATABASE "g" SET "application_name" TO 'it''s, so';"#
                    .to_owned()
            )
        );
        assert_eq!(
            statement("g", None, "search_path=\"\""),
            Some(r#"ALTER DATABASE "g" SET "search_path" TO '';"#.to_owned())
        );
    }
}

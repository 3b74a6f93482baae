//! What the Odoo database knows about the rest of the stack.
//!
//! The application keeps one row of settings in `ai_memory_config`: how it reaches the graph
//! database, and where its Chroma directory is. [`read_memory_config`] reads whichever of the
//! known columns exist. The graph's password stays a secret until it is handed to a
//! [`ConnectSpec`]; it is in no message and no `Debug` text.

mod chroma_dir;

use arkstream_pipeline::Failure;
use arkstream_postgres::{ConnectSpec, failure_of, quote_ident};
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, Row};

pub use chroma_dir::{ChromaSearch, find_chroma_dir, odoo_working_directories};

/// The columns that are read, where they exist.
const COLUMNS: &[&str] = &[
    "graph_enabled",
    "graph_host",
    "graph_port",
    "graph_database",
    "graph_user",
    "graph_password",
    "graph_name",
    "vector_enabled",
    "chroma_persist_directory",
];

/// The settings that the application uses.
#[derive(Clone, Debug, Default)]
pub struct MemoryConfig {
    /// Whether the application uses a graph; true where it does not say.
    pub graph_enabled: bool,
    /// Host of the graph database.
    pub graph_host: Option<String>,
    /// Its port.
    pub graph_port: Option<String>,
    /// Its name.
    pub graph_database: Option<String>,
    /// The application's role there.
    pub graph_user: Option<String>,
    /// That role's password.
    pub graph_password: Option<SecretString>,
    /// The graph that the application uses.
    pub graph_name: Option<String>,
    /// Whether the application uses vectors; true where it does not say.
    pub vector_enabled: bool,
    /// The Chroma directory as it is configured, often relative.
    pub chroma_persist_directory: Option<String>,
    /// Lines for people about what was found.
    pub notes: Vec<String>,
}

impl MemoryConfig {
    /// How to reach the graph database; `None` where the application uses none.
    ///
    /// # Errors
    /// When a value is no valid connection parameter.
    pub fn graph_spec(&self) -> Result<Option<ConnectSpec>, Failure> {
        let (true, Some(database)) = (self.graph_enabled, &self.graph_database) else {
            return Ok(None);
        };
        let password = self
            .graph_password
            .as_ref()
            .map(ExposeSecret::expose_secret);
        let parameters = [
            ("host", self.graph_host.as_deref()),
            ("port", self.graph_port.as_deref()),
            ("dbname", Some(database.as_str())),
            ("user", self.graph_user.as_deref()),
            ("password", password),
        ];
        let given = parameters
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        ConnectSpec::from_parameters(given).map(Some)
    }
}

/// Reads the settings; `None` where the database has no such table, or the table no row.
///
/// Of several rows the first active one is taken, as the application does; a note says so.
///
/// # Errors
/// When the table cannot be read.
pub async fn read_memory_config(client: &Client) -> Result<Option<MemoryConfig>, Failure> {
    let fail = |error: tokio_postgres::Error| {
        failure_of(
            "read the settings of the AI memory (ai_memory_config)",
            &error,
        )
    };
    let found = client.query(FIND, &[]).await.map_err(fail)?;
    let Some(first) = found.first() else {
        return Ok(None);
    };
    let schema: String = first.get(0);
    let columns: Vec<String> = found
        .iter()
        .filter(|row| row.get::<_, &str>(0) == schema)
        .map(|row| row.get(1))
        .collect();
    let has = |name: &str| columns.iter().any(|column| column == name);
    let list: Vec<_> = COLUMNS
        .iter()
        .map(|name| expression(name, has(name)))
        .collect();
    let active = if has("active") {
        "active IS NOT FALSE DESC, "
    } else {
        ""
    };
    let sql = format!(
        "SELECT {}, count(*) OVER () FROM ONLY {}.ai_memory_config ORDER BY {active}id LIMIT 1",
        list.join(", "),
        quote_ident(&schema),
    );
    let rows = client.query(&sql, &[]).await.map_err(fail)?;
    Ok(rows.first().map(config_of))
}

/// Schema and columns of the table; `public` before others.
const FIND: &str = "\
SELECT n.nspname::text, a.attname::text
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relname = 'ai_memory_config' AND c.relkind IN ('r', 'p')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname <> 'public', n.nspname, a.attnum";

fn expression(column: &str, exists: bool) -> String {
    if exists {
        format!("{}::text", quote_ident(column))
    } else {
        "NULL::text".to_owned()
    }
}

fn config_of(row: &Row) -> MemoryConfig {
    let text = |name: &str| -> Option<String> {
        let index = COLUMNS.iter().position(|column| *column == name)?;
        let value: Option<String> = row.get(index);
        value
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let flag = |name: &str| text(name).is_none_or(|value| value != "false");
    let rows: i64 = row.get(COLUMNS.len());
    let mut notes = Vec::new();
    if rows > 1 {
        notes.push(format!(
            "ai_memory_config has {rows} rows; the first active one is taken for the graph and Chroma"
        ));
    }
    let config = MemoryConfig {
        graph_enabled: flag("graph_enabled"),
        graph_host: text("graph_host"),
        graph_port: text("graph_port").filter(|port| port != "0"),
        graph_database: text("graph_database"),
        graph_user: text("graph_user"),
        graph_password: text("graph_password").map(SecretString::from),
        graph_name: text("graph_name"),
        vector_enabled: flag("vector_enabled"),
        chroma_persist_directory: text("chroma_persist_directory"),
        notes,
    };
    with_notes(config)
}

fn with_notes(mut config: MemoryConfig) -> MemoryConfig {
    for (enabled, setting, what) in [
        (
            config.graph_enabled,
            &config.graph_database,
            "graph database",
        ),
        (
            config.vector_enabled,
            &config.chroma_persist_directory,
            "Chroma directory",
        ),
    ] {
        if !enabled {
            config
                .notes
                .push(format!("the application has its {what} switched off"));
        } else if setting.is_none() {
            config
                .notes
                .push(format!("ai_memory_config names no {what}"));
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MemoryConfig {
        MemoryConfig {
            graph_enabled: true,
            graph_host: Some("graph.example.org".into()),
            graph_port: Some("5434".into()),
            graph_database: Some("sam_graph".into()),
            graph_user: Some("sam".into()),
            graph_password: Some(SecretString::from("hunter2")),
            ..MemoryConfig::default()
        }
    }

    #[test]
    fn the_graph_is_reached_with_what_the_application_uses() {
        let spec = config().graph_spec().unwrap().unwrap();
        assert_eq!(spec.describe(), "graph.example.org:5434/sam_graph as sam");
    }

    #[test]
    fn a_graph_that_is_switched_off_is_none() {
        let off = MemoryConfig {
            graph_enabled: false,
            ..config()
        };
        assert!(off.graph_spec().unwrap().is_none());
        assert!(
            with_notes(off)
                .notes
                .iter()
                .any(|note| note.contains("graph database switched off"))
        );
    }

    #[test]
    fn the_graph_password_is_never_shown() {
        assert!(!format!("{:?}", config()).contains("hunter2"));
        assert!(!format!("{:?}", config().graph_spec()).contains("hunter2"));
    }
}

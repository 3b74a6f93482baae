//! Tables whose row-level security binds their owner too: they could neither be read nor written
//! whole. Their owner may lift that, inside a transaction, for its length.

use arkstream_pipeline::Failure;
use tokio_postgres::Client;

use crate::failure::failure_of;

/// Lifts it from those of the tables that have it. Returns them as SQL, for [`force`]; a rollback
/// puts it back as well.
///
/// # Errors
/// When the role does not own such a table.
pub async fn lift(client: &Client, oids: &[u32]) -> Result<Vec<String>, Failure> {
    let rows = client
        .query(
            "SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM pg_catalog.pg_class c \
             WHERE c.relforcerowsecurity AND c.oid = ANY($1)",
            &[&oids],
        )
        .await
        .map_err(|error| failure_of("look for row-level security", &error))?;
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    alter(client, &names, "NO FORCE").await?;
    Ok(names)
}

/// Puts it back.
///
/// # Errors
/// When the server refuses.
pub async fn force(client: &Client, names: &[String]) -> Result<(), Failure> {
    alter(client, names, "FORCE").await
}

async fn alter(client: &Client, names: &[String], word: &str) -> Result<(), Failure> {
    for name in names {
        client
            .batch_execute(&format!("ALTER TABLE {name} {word} ROW LEVEL SECURITY"))
            .await
            .map_err(|error| {
                failure_of(&format!("set the row-level security of {name}"), &error)
            })?;
    }
    Ok(())
}

//! What a restore must know of a database and a dump does not tell.

use arkstream_format::GraphSummary;
use arkstream_pipeline::Failure;
use tokio_postgres::{Client, Error};

use super::{owners, settings};
use crate::failure::failure_of;

/// Reads the facts. A database without `age` has no version and no graphs; that is no error.
pub(super) async fn read(client: &Client) -> Result<GraphSummary, Failure> {
    read_all(client)
        .await
        .map_err(|error| failure_of("read the database's owner, settings and grants", &error))
}

async fn read_all(client: &Client) -> Result<GraphSummary, Error> {
    let row = client
        .query_one(
            "SELECT d.datname::pg_catalog.text, \
                    pg_catalog.pg_get_userbyid(d.datdba)::pg_catalog.text, \
                    (SELECT e.extversion FROM pg_catalog.pg_extension e WHERE e.extname = 'age'), \
                    EXISTS (SELECT FROM pg_catalog.pg_class c \
                            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                            WHERE n.nspname = 'ag_catalog' AND c.relname = 'ag_graph' \
                              AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
                              AND pg_catalog.has_table_privilege(c.oid, 'SELECT')) \
             FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
            &[],
        )
        .await?;
    let graphs = if row.get(3) {
        let query = "SELECT name::pg_catalog.text FROM ag_catalog.ag_graph ORDER BY 1";
        client
            .query(query, &[])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect()
    } else {
        Vec::new()
    };
    let database: String = row.get(0);
    let mut settings_sql = settings::statements(client, &database).await?;
    settings_sql.extend(owners::statements(client, &database).await?);
    Ok(GraphSummary {
        age_version: row.get(2),
        graphs,
        pg_dump_version: String::new(),
        owner: row.get(1),
        settings_sql,
        database,
    })
}

//! Identity columns that are `GENERATED ALWAYS` and no key: an insert may override the server's
//! value, an update may not. While rows are updated they are `BY DEFAULT`.

use arkstream_pipeline::Failure;
use tokio_postgres::Client;

use super::change::Counts;
use super::{TableDiff, run};
use crate::failure::failure_of;
use crate::sql::quote_ident;

pub(super) struct Identities {
    columns: Vec<String>,
}

impl Identities {
    pub(super) async fn open(
        client: &Client,
        diffs: &[TableDiff],
        counts: &[Counts],
    ) -> Result<Self, Failure> {
        let updated: Vec<&TableDiff> = diffs
            .iter()
            .zip(counts)
            .filter(|(_, counts)| counts.updates > 0)
            .map(|(diff, _)| diff)
            .collect();
        let oids: Vec<u32> = updated.iter().map(|diff| diff.table.table.oid).collect();
        let rows = client
            .query(
                "SELECT a.attrelid, a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a \
                 WHERE a.attidentity = 'a' AND a.attrelid = ANY ($1) ORDER BY 1, 2",
                &[&oids],
            )
            .await
            .map_err(|error| failure_of("look for identity columns", &error))?;
        let mut columns = Vec::new();
        for row in &rows {
            let (oid, column): (u32, String) = (row.get(0), row.get(1));
            let set = updated.iter().find(|diff| {
                diff.table.table.oid == oid
                    && diff.columns.contains(&column)
                    && !diff.is_key(&column)
            });
            if let Some(diff) = set {
                columns.push(format!(
                    "ALTER TABLE {} ALTER COLUMN {} SET GENERATED",
                    diff.table.table.sql(),
                    quote_ident(&column)
                ));
            }
        }
        let identities = Self { columns };
        identities.set(client, "BY DEFAULT").await?;
        Ok(identities)
    }

    pub(super) async fn close(&self, client: &Client) -> Result<(), Failure> {
        self.set(client, "ALWAYS").await
    }

    async fn set(&self, client: &Client, word: &str) -> Result<(), Failure> {
        for column in &self.columns {
            run(
                client,
                "let an identity column be updated",
                &format!("{column} {word}"),
            )
            .await?;
        }
        Ok(())
    }
}

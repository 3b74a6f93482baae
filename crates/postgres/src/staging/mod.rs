//! Staging: the bundle's rows in tables of their own, beside the live ones.
//!
//! One schema a restore. Each table of the bundle becomes a table in it, in the bundle's own types
//! and without constraints; [`Staged::expression`] gives a column's value in the type that the
//! live column has. A part is loaded in one transaction together with its line in the checkpoint
//! table `parts`, so that after a crash either both are there or none. The tables are logged: an
//! UNLOGGED table would be emptied by a crash of the server while a logged checkpoint beside it
//! survived.
//!
//! Peak memory of one load: a row group as it stands in the bundle, and a few batches of it (see `feed`).

mod feed;
mod load;

use arkstream_columnar::CopyEncoder;
use arkstream_format::TableEntry;
use arkstream_pipeline::{Failure, Restoring};
use tokio_postgres::Client;

use crate::failure::failure_of;
use crate::sql::{quote_ident, quote_literal};

/// The schema of one restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    schema: String,
}

/// A table of the bundle and its staging table.
pub struct Staged {
    /// The staging table as SQL.
    pub sql: String,
    encoder: CopyEncoder,
    name: String,
    parts: Vec<(String, u64)>,
}

impl Staging {
    /// The schema of that name.
    #[must_use]
    pub fn new(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
        }
    }

    /// An object in it as SQL.
    #[must_use]
    pub fn name(&self, object: &str) -> String {
        format!("{}.{}", quote_ident(&self.schema), quote_ident(object))
    }

    /// Creates the schema with its checkpoint table, if it is not there.
    ///
    /// # Errors
    /// When the role may not create schemas in the database.
    pub async fn create(&self, client: &Client) -> Result<(), Failure> {
        let schema = quote_ident(&self.schema);
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; \
             CREATE TABLE IF NOT EXISTS {} (member pg_catalog.text PRIMARY KEY, rows pg_catalog.int8 NOT NULL)",
            self.name("parts")
        );
        self.run(client, "create the staging schema", &sql).await
    }

    /// Drops the schema with everything in it, if it is there.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn drop(&self, client: &Client) -> Result<(), Failure> {
        let sql = format!(
            "DROP SCHEMA IF EXISTS {} CASCADE",
            quote_ident(&self.schema)
        );
        self.run(client, "drop the staging schema", &sql).await
    }

    /// Drops everything in the schema but the checkpoints and these tables: what an earlier process
    /// made of the staged rows.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn keep_only(&self, client: &Client, staged: &[&Staged]) -> Result<(), Failure> {
        let mut kept: Vec<String> = staged.iter().map(|s| quote_literal(&s.sql)).collect();
        kept.push(quote_literal(&self.name("parts")));
        let sql = format!(
            "DO $ark$ DECLARE statement text; BEGIN \
               FOREACH statement IN ARRAY ARRAY( \
                 SELECT pg_catalog.format('DROP %s IF EXISTS %s CASCADE', \
                   CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, c.oid::pg_catalog.regclass) \
                 FROM pg_catalog.pg_class c WHERE c.relnamespace = {schema}::pg_catalog.regnamespace AND c.relkind IN ('r', 'v') \
                 AND c.oid <> ALL (ARRAY[{kept}]::pg_catalog.regclass[]::pg_catalog.oid[]) \
                 UNION ALL SELECT pg_catalog.format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::pg_catalog.regprocedure) \
                 FROM pg_catalog.pg_proc p WHERE p.pronamespace = {schema}::pg_catalog.regnamespace) LOOP \
                 EXECUTE statement; END LOOP; END $ark$",
            schema = quote_literal(&quote_ident(&self.schema)),
            kept = kept.join(", "),
        );
        self.run(client, "clear the staging schema", &sql).await
    }

    /// Whether the schema is there.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn exists(&self, client: &Client) -> Result<bool, Failure> {
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {})",
            quote_literal(&self.schema)
        );
        let row = client
            .query_one(&sql, &[])
            .await
            .map_err(|error| failure_of("look for the staging schema", &error))?;
        Ok(row.get(0))
    }

    /// Creates the staging table of a table of the bundle, if it is not there. Its columns come
    /// from the table's first part.
    ///
    /// # Errors
    /// A damaged part, a type that no server could have, or what the server says.
    pub async fn table(
        &self,
        client: &Client,
        restoring: &Restoring,
        name: &str,
        entry: &TableEntry,
    ) -> Result<Staged, Failure> {
        let encoder = load::encoder(restoring, entry).await?;
        let columns: Vec<String> = encoder
            .stage_columns()
            .iter()
            .map(|column| format!("{} {}", quote_ident(&column.name), column.sql_type))
            .collect();
        let sql = self.name(name);
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {sql} ({}) WITH (autovacuum_enabled = off)",
            columns.join(", ")
        );
        let attempted = format!("create the staging table of {}", entry.table);
        self.run(client, &attempted, &create).await?;
        Ok(Staged {
            sql,
            encoder,
            name: entry.table.clone(),
            parts: entry
                .parts
                .iter()
                .map(|part| (part.member.clone(), part.rows))
                .collect(),
        })
    }

    async fn run(&self, client: &Client, attempted: &str, sql: &str) -> Result<(), Failure> {
        client
            .batch_execute(sql)
            .await
            .map_err(|error| failure_of(&format!("{attempted} ({})", self.schema), &error))
    }
}

impl Staged {
    /// Parts of the table: members with their rows.
    #[must_use]
    pub fn parts(&self) -> &[(String, u64)] {
        &self.parts
    }

    /// SQL for a column's value in `target_type`, from the staging table under the alias `alias`;
    /// `None` when the bundle has no such column.
    #[must_use]
    pub fn expression(&self, column: &str, alias: &str, target_type: &str) -> Option<String> {
        self.encoder.expression(column, alias, target_type)
    }
}

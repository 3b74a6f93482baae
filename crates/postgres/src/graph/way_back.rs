//! The switch and the way back: what is live, the renames in either direction, what goes at the end.

use arkstream_pipeline::{Failure, FailureKind, Standing};

use super::GraphTarget;
use crate::advisory::Advisory;
use crate::failure::failure_of;
use crate::session::Session;
use crate::sql::{quote_ident, quote_literal};

impl GraphTarget {
    /// The lock that every transaction which renames databases of this restore holds, and the session
    /// that creates one of them.
    pub(super) fn lock(&self) -> Advisory {
        Advisory::of(&self.undo_schema)
    }

    /// A session to a maintenance database that sees how every earlier switch ended.
    pub(super) async fn settled(&self) -> Result<Session, Failure> {
        let session = self.maintenance().await?;
        let lock = self.lock();
        lock.settle(&session, self.options.lock_timeout).await?;
        Ok(session)
    }

    /// What is live.
    pub(super) async fn look(&self, session: &Session) -> Result<Standing, Failure> {
        if self.exists(session, &self.staging).await?
            || !self.exists(session, &self.database).await?
        {
            return Ok(Standing::Old);
        }
        let live = self.connect(&self.database).await?;
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = {})",
            quote_literal(&self.undo_schema)
        );
        let row = live
            .client()
            .query_one(&sql, &[])
            .await
            .map_err(|error| failure_of("look into the graph database", &error))?;
        let restored: bool = row.get(0);
        live.close().await;
        Ok(if restored {
            Standing::New
        } else {
            Standing::Old
        })
    }

    /// The renames that make the staged database live, in a transaction that stays open.
    pub(super) async fn prepare_switch(&mut self) -> Result<(), Failure> {
        let session = self.maintenance().await?;
        let existed = self.exists(&session, &self.database).await?;
        // Before it is live: who undoes this must not take a lost former database for none.
        self.note_former(existed).await?;
        let mut renames = Vec::new();
        if existed {
            renames.push((self.database.clone(), self.kept.clone()));
        }
        renames.push((self.staging.clone(), self.database.clone()));
        self.rename(&session, &renames).await?;
        self.prepared = Some(session);
        Ok(())
    }

    /// The renames that lead back, in a transaction that stays open, and what they overwrite. Nobody
    /// is connected when the changes are looked for, or is told among them, and the renames fail
    /// while somebody is.
    pub(super) async fn prepare_way_back(&mut self, force: bool) -> Result<Vec<String>, Failure> {
        let session = self.settled().await?;
        if self.look(&session).await? == Standing::Old {
            return Ok(Vec::new());
        }
        let existed = self.had_former().await?;
        if existed && !self.exists(&session, &self.kept).await? {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("bring back the former graph database {}", self.database),
                format!(
                    "it is no longer there as {}: it was dropped or renamed",
                    self.kept
                ),
            )
            .help(
                "what is live stays as it is; if the former database was renamed, give it that name \
                 again",
            ));
        }
        let mut lines = Vec::new();
        if !self.options.terminate_connections {
            let connected = self.connected(&session).await?;
            lines.extend(
                connected
                    .iter()
                    .map(|who| format!("the database {} is in use by {who}", self.database)),
            );
        }
        let live = self.connect(&self.database).await?;
        lines.extend(self.changes(&live).await?);
        live.close().await;
        if !lines.is_empty() && !force {
            return Ok(lines);
        }
        let mut renames = vec![(self.database.clone(), self.staging.clone())];
        if existed {
            renames.push((self.kept.clone(), self.database.clone()));
        }
        self.rename(&session, &renames).await?;
        self.undoing = Some(session);
        Ok(lines)
    }

    /// Notes in the staged database whether there is one that it takes the place of.
    async fn note_former(&self, existed: bool) -> Result<(), Failure> {
        let table = self.former_table();
        let session = self.connect(&self.staging).await?;
        let sql = format!(
            "DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (existed pg_catalog.bool NOT NULL); \
             INSERT INTO {table} VALUES ({existed})"
        );
        session
            .client()
            .batch_execute(&sql)
            .await
            .map_err(|error| failure_of("note what the restored graph replaces", &error))?;
        session.close().await;
        Ok(())
    }

    /// Whether there was a live database before. Where nothing is noted there was one: then the way
    /// back is refused without it.
    async fn had_former(&self) -> Result<bool, Failure> {
        let table = self.former_table();
        let live = self.connect(&self.database).await?;
        let fail = |error: tokio_postgres::Error| {
            failure_of("read what the restored graph has replaced", &error)
        };
        let sql = format!(
            "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
            quote_literal(&table)
        );
        let noted = live.client().query_one(&sql, &[]).await.map_err(fail)?;
        let mut existed = true;
        if noted.get(0) {
            let sql = format!("SELECT existed FROM {table}");
            let row = live.client().query_opt(&sql, &[]).await.map_err(fail)?;
            existed = row.is_none_or(|row| row.get(0));
        }
        live.close().await;
        Ok(existed)
    }

    fn former_table(&self) -> String {
        format!("{}.former", quote_ident(&self.undo_schema))
    }

    /// Drops the former database, and what was noted in the one that is live.
    pub(super) async fn drop_former(&self) -> Result<(), Failure> {
        let session = self.settled().await?;
        self.drop_database(&session, &self.kept).await?;
        if self.look(&session).await? == Standing::Old {
            return Ok(());
        }
        let restored = self.connect(&self.database).await?;
        let sql = format!(
            "DROP SCHEMA IF EXISTS {} CASCADE",
            quote_ident(&self.undo_schema)
        );
        restored
            .client()
            .batch_execute(&sql)
            .await
            .map_err(|error| failure_of("drop the notes about the restored graph", &error))
    }
}

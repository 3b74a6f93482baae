//! The rows outside the differences that deletions reach: emptied or deleted, explicitly.

use std::collections::BTreeMap;

use arkstream_pipeline::Failure;
use tokio_postgres::Client;

use super::reach::Reached;
use super::{attempted, from_live, list, run};
use crate::catalog::{Catalog, CatalogTable};
use crate::sql::{quote_ident, quote_literal};

/// Rows outside the differences; which ones stands in `pg_temp.ark_reach`.
pub(super) struct Outside<'c> {
    /// Tables with the column sets that are emptied, by object id.
    tables: BTreeMap<u32, (&'c CatalogTable, Vec<Vec<String>>)>,
}

impl<'c> Outside<'c> {
    pub(super) fn new(catalog: &'c Catalog, reached: &Reached) -> Self {
        let tables = reached
            .tables
            .iter()
            .filter_map(|(oid, emptied)| {
                Some((
                    *oid,
                    (catalog.by_oid(*oid)?, emptied.iter().cloned().collect()),
                ))
            })
            .collect();
        Self { tables }
    }

    /// The tables, with the column sets that are emptied in them.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&'c CatalogTable, &[Vec<String>])> {
        self.tables
            .values()
            .map(|(table, emptied)| (*table, emptied.as_slice()))
    }

    pub(super) fn touches(&self, oid: u32) -> bool {
        self.tables.contains_key(&oid)
    }

    /// Empties references. That moves a row, so its new place is noted.
    pub(super) async fn empty(&self, client: &Client) -> Result<(), Failure> {
        for (table, emptied) in self.tables() {
            for columns in emptied {
                let sets: Vec<String> = columns
                    .iter()
                    .map(|column| format!("{} = NULL", quote_ident(column)))
                    .collect();
                let sql = format!(
                    "WITH moved AS (UPDATE {live} t SET {} FROM (SELECT x.tableoid AS was_rel, x.ctid AS was FROM {live} x \
                       JOIN pg_temp.ark_reach r ON r.tab = {oid} AND r.rel = x.tableoid AND r.row = x.ctid AND r.columns = {named}) o \
                     WHERE t.tableoid = o.was_rel AND t.ctid = o.was \
                     RETURNING o.was_rel, o.was, t.tableoid AS now_rel, t.ctid AS now) \
                     UPDATE pg_temp.ark_reach r SET rel = moved.now_rel, row = moved.now FROM moved \
                     WHERE r.tab = {oid} AND r.rel = moved.was_rel AND r.row = moved.was",
                    sets.join(", "),
                    live = from_live(table),
                    oid = table.table.oid,
                    named = quote_literal(&list(columns, "")),
                );
                run(client, &attempted("empty references of", table), &sql).await?;
            }
        }
        Ok(())
    }

    /// The statements that delete.
    pub(super) fn deletes(&self) -> impl Iterator<Item = (&'c CatalogTable, String)> {
        self.tables().map(|(table, _)| {
            let sql = format!(
                "DELETE FROM {} t USING pg_temp.ark_reach r WHERE r.tab = {} AND r.columns IS NULL \
                 AND t.tableoid = r.rel AND t.ctid = r.row",
                from_live(table),
                table.table.oid
            );
            (table, sql)
        })
    }
}

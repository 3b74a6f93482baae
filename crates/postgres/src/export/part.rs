//! One part: from the COPY stream to its members.

use std::collections::HashMap;

use arkstream_columnar::{EncodeOptions, PartEncoder};
use arkstream_format::{Component, Digest, KeptBy, PartEntry, Proof, RowsProof};
use arkstream_pipeline::{Event, Failure, FailureKind, PendingReceipt, Stage};
use futures::StreamExt;

use super::earlier::{DAMAGED, keep_all};
use super::gather::Gather;
use super::plan::Table;
use super::questions::{Found, Reading};
use super::ranges::{Part, Range, Work};
use super::worker::Worker;
use super::writing::Writing;
use crate::failure::failure_of;

/// Bytes between two reports of progress.
const REPORT: u64 = 256 << 10;

/// A row group below this would compress badly, whatever the budget.
const SMALLEST_ROW_GROUP: u64 = 64 << 10;

/// The files of a part that is in the bundle, and the receipts of what this run wrote of it.
type Done = (Vec<PartEntry>, Vec<PendingReceipt>);

impl Worker {
    /// Does what a part needs, whose rows are being read.
    pub(super) async fn work_on(
        &self,
        table: &Table,
        part: &Part,
        number: usize,
        reading: Reading<'_>,
    ) -> Result<Done, Failure> {
        let Work::Compare(kept, content) = &part.work else {
            return self.export_part(table, part, number, reading).await;
        };
        let mut proof = self.read_through(table, &part.range, reading).await?;
        if proof.content == *content {
            if !self.flushed.wait().await {
                proof.versions = None;
            }
            proof.with.clone_from(&kept.with);
            let proof = Some(Proof::Rows(Box::new(proof)));
            if keep_all(&self.run, &part.member, proof, &kept.with).await? {
                let by = Some(KeptBy::Content);
                let entries = part
                    .range
                    .entries(&table.task, &kept.files, kept.generation, by);
                return Ok((entries, Vec::new()));
            }
            self.run.redo(Component::Models, &part.member, DAMAGED);
        } else {
            self.run
                .redo(Component::Models, &part.member, "its rows changed");
        }
        let reading = self.ask(table, &part.range).await?;
        self.export_part(table, part, number, reading).await
    }

    /// Reads a part without keeping it.
    async fn read_through(
        &self,
        table: &Table,
        range: &Range,
        reading: Reading<'_>,
    ) -> Result<RowsProof, Failure> {
        let Reading { rows, found } = reading;
        let attempted = format!("compare {}", table.relation(range).qualified());
        let mut rows = Gather::new(rows, &self.run.stats, &self.reading);
        let mut content = blake3::Hasher::new();
        while let Some(bytes) = rows.next().await {
            content.update(&bytes.map_err(|error| failure_of(&attempted, &error))?);
        }
        self.proof(table, range, &content, found.await?)
    }

    /// What proves the part unchanged in a later run.
    fn proof(
        &self,
        table: &Table,
        range: &Range,
        content: &blake3::Hasher,
        found: Found,
    ) -> Result<RowsProof, Failure> {
        // Had the table another file by now, rows might be missing.
        if found.relfilenode != range.relfilenode {
            let attempted = format!("export {}", table.task.table.table.qualified());
            let why = "it was rewritten while it was read";
            return Err(Failure::new(FailureKind::Source, attempted, why).help("run again"));
        }
        Ok(RowsProof {
            relation_oid: range.relation.as_ref().map_or(0, |relation| relation.oid),
            relfilenode: range.relfilenode,
            first_block: range.first_block,
            end_block: range.end_block,
            heap_blocks: range.heap_blocks,
            generation: self.run.generation(),
            definition: range.definition,
            versions: found.versions,
            content: Digest(*content.finalize().as_bytes()),
            with: Vec::new(),
        })
    }

    /// Exports one part.
    async fn export_part(
        &self,
        table: &Table,
        part: &Part,
        number: usize,
        reading: Reading<'_>,
    ) -> Result<Done, Failure> {
        let Reading { rows, found } = reading;
        let range = &part.range;
        let attempted = format!("export {}", table.relation(range).qualified());
        let mut writing = Writing::new(self, table, part, number, &attempted)?;
        let mut content = blake3::Hasher::new();
        let stats = &self.run.stats;
        let mut rows = Gather::new(rows, stats, &self.reading);
        let mut unreported = 0;
        while let Some(bytes) = rows.next().await {
            let bytes = bytes.map_err(|error| failure_of(&attempted, &error))?;
            unreported += bytes.len() as u64;
            if unreported >= REPORT {
                self.report(&mut unreported);
            }
            stats.work(Stage::Hash, bytes.len(), || content.update(&bytes));
            writing.push(&bytes).await?;
        }
        self.report(&mut unreported);
        writing.end()?;
        let found = stats.wait(Stage::Prove, found).await?;
        let mut proof = self.proof(table, range, &content, found)?;
        let versions = proof.versions.take();
        let flushed = self.flushed.known();
        if flushed == Some(true) {
            proof.versions.clone_from(&versions);
        }
        let (written, mut proof) = writing.finish(proof).await?;
        if flushed.is_none() && versions.is_some() {
            proof.versions = versions;
            self.unproven().push((part.member.clone(), proof));
        }
        let generation = self.run.generation();
        let entries = range.entries(&table.task, &written.files, generation, None);
        Ok((entries, written.receipts))
    }

    fn report(&self, unreported: &mut u64) {
        self.run.tell(Event::Read {
            component: Component::Models,
            bytes: std::mem::take(unreported),
        });
    }

    /// Row groups that fit the worker's share: sixteen of them, as up to four are in memory.
    pub(super) fn encode_options(&self) -> EncodeOptions {
        let limit = (self.budget.bytes() / 16).max(SMALLEST_ROW_GROUP);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        EncodeOptions {
            row_group_bytes: self.encode.row_group_bytes.min(limit),
            page_bytes: self.encode.page_bytes.min(limit),
            ..self.encode.clone()
        }
    }

    /// Begins a file of a part.
    pub(super) fn encoder(
        &self,
        table: &Table,
        number: usize,
        options: &EncodeOptions,
        attempted: &str,
    ) -> Result<PartEncoder, Failure> {
        let schema = table.layout.arrow_schema(self.file_metadata(table, number));
        PartEncoder::new(schema, options)
            .map_err(|error| Failure::new(FailureKind::Source, attempted, error))
    }

    fn file_metadata(&self, table: &Table, number: usize) -> HashMap<String, String> {
        let mut metadata = HashMap::from([
            (
                "arkstream.table".to_owned(),
                table.task.table.table.qualified(),
            ),
            ("arkstream.part".to_owned(), number.to_string()),
            ("arkstream.snapshot".to_owned(), self.snapshot.clone()),
        ]);
        if let Some(model) = &table.task.model {
            metadata.insert("arkstream.model".to_owned(), model.clone());
        }
        metadata
    }
}

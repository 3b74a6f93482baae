//! One part: from the COPY stream to a member.

use std::collections::HashMap;

use arkstream_columnar::{CopyDecoder, EncodeOptions, PartEncoder};
use arkstream_format::{Component, Compression, Digest, KeptBy, PartEntry, Proof, RowsProof};
use arkstream_pipeline::{
    Event, Failure, FailureKind, MemberFacts, MemberSpec, PendingReceipt, Stage,
};
use futures::StreamExt;

use super::budget::Held;
use super::earlier::DAMAGED;
use super::gather::Gather;
use super::plan::Table;
use super::ranges::{Kept, Part, Range, Work};
use super::versions::VersionsQuery;
use super::worker::Worker;
use crate::failure::failure_of;

/// Bytes between two reports of progress.
const REPORT: u64 = 256 << 10;

/// A row group below this would compress badly, whatever the budget.
const SMALLEST_ROW_GROUP: u64 = 64 << 10;

/// Members hold personal data; whoever unpacks them owns them alone.
const MODE: u32 = 0o600;

/// A part that is in the file, and the receipt if it was written by this run.
type Done = (PartEntry, Option<PendingReceipt>);

impl Worker {
    /// Does what a part needs; `None` when somebody stopped the export.
    pub(super) async fn work_on(
        &self,
        table: &Table,
        part: &Part,
        number: usize,
    ) -> Result<Option<Done>, Failure> {
        if let Work::Compare(kept, content) = &part.work {
            let Some(proof) = self.read_through(table, &part.range).await? else {
                return Ok(None);
            };
            if proof.content == *content {
                let proof = Some(Proof::Rows(proof));
                if let Some(member) = self.run.sink.keep(&part.member, proof).await? {
                    self.run.kept(&member);
                    let mut entry = part.range.entry(&table.task, &part.member, *kept);
                    entry.kept_by = Some(KeptBy::Content);
                    return Ok(Some((entry, None)));
                }
                self.run.redo(Component::Models, &part.member, DAMAGED);
            } else {
                self.run
                    .redo(Component::Models, &part.member, "its rows changed");
            }
        }
        self.export_part(table, part, number).await
    }

    /// Reads a part without keeping it; `None` when somebody stopped the export.
    async fn read_through(
        &self,
        table: &Table,
        range: &Range,
    ) -> Result<Option<RowsProof>, Failure> {
        let relation = range.relation.as_ref().unwrap_or(&table.task.table.table);
        let attempted = format!("compare {}", relation.qualified());
        let fail = |error: &tokio_postgres::Error| failure_of(&attempted, error);
        let mut stopped = std::pin::pin!(self.stop.raised());
        let sql = table.copy_sql(range);
        let copying = tokio::select! {
            biased;
            () = &mut stopped => return Ok(None),
            copying = self.session.client().copy_out(&sql) => copying,
        };
        let stream = std::pin::pin!(copying.map_err(|error| fail(&error))?);
        let mut stream = Gather::new(stream, &self.run.stats, &self.reading);
        let mut content = blake3::Hasher::new();
        loop {
            let message = tokio::select! {
                biased;
                () = &mut stopped => return Ok(None),
                message = stream.next() => message,
            };
            let Some(message) = message else {
                break;
            };
            content.update(&message.map_err(|error| fail(&error))?);
        }
        self.check_after(table, range)
            .await
            .map_err(|error| fail(&error))??;
        self.prove(table, range, &content).await.map(Some)
    }

    /// What proves the part unchanged in a later run.
    async fn prove(
        &self,
        table: &Table,
        range: &Range,
        content: &blake3::Hasher,
    ) -> Result<RowsProof, Failure> {
        let versions = match range.versioned {
            true => {
                let query = VersionsQuery::of(&table.task, range);
                Some(query.ask(self.session.client()).await?)
            }
            false => None,
        };
        Ok(RowsProof {
            relation_oid: range.relation.as_ref().map_or(0, |relation| relation.oid),
            relfilenode: range.relfilenode,
            first_block: range.first_block,
            end_block: range.end_block,
            heap_blocks: range.heap_blocks,
            generation: self.run.generation(),
            definition: range.definition,
            versions,
            content: Digest(*content.finalize().as_bytes()),
        })
    }

    /// Exports one part; `None` when somebody stopped the export.
    async fn export_part(
        &self,
        table: &Table,
        part: &Part,
        number: usize,
    ) -> Result<Option<Done>, Failure> {
        let range = &part.range;
        let relation = range.relation.as_ref().unwrap_or(&table.task.table.table);
        let attempted = format!("export {}", relation.qualified());
        let fail = |error: &tokio_postgres::Error| failure_of(&attempted, error);
        let broken =
            |why: &dyn std::fmt::Display| Failure::new(FailureKind::Source, attempted.clone(), why);

        let options = self.encode_options();
        let schema = table.layout.arrow_schema(self.file_metadata(table, number));
        let mut encoder = PartEncoder::new(schema, &options).map_err(|error| broken(&error))?;
        let mut decoder = CopyDecoder::new(&table.layout);
        let mut content = blake3::Hasher::new();
        let mut held = Held::new(&self.budget);
        let mut stopped = std::pin::pin!(self.stop.raised());

        let sql = table.copy_sql(range);
        let copying = tokio::select! {
            biased;
            () = &mut stopped => return Ok(None),
            copying = self.session.client().copy_out(&sql) => copying,
        };
        let stream = std::pin::pin!(copying.map_err(|error| fail(&error))?);
        let mut stream = Gather::new(stream, &self.run.stats, &self.reading);
        let mut unreported = 0;
        loop {
            let message = tokio::select! {
                biased;
                () = &mut stopped => return Ok(None),
                message = stream.next() => message,
            };
            let Some(message) = message else {
                break;
            };
            let bytes = message.map_err(|error| fail(&error))?;
            unreported += bytes.len() as u64;
            if unreported >= REPORT {
                self.report(&mut unreported);
            }
            let stats = &self.run.stats;
            stats.work(Stage::Hash, bytes.len(), || content.update(&bytes));
            let decode = || decoder.push(&bytes);
            let decoded = stats.work(Stage::Decode, bytes.len(), decode);
            decoded.map_err(|error| broken(&error))?;
            let pending = decoder.bytes_pending();
            // Builders grow by doubling.
            let holds = 2 * pending + encoder.encoded_bytes() + bytes.len();
            let held = held.grow_to(holds as u64);
            stats.wait(Stage::Memory, held).await;
            if pending >= options.batch_bytes() {
                self.encode_pending(&mut decoder, &mut encoder)
                    .map_err(|why| broken(&why))?;
            }
        }
        self.report(&mut unreported);
        decoder.finish().map_err(|error| broken(&error))?;
        self.encode_pending(&mut decoder, &mut encoder)
            .map_err(|why| broken(&why))?;
        let rows = decoder.rows_total();
        drop(decoder);
        let stats = &self.run.stats;
        let bytes = stats.work(Stage::Encode, 0, || encoder.finish());
        let bytes = bytes.map_err(|error| broken(&error))?;
        let check = self.check_after(table, range);
        let checked = stats.wait(Stage::Prove, check).await;
        checked.map_err(|error| fail(&error))??;

        let prove = self.prove(table, range, &content);
        let proof = stats.wait(Stage::Prove, prove).await?;

        held.grow_to(bytes.len() as u64).await;
        held.shrink_to(bytes.len() as u64);
        let spec = MemberSpec {
            name: part.member.clone(),
            component: Component::Models,
            compression: Compression::Stored,
            modified_at: self.taken_at,
            mode: MODE,
            budget: self.budget.clone(),
        };
        let facts = MemberFacts {
            rows: Some(rows),
            proof: Some(Proof::Rows(proof)),
        };
        let receipt = self.run.sink.put(spec, bytes, facts).await?;
        let generation = self.run.generation();
        let entry = range.entry(&table.task, &part.member, Kept { rows, generation });
        Ok(Some((entry, Some(receipt))))
    }

    fn report(&self, unreported: &mut u64) {
        self.run.tell(Event::Read {
            component: Component::Models,
            bytes: std::mem::take(unreported),
        });
    }

    /// Asks the session once more. The COPY stream ends before the server says that the command
    /// succeeded; had it failed, the transaction would refuse this question. And had the table
    /// another file by now, rows might be missing.
    async fn check_after(
        &self,
        table: &Table,
        range: &Range,
    ) -> Result<Result<(), Failure>, tokio_postgres::Error> {
        let oid = range.relation.as_ref().map_or(0, |relation| relation.oid);
        let query = "SELECT pg_catalog.pg_relation_filenode($1::pg_catalog.oid)";
        let relfilenode: Option<u32> = self
            .session
            .client()
            .query_one(query, &[&oid])
            .await?
            .get(0);
        if relfilenode == range.relfilenode {
            return Ok(Ok(()));
        }
        let attempted = format!("export {}", table.task.table.table.qualified());
        let why = "it was rewritten while it was read";
        Ok(Err(
            Failure::new(FailureKind::Source, attempted, why).help("run again")
        ))
    }

    /// Row groups that fit the worker's share: sixteen of them, as up to four are in memory.
    fn encode_options(&self) -> EncodeOptions {
        let limit = (self.budget.bytes() / 16).max(SMALLEST_ROW_GROUP);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        EncodeOptions {
            row_group_bytes: self.encode.row_group_bytes.min(limit),
            page_bytes: self.encode.page_bytes.min(limit),
            ..self.encode.clone()
        }
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

    fn encode_pending(
        &self,
        decoder: &mut CopyDecoder,
        encoder: &mut PartEncoder,
    ) -> Result<(), String> {
        let bytes = decoder.bytes_pending();
        self.run.stats.work(Stage::Encode, bytes, || {
            while let Some(batch) = decoder.take_batch().map_err(|error| error.to_string())? {
                encoder.write(&batch).map_err(|error| error.to_string())?;
            }
            Ok(())
        })
    }
}

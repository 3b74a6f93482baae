//! What a COPY stream becomes: the part's file, further files where one cannot hold the range, and members
//! for values that are too large for a file.
//!
//! Everything goes into the sink in the order in which it is complete. The part itself, which alone has a
//! proof, comes last: whoever finds it finds all of them, and what an interrupted run left without it
//! belongs to nothing.
//!
//! **Memory.** All of it is a share of the worker's budget `B`: the builders, up to twice what is pending
//! (a row group of `B`/16 and a row of `B`/8), and the file with its row group in progress (3/8 and
//! 1/16). While a large value streams, the sink takes up to `B`/2 of it; so the builders are emptied
//! before, and the file is ended where it has grown beyond the other half.

use std::time::Duration;

use arkstream_columnar::{CopyDecoder, EncodeOptions, LargeValue, Limits, PartEncoder, Step};
use arkstream_format::{
    Attached, Component, Compression, LARGE_KEY, LargeEntry, Proof, RowsProof, StreamDigest,
};
use arkstream_pipeline::{
    Failure, FailureKind, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Stage,
};
use bytes::Bytes;

use super::budget::{Held, STEP};
use super::plan::Table;
use super::ranges::{File, Part};
use super::worker::Worker;

/// Members hold personal data; whoever unpacks them owns them alone.
const MODE: u32 = 0o600;

/// A part on its way into the sink.
pub(super) struct Writing<'a> {
    worker: &'a Worker,
    table: &'a Table,
    part: &'a Part,
    number: usize,
    attempted: &'a str,
    options: EncodeOptions,
    decoder: CopyDecoder,
    /// Of the file that is being written; begun when there is something to write.
    encoder: Option<PartEncoder>,
    held: Held<'a>,
    /// Rows in the files that are finished.
    rows_before: u64,
    /// Large values of rows that are in no finished file, their rows counted from the stream's start.
    large: Vec<LargeEntry>,
    /// The one that streams.
    open: Option<OpenLarge>,
    done: Written,
}

/// What went into the sink.
#[derive(Default)]
pub(super) struct Written {
    pub(super) files: Vec<File>,
    pub(super) receipts: Vec<PendingReceipt>,
    /// All but the part itself, as its proof lists it.
    with: Vec<Attached>,
}

struct OpenLarge {
    value: LargeValue,
    member: String,
    writer: Box<dyn MemberWriter>,
    digest: StreamDigest,
}

impl<'a> Writing<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        table: &'a Table,
        part: &'a Part,
        number: usize,
        attempted: &'a str,
    ) -> Result<Self, Failure> {
        let options = worker.encode_options();
        let limits = Limits {
            value: options.row_group_bytes,
            row: 2 * options.row_group_bytes,
        };
        Ok(Self {
            decoder: CopyDecoder::with_limits(&table.layout, limits),
            encoder: None,
            held: Held::new(&worker.budget),
            worker,
            table,
            part,
            number,
            attempted,
            options,
            rows_before: 0,
            large: Vec::new(),
            open: None,
            done: Written::default(),
        })
    }

    /// Takes the next bytes of the stream.
    pub(super) async fn push(&mut self, bytes: &Bytes) -> Result<(), Failure> {
        let stats = &self.worker.run.stats;
        stats.add(
            Stage::Decode,
            Duration::ZERO,
            Duration::ZERO,
            bytes.len() as u64,
        );
        let mut input = &bytes[..];
        loop {
            let step = stats.work(Stage::Decode, 0, || self.decoder.step(&mut input));
            match step.map_err(self.broken())? {
                Step::Done => break,
                Step::Begin(value) => self.begin_large(value).await?,
                Step::Content(content) => {
                    if let Some(open) = &mut self.open {
                        open.digest.push(content);
                        open.writer.write(bytes.slice_ref(content)).await?;
                    }
                }
                Step::End => self.end_large().await?,
            }
        }
        if self.open.is_some() {
            return Ok(());
        }
        let pending = self.decoder.bytes_pending();
        // Builders grow by doubling.
        let held = 2 * pending + self.encoded_bytes() + bytes.len();
        let held = self.held.grow_to(held as u64);
        stats.wait(Stage::Memory, held).await;
        if pending >= self.options.batch_bytes() {
            self.encode_pending()?;
            if self.encoded_bytes() as u64 > self.worker.budget.bytes() / 8 * 3 {
                self.end_file().await?;
            }
        }
        Ok(())
    }

    /// Ends the stream.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.decoder.finish().map_err(self.broken())?;
        self.encode_pending()
    }

    /// Ends the part, which `proof` proves unchanged later. The values in `proof.with` are replaced.
    /// It is given back as it was written.
    pub(super) async fn finish(
        mut self,
        mut proof: RowsProof,
    ) -> Result<(Written, RowsProof), Failure> {
        let (bytes, large) = self.close_file()?;
        self.hold(bytes.len()).await;
        let rows = self.rows_in_file();
        let files = &mut self.done.files;
        files.push(File::new(&self.part.member, rows, &large));
        self.done.with.extend(attached(large));
        proof.with = std::mem::take(&mut self.done.with);
        let facts = MemberFacts {
            rows: Some(rows),
            proof: Some(Proof::Rows(Box::new(proof.clone()))),
        };
        let spec = self.spec(self.part.member.clone(), Compression::Stored);
        let receipt = self.worker.run.sink.put(spec, bytes, facts).await?;
        self.done.receipts.push(receipt);
        Ok((self.done, proof))
    }

    /// Ends a file in the middle of the range: what follows needs another.
    async fn end_file(&mut self) -> Result<(), Failure> {
        let rows = self.rows_in_file();
        if rows == 0 {
            return Ok(());
        }
        let (bytes, large) = self.close_file()?;
        self.hold(bytes.len() + self.decoder.bytes_pending()).await;
        let member = self.member(&format!("{}.parquet", self.done.files.len() + 1));
        self.done.files.push(File::new(&member, rows, &large));
        self.done.with.extend(attached(large));
        let mut digest = StreamDigest::default();
        digest.push(&bytes);
        self.done.with.push(Attached {
            member: member.clone(),
            digest: digest.finish(),
        });
        let facts = MemberFacts {
            rows: Some(rows),
            proof: None,
        };
        let spec = self.spec(member, Compression::Stored);
        let receipt = self.worker.run.sink.put(spec, bytes, facts).await?;
        self.done.receipts.push(receipt);
        self.rows_before += rows;
        self.hold(self.decoder.bytes_pending()).await;
        Ok(())
    }

    /// The file that was written so far, and its large values; what follows begins another.
    fn close_file(&mut self) -> Result<(Bytes, Vec<LargeEntry>), Failure> {
        let end = self.decoder.rows_total();
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => self.begin_file()?,
        };
        // Those of the row that is still arriving belong to the next file.
        let complete = self.large.partition_point(|value| value.row < end);
        let mut large: Vec<LargeEntry> = self.large.drain(..complete).collect();
        for value in &mut large {
            value.row -= self.rows_before;
        }
        if !large.is_empty() {
            encoder.note(LARGE_KEY, LargeEntry::write(&large));
        }
        let stats = &self.worker.run.stats;
        let bytes = stats.work(Stage::Encode, 0, || encoder.finish());
        Ok((bytes.map_err(self.broken())?, large))
    }

    async fn begin_large(&mut self, value: LargeValue) -> Result<(), Failure> {
        self.encode_pending()?;
        let half = self.worker.budget.bytes() / 2;
        if self.in_hand() as u64 + STEP > half {
            self.end_file().await?;
        }
        self.hold(self.in_hand()).await;
        let member = self.member(&format!("{}-{}.bin", value.row, value.place + 1));
        let member = match member.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/large/{name}"),
            None => format!("large/{member}"),
        };
        let spec = MemberSpec {
            // The same for a run that continues this one: so what is there already looks the same.
            modified_at: self.worker.run.begun_at,
            ..self.spec(member.clone(), Compression::Deflate)
        };
        self.open = Some(OpenLarge {
            value,
            member,
            writer: self.worker.run.sink.begin(spec).await?,
            digest: StreamDigest::default(),
        });
        Ok(())
    }

    async fn end_large(&mut self) -> Result<(), Failure> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let receipt = open.writer.finish(MemberFacts::default()).await?;
        self.done.receipts.push(receipt);
        self.large.push(LargeEntry {
            row: open.value.row,
            column: open.value.column,
            member: open.member,
            bytes: open.digest.bytes(),
            digest: open.digest.finish(),
        });
        Ok(())
    }

    fn begin_file(&self) -> Result<PartEncoder, Failure> {
        let (table, options) = (self.table, &self.options);
        self.worker
            .encoder(table, self.number, options, self.attempted)
    }

    fn encoded_bytes(&self) -> usize {
        self.encoder
            .as_ref()
            .map_or(0, |encoder| encoder.encoded_bytes())
    }

    fn encode_pending(&mut self) -> Result<(), Failure> {
        let (broken, bytes) = (self.broken::<String>(), self.decoder.bytes_pending());
        if self.encoder.is_none() {
            self.encoder = Some(self.begin_file()?);
        }
        let (decoder, Some(encoder)) = (&mut self.decoder, &mut self.encoder) else {
            return Ok(());
        };
        let encoded = self.worker.run.stats.work(Stage::Encode, bytes, || {
            while let Some(batch) = decoder.take_batch().map_err(|error| error.to_string())? {
                encoder.write(&batch).map_err(|error| error.to_string())?;
            }
            Ok(())
        });
        encoded.map_err(broken)
    }

    /// Bytes that are in memory while nothing is pending.
    fn in_hand(&self) -> usize {
        self.decoder.bytes_pending() + self.encoded_bytes()
    }

    async fn hold(&mut self, bytes: usize) {
        self.held.set(bytes as u64).await;
    }

    fn rows_in_file(&self) -> u64 {
        self.decoder.rows_total() - self.rows_before
    }

    /// A member that belongs to the part, by its name.
    fn member(&self, rest: &str) -> String {
        let part = &self.part.member;
        let stem = part.strip_suffix(".parquet").unwrap_or(part);
        format!("{stem}-{rest}")
    }

    fn spec(&self, name: String, compression: Compression) -> MemberSpec {
        MemberSpec {
            name,
            component: Component::Models,
            compression,
            modified_at: self.worker.taken_at,
            mode: MODE,
            budget: self.worker.budget.clone(),
        }
    }

    fn broken<E: std::fmt::Display>(&self) -> impl Fn(E) -> Failure + use<'a, E> {
        let attempted = self.attempted;
        move |why| Failure::new(FailureKind::Source, attempted, why)
    }
}

fn attached(large: Vec<LargeEntry>) -> impl Iterator<Item = Attached> {
    large.into_iter().map(|value| Attached {
        member: value.member,
        digest: value.digest,
    })
}

//! `backup --xlsx`: the spreadsheet as members of the bundle, made of the parts that are in it already.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::runtime::Handle;

use arkstream_archiver::Afterwards;
use arkstream_bundle::BundleWriter;
use arkstream_format::{
    CHUNK_SIZE, Component, Compression, Generation, Manifest, ModelEntry, TableEntry, member_names,
};
use arkstream_pipeline::{
    Budget, BundleReader, Event, Failure, FailureKind, MemberFacts, MemberSpec, MemberWriter, Run,
};
use arkstream_xlsx::{LargeFields, MOST_ROWS, Order, Report, all_sheets};

use crate::units;

/// The step of a backup that makes the spreadsheet.
pub(crate) struct Spreadsheet {
    /// The bundle, which is read back.
    pub(crate) bundle: Arc<BundleWriter>,
    /// Where temporary files go.
    pub(crate) temp: PathBuf,
}

/// Fails now, and not when everything else is done, where temporary files cannot be made.
pub(crate) fn check_temp(folder: &Path) -> Result<(), Failure> {
    tempfile::tempfile_in(folder).map(drop).map_err(|error| {
        let attempted = format!("create a temporary file in {}", folder.display());
        Failure::io(FailureKind::Refused, attempted, error).help("name another folder with --temp")
    })
}

#[async_trait]
impl Afterwards for Spreadsheet {
    async fn make(
        &self,
        run: &Run,
        generation: &Generation,
        tables: &[TableEntry],
        models: &[ModelEntry],
    ) -> Result<(), Failure> {
        let bundle: Arc<dyn BundleReader> = self.bundle.readable(tables.to_vec()).await?.into();
        // The members in flight and the names in memory.
        let mut shares = run.budget.split(2).into_iter();
        let (Some(share), Some(names)) = (shares.next(), shares.next()) else {
            return Err(Failure::new(
                FailureKind::Internal,
                "split the budget",
                "no shares",
            ));
        };
        let mut members = Members {
            run: run.clone(),
            handle: Handle::current(),
            budget: share,
            taken_at: generation.taken_at,
        };
        let (temp, models, facts) = (self.temp.clone(), models.to_vec(), facts("", generation));
        let (cancel, observer) = (run.cancel.clone(), Arc::clone(&run.observer));
        let taken_at = generation.taken_at;
        let work = move || {
            let order = Order {
                sheets: all_sheets(bundle.as_ref()),
                bundle: bundle.clone(),
                models: &models,
                memory: names.bytes(),
                temp,
                max_rows: MOST_ROWS,
                taken_at,
                facts,
                observer,
                cancel,
            };
            members.write(&order)
        };
        let report = tokio::task::spawn_blocking(work).await.map_err(|error| {
            Failure::new(FailureKind::Internal, "make the spreadsheet", error)
        })??;
        run.tell(Event::Note(describe(&report)));
        Ok(())
    }
}

/// What a workbook says of where it comes from.
pub(crate) fn facts(bundle: &str, generation: &Generation) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if !bundle.is_empty() {
        facts.push(("Bundle", bundle.to_owned()));
    }
    facts.extend([
        ("Rows as of", generation.taken_at.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("Run", generation.run_id.to_string()),
        ("Made by", format!("arkstream {}", env!("CARGO_PKG_VERSION"))),
        (
            "How to read it",
            "Below, each place at which this workbook says less than the bundle. Nothing is restored from it."
                .to_owned(),
        ),
    ]);
    facts
}

/// The last set of snapshots of a bundle.
pub(crate) fn last_generation(manifest: &Manifest) -> Result<&Generation, Failure> {
    manifest.generations.last().ok_or_else(|| {
        let why = "its manifest names no snapshot";
        Failure::new(FailureKind::Damaged, "read the bundle", why)
    })
}

/// What was made, in words.
pub(crate) fn describe(report: &Report) -> String {
    let mut text = format!(
        "spreadsheet: {} sheets, {} rows",
        report.sheets, report.rows
    );
    if report.large_fields > 0 {
        text.push_str(&format!(
            ", {} texts too long for a cell are whole beside it",
            report.large_fields
        ));
    }
    if report.lines > 0 {
        text.push_str(&format!(
            "; {} lines under \"About\" tell what differs",
            report.lines
        ));
    }
    text.push_str(&format!(
        "; {} temporary files of about {}",
        report.temporary_files,
        units::size(report.temporary_bytes)
    ));
    text
}

/// Puts the workbook and the large texts into the bundle, from a thread of its own.
struct Members {
    run: Run,
    handle: Handle,
    budget: Budget,
    taken_at: DateTime<Utc>,
}

impl Members {
    fn write(&mut self, order: &Order<'_>) -> Result<Report, Failure> {
        // What is compressed already is stored.
        let mut out = Streamed {
            spec: Some(self.spec(member_names::XLSX, Compression::Stored)),
            run: self.run.clone(),
            handle: self.handle.clone(),
            writer: None,
            buffer: BytesMut::new(),
            failure: None,
        };
        let written = arkstream_xlsx::write(order, self, &mut out);
        match out.failure.take() {
            Some(failure) => Err(failure),
            None => {
                let report = written?;
                out.finish()?;
                Ok(report)
            }
        }
    }

    fn spec(&self, name: &str, compression: Compression) -> MemberSpec {
        MemberSpec {
            name: name.to_owned(),
            component: Component::Xlsx,
            compression,
            modified_at: self.taken_at,
            mode: 0o600,
            budget: self.budget.clone(),
        }
    }
}

impl LargeFields for Members {
    fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let spec = self.spec(name, Compression::Deflate);
        self.handle.block_on(async {
            let mut writer = self.run.sink.begin(spec).await?;
            for piece in text.as_bytes().chunks(CHUNK_SIZE) {
                self.run.cancel.check()?;
                writer.write(Bytes::copy_from_slice(piece)).await?;
            }
            writer.finish(MemberFacts::default()).await.map(drop)
        })
    }
}

/// A member that is written through [`Write`]. It begins with the first byte.
struct Streamed {
    spec: Option<MemberSpec>,
    run: Run,
    handle: Handle,
    writer: Option<Box<dyn MemberWriter>>,
    buffer: BytesMut,
    failure: Option<Failure>,
}

impl Streamed {
    fn pass_on(&mut self) -> Result<(), Failure> {
        if let Some(spec) = self.spec.take() {
            self.writer = Some(self.handle.block_on(self.run.sink.begin(spec))?);
        }
        let bytes = self.buffer.split().freeze();
        match &mut self.writer {
            Some(writer) if !bytes.is_empty() => self.handle.block_on(writer.write(bytes)),
            _ => Ok(()),
        }
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.pass_on()?;
        match self.writer.take() {
            Some(writer) => {
                let finished = self.handle.block_on(writer.finish(MemberFacts::default()));
                finished.map(drop)
            }
            None => Ok(()),
        }
    }
}

impl Write for Streamed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= 1 << 20
            && let Err(failure) = self.pass_on()
        {
            let text = failure.to_string();
            self.failure.get_or_insert(failure);
            return Err(io::Error::other(text));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

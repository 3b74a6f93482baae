//! The rows of one table, part by part.
//!
//! The order is that of the parts in the manifest, and of the rows in each part: the order of the heap,
//! not of ids. All batches have one schema, that of the first part; a part of another shape is damage.
//!
//! Peak memory: the footer of a part, a row group as it stands in the file (16 MiB before compression, or
//! one row), a chunk of 4 MiB, a page per column that is read, and one batch of some 8 MiB (a whole row
//! group where its size sits in a few rows). So it does not depend on how large a part is. A value that
//! stands in a member of its own is brought in as a whole, in a batch of its row alone.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{ArrowError, Schema, SchemaRef};

use arkstream_columnar::{PartBatches, PartFile, read_part};
use arkstream_format::{LargeEntry, PartEntry, TableEntry};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, MemberBytes};

use crate::large::{self, Piece};

/// Iterates over the rows of a table as record batches. After an error there is nothing more.
pub struct Rows {
    bundle: Arc<dyn BundleReader>,
    table: String,
    parts: std::vec::IntoIter<Part>,
    columns: Option<Vec<String>>,
    schema: SchemaRef,
    current: Option<Open>,
    /// Batches of the current part, cut at its large values.
    cut: VecDeque<Piece>,
    failed: bool,
}

struct Part {
    entry: PartEntry,
    /// The member's place in the manifest's list.
    number: usize,
}

struct Open {
    part: Part,
    batches: PartBatches<'static>,
    large: Vec<LargeEntry>,
    /// Rows that were given out.
    rows: u64,
}

/// The parts of a table that the bundle does not hold, or whose large values it does not hold: a
/// salvaged bundle lists what it lost.
#[must_use]
pub fn lost_parts<'a>(bundle: &dyn BundleReader, table: &'a TableEntry) -> Vec<&'a PartEntry> {
    let numbers = numbers(bundle, table);
    let parts = table.parts.iter().zip(numbers);
    parts
        .filter(|(_, number)| number.is_none())
        .map(|(part, _)| part)
        .collect()
}

/// Bytes of the parts of a table that the bundle holds.
#[must_use]
pub fn stored_bytes(bundle: &dyn BundleReader, table: &TableEntry) -> u64 {
    let members = &bundle.manifest().members;
    let numbers = numbers(bundle, table).into_iter().flatten();
    numbers
        .filter_map(|number| members.get(number))
        .map(|member| member.raw_len)
        .sum()
}

/// For each part that is whole, its member's place in the manifest's list.
fn numbers(bundle: &dyn BundleReader, table: &TableEntry) -> Vec<Option<usize>> {
    let mut wanted: HashMap<&str, usize> = table
        .parts
        .iter()
        .enumerate()
        .map(|(at, part)| (part.member.as_str(), at))
        .collect();
    let mut numbers = vec![None; table.parts.len()];
    for (number, member) in bundle.manifest().members.iter().enumerate() {
        if let Some(at) = wanted.remove(member.name.as_str())
            && let Some(slot) = numbers.get_mut(at)
        {
            *slot = Some(number);
        }
    }
    // A row without a value of its own is not that row.
    for (part, slot) in table.parts.iter().zip(&mut numbers) {
        if part.large.iter().any(|name| bundle.member(name).is_none()) {
            *slot = None;
        }
    }
    numbers
}

impl Rows {
    /// All rows of a table.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] when a part is lost or the first one cannot be read.
    pub fn open(bundle: Arc<dyn BundleReader>, table: &TableEntry) -> Result<Self, Failure> {
        if let Some(part) = lost_parts(bundle.as_ref(), table).first() {
            return Err(damaged(&table.table, format!("{} is lost", part.member)));
        }
        Self::open_remaining(bundle, table)
    }

    /// The rows of those parts that are there; [`lost_parts`] are passed over.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] when none is there or the first one cannot be read.
    pub fn open_remaining(
        bundle: Arc<dyn BundleReader>,
        table: &TableEntry,
    ) -> Result<Self, Failure> {
        let parts: Vec<Part> = table
            .parts
            .iter()
            .zip(numbers(bundle.as_ref(), table))
            .filter_map(|(entry, number)| {
                let entry = entry.clone();
                number.map(|number| Part { entry, number })
            })
            .collect();
        let mut rows = Self {
            bundle,
            table: table.table.clone(),
            parts: parts.into_iter(),
            columns: None,
            schema: Arc::new(Schema::empty()),
            current: None,
            cut: VecDeque::new(),
            failed: false,
        };
        let Some(first) = rows.parts.next() else {
            return Err(damaged(&rows.table, "the bundle holds no part of it"));
        };
        let open = rows.open_part(first)?;
        rows.schema = open.batches.schema();
        rows.current = Some(open);
        Ok(rows)
    }

    /// Only the fields of these names, in the order of the table; bytes of others are not read. To be
    /// called before the first batch is taken.
    ///
    /// A column's companion is a field of its own: name it too, or values that stand there are NULL.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] when the table has no field of a name.
    pub fn only(mut self, names: &[&str]) -> Result<Self, Failure> {
        self.columns = Some(names.iter().map(|name| (*name).to_owned()).collect());
        if let Some(open) = self.current.take() {
            let open = self.open_part(open.part)?;
            self.schema = open.batches.schema();
            self.current = Some(open);
        }
        Ok(self)
    }

    /// The schema of all batches, with the metadata of its fields.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn open_part(&self, part: Part) -> Result<Open, Failure> {
        let bundle = Arc::clone(&self.bundle);
        let member = bundle.manifest().members.get(part.number).cloned();
        let member = member.ok_or_else(|| self.damaged(&part, "it is not in the bundle"))?;
        let chunks = member.clone();
        let mut bytes = MemberBytes::new(&member, move |chunk| bundle.read_chunk(&chunks, chunk));
        let file = PartFile::new(bytes.len(), move |range| bytes.read(range));
        let batches = read_part(file)
            .and_then(|batches| match &self.columns {
                None => Ok(batches),
                Some(names) => {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    batches.only(&names)
                }
            })
            .map_err(|error| self.damaged(&part, error))?;
        let large = LargeEntry::read(&batches.notes());
        let mut large = large.map_err(|error| self.damaged(&part, error))?;
        large.sort_by_key(|value| value.row);
        Ok(Open {
            part,
            batches,
            large,
            rows: 0,
        })
    }

    fn step(&mut self) -> Result<Option<RecordBatch>, Failure> {
        loop {
            if let Some(piece) = self.cut.pop_front() {
                let batch = piece.complete(self.bundle.as_ref());
                let batch = batch.map_err(|why| damaged(&self.table, why))?;
                return self.complete(&batch).map(Some);
            }
            let Some(open) = &mut self.current else {
                let Some(part) = self.parts.next() else {
                    return Ok(None);
                };
                self.current = Some(self.open_part(part)?);
                continue;
            };
            match open.batches.next() {
                Some(Ok(batch)) => {
                    self.cut = large::cut(&batch, open.rows, &open.large);
                    open.rows += batch.num_rows() as u64;
                }
                Some(Err(error)) => return Err(damaged_part(&self.table, &open.part, error)),
                None if open.rows != open.part.entry.rows => {
                    let why = format!(
                        "it has {} rows, the manifest says {}",
                        open.rows, open.part.entry.rows
                    );
                    return Err(damaged_part(&self.table, &open.part, why));
                }
                None => self.current = None,
            }
        }
    }

    /// What becomes of a batch before it is given out: it takes on the common schema.
    fn complete(&self, batch: &RecordBatch) -> Result<RecordBatch, Failure> {
        let (ours, theirs) = (self.schema.fields(), batch.schema_ref().fields());
        let alike = ours.len() == theirs.len()
            && ours.iter().zip(theirs.iter()).all(|(one, other)| {
                one.name() == other.name() && one.data_type() == other.data_type()
            });
        if !alike {
            return Err(damaged(&self.table, "its parts have different columns"));
        }
        with_schema(batch, &self.schema).map_err(|error| damaged(&self.table, error))
    }

    fn damaged(&self, part: &Part, why: impl std::fmt::Display) -> Failure {
        damaged_part(&self.table, part, why)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step().transpose();
        self.failed = !matches!(step, Some(Ok(_)));
        step
    }
}

/// The batch under another schema of the same fields. What it said of its part is dropped.
pub(crate) fn with_schema(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)
}

fn damaged_part(table: &str, part: &Part, why: impl std::fmt::Display) -> Failure {
    damaged(table, format!("{}: {why}", part.entry.member))
}

fn damaged(table: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Damaged,
        format!("read the rows of {table}"),
        why,
    )
    .help("`arkstream verify` lists everything that is damaged")
}

//! COPY BINARY to record batches, incrementally.
//!
//! Bytes may arrive cut anywhere. Complete tuples are decoded out of the caller's slice straight
//! into Arrow builders; only the tail of an incomplete tuple is copied and kept.
//!
//! Values beyond the [`Limits`] are not kept at all: their bytes come out as [`Step`]s while they
//! arrive, and the tuple goes on without them.
//!
//! Peak memory: the builders (their buffers grow by doubling, so up to twice
//! [`CopyDecoder::bytes_pending`]), which the caller bounds by taking batches, plus the tail, which
//! is up to twice the largest tuple while one arrives in pieces — with limits, as much of it as they
//! leave, and up to three times an array's limit where its text is needed. The bytes of one `push` can
//! add as many rows as they hold; a batch is closed by itself only where Arrow's 32-bit offsets end.

use std::collections::{HashMap, VecDeque};

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use crate::column::{ColumnBuilder, MAX_GROWTH};
use crate::copy::{HEADER_BYTES, Large, Scan, TupleScanner, parse_header};
use crate::error::{DecodeError, ValueProblem};
use crate::large::{Content, JSONB_VERSION, LargeValue, Limits, Utf8};
use crate::layout::TableLayout;
use crate::pgtype::Kind;

/// A tail buffer larger than this is given back once its tuple is complete.
const KEPT_TAIL: usize = 1 << 20;

/// Bytes of variable length that a batch may hold; one more tuple then still fits 32-bit offsets.
const MAX_BATCH: usize = i32::MAX as usize;

/// Decodes one COPY BINARY stream of a [`TableLayout`].
pub struct CopyDecoder {
    layout: TableLayout,
    schema: SchemaRef,
    scanner: TupleScanner,
    builders: Vec<ColumnBuilder>,
    state: State,
    /// The bytes of a header or tuple whose end has not arrived.
    tail: Vec<u8>,
    /// Batches closed because the offsets would have overflowed.
    closed: VecDeque<RecordBatch>,
    closed_rows: usize,
    closed_bytes: usize,
    rows: usize,
    rows_total: u64,
    /// Bytes that a row takes whatever its values.
    row_bytes: usize,
    /// Bytes of variable length in the builders.
    variable_bytes: usize,
    /// [`MAX_BATCH`], but for tests.
    batch_limit: usize,
}

/// What the bytes of a stream came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step<'a> {
    /// All bytes are used up.
    Done,
    /// A value begins that is too large for the batch.
    Begin(LargeValue),
    /// More of its content.
    Content(&'a [u8]),
    /// Its content was all there is.
    End,
}

#[derive(Debug)]
enum State {
    Header,
    Extension(u32),
    Tuples,
    /// Within a large value.
    Large(InLarge),
    Trailer,
    Failed,
}

/// A large value of which so many bytes are to come.
#[derive(Debug)]
struct InLarge {
    value: Large,
    left: usize,
    begun: bool,
    utf8: Utf8,
}

impl CopyDecoder {
    /// A decoder for the stream of `COPY (SELECT <layout.select_list()> …)`, which takes values of any
    /// size into its batches.
    pub fn new(layout: &TableLayout) -> Self {
        Self::with_limits(layout, Limits::NONE)
    }

    /// A decoder that gives out the values beyond the limits by themselves: see
    /// [`CopyDecoder::step`].
    pub fn with_limits(layout: &TableLayout, limits: Limits) -> Self {
        let builders: Vec<ColumnBuilder> = layout
            .columns()
            .iter()
            .map(|column| ColumnBuilder::new(column.kind))
            .collect();
        let row_bytes = builders.iter().map(ColumnBuilder::row_bytes).sum();
        CopyDecoder {
            schema: layout.arrow_schema(HashMap::new()),
            scanner: TupleScanner::new(layout, limits),
            layout: layout.clone(),
            builders,
            state: State::Header,
            tail: Vec::new(),
            closed: VecDeque::new(),
            closed_rows: 0,
            closed_bytes: 0,
            rows: 0,
            rows_total: 0,
            row_bytes,
            variable_bytes: 0,
            batch_limit: MAX_BATCH,
        }
    }

    /// Decodes the next bytes of the stream. After an error the decoder stays in error; a value beyond
    /// the limits is one.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DecodeError> {
        match self.step(&mut bytes)? {
            Step::Done => Ok(()),
            _ => {
                self.state = State::Failed;
                Err(DecodeError::Large {
                    row: self.rows_total + 1,
                })
            }
        }
    }

    /// Decodes bytes off the front of `input` until they are used up, or there is something to say of
    /// a value that is too large for the batch. Call it until it says [`Step::Done`]. After an error
    /// the decoder stays in error.
    pub fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, DecodeError> {
        let result = self.step_checked(input);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// Rows decoded and not taken yet.
    pub fn rows_pending(&self) -> usize {
        self.closed_rows + self.rows
    }

    /// Bytes of data in the builders and in the tail; what is allocated is up to twice as much.
    ///
    /// The number depends on the rows alone once the tail is empty, so batches taken by it are
    /// cut the same way however the bytes arrived in whole tuples.
    pub fn bytes_pending(&self) -> usize {
        self.closed_bytes + self.builder_bytes() + self.tail.len()
    }

    /// Rows decoded since the start of the stream.
    pub fn rows_total(&self) -> u64 {
        self.rows_total
    }

    /// Hands out the pending rows; `None` when there are none.
    ///
    /// Call it until it gives `None`: a batch ends where Arrow's 32-bit offsets would overflow.
    pub fn take_batch(&mut self) -> Result<Option<RecordBatch>, DecodeError> {
        if let State::Failed = self.state {
            return Err(DecodeError::Failed);
        }
        if let Some(batch) = self.closed.pop_front() {
            self.closed_rows -= batch.num_rows();
            if self.closed.is_empty() {
                self.closed_bytes = 0;
            }
            return Ok(Some(batch));
        }
        if self.rows == 0 {
            return Ok(None);
        }
        self.close_batch().map(Some)
    }

    /// Errs unless the header, all tuples and the trailer were seen and nothing follows.
    ///
    /// Rows may still be pending; take them before or after.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        let place = match self.state {
            State::Trailer => return Ok(()),
            State::Failed => return Err(DecodeError::Failed),
            State::Header | State::Extension(_) => "within the header",
            State::Tuples if self.tail.is_empty() => "between two rows",
            State::Tuples | State::Large(_) => "within a row",
        };
        self.state = State::Failed;
        Err(DecodeError::Incomplete {
            rows: self.rows_total,
            place,
        })
    }

    fn step_checked<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, DecodeError> {
        loop {
            match &mut self.state {
                State::Failed => return Err(DecodeError::Failed),
                State::Header => {
                    let missing = HEADER_BYTES.saturating_sub(self.tail.len());
                    self.tail.extend_from_slice(split_off(input, missing));
                    if self.tail.len() < HEADER_BYTES {
                        return Ok(Step::Done);
                    }
                    let extension = parse_header(&self.tail)?;
                    self.tail.clear();
                    self.state = State::Extension(extension);
                }
                State::Extension(0) => self.state = State::Tuples,
                State::Extension(left) => {
                    let skipped = split_off(input, *left as usize).len();
                    if skipped == 0 {
                        return Ok(Step::Done);
                    }
                    *left = left.saturating_sub(u32::try_from(skipped).unwrap_or(*left));
                }
                State::Tuples => {
                    if !self.push_tuple(input)? {
                        return Ok(Step::Done);
                    }
                }
                State::Large(large) => {
                    let (column, row) = (large.value.column, self.rows_total + 1);
                    match large.step(input) {
                        Ok(Some(Step::Begin(mut value))) => {
                            value.row = self.rows_total;
                            value.column = self.layout.describe(column).0;
                            return Ok(Step::Begin(value));
                        }
                        Ok(Some(Step::End)) => {
                            let value = large.value;
                            self.scanner.taken_out(value);
                            self.state = State::Tuples;
                            if value.content != Content::Dropped {
                                return Ok(Step::End);
                            }
                        }
                        Ok(Some(step)) => return Ok(step),
                        Ok(None) => return Ok(Step::Done),
                        Err(problem) => return Err(self.value_error(column, row, problem)),
                    }
                }
                State::Trailer if input.is_empty() => return Ok(Step::Done),
                State::Trailer => {
                    return Err(DecodeError::AfterTrailer {
                        rows: self.rows_total,
                        bytes: input.len(),
                    });
                }
            }
        }
    }

    /// Consumes one tuple, or what there is of it; false when the input is used up.
    fn push_tuple(&mut self, input: &mut &[u8]) -> Result<bool, DecodeError> {
        let row = self.rows_total + 1;
        if self.tail.is_empty() {
            return match self.scanner.scan(input, row, &self.layout)? {
                Scan::Trailer => {
                    split_off(input, 2);
                    self.state = State::Trailer;
                    Ok(true)
                }
                Scan::Tuple(length) => {
                    let tuple = split_off(input, length);
                    self.decode_row(tuple)?;
                    Ok(true)
                }
                Scan::Large { begins_at, value } => {
                    self.tail.extend_from_slice(split_off(input, begins_at));
                    self.state = State::Large(InLarge::new(value));
                    Ok(true)
                }
                Scan::Need(_) => {
                    self.tail.extend_from_slice(std::mem::take(input));
                    Ok(false)
                }
            };
        }
        match self.scanner.scan(&self.tail, row, &self.layout)? {
            Scan::Trailer => {
                self.tail.clear();
                self.state = State::Trailer;
            }
            Scan::Tuple(_) => {
                let mut tail = std::mem::take(&mut self.tail);
                self.decode_row(&tail)?;
                if tail.capacity() <= KEPT_TAIL {
                    tail.clear();
                    self.tail = tail;
                }
            }
            // The tail was filled up to here and no further.
            Scan::Large { value, .. } => self.state = State::Large(InLarge::new(value)),
            Scan::Need(missing) => {
                let more = split_off(input, missing);
                if more.is_empty() {
                    return Ok(false);
                }
                self.tail.extend_from_slice(more);
            }
        }
        Ok(true)
    }

    /// Appends the scanned tuple to the builders.
    fn decode_row(&mut self, tuple: &[u8]) -> Result<(), DecodeError> {
        // No column can gain more from this tuple than its length or one numeric's text.
        if self.rows > 0 && self.variable_bytes + tuple.len() + MAX_GROWTH > self.batch_limit {
            let bytes = self.builder_bytes();
            let batch = self.close_batch()?;
            self.closed_rows += batch.num_rows();
            self.closed_bytes += bytes;
            self.closed.push_back(batch);
        }
        let mut index = 0;
        for (column, builder) in self.builders.iter_mut().enumerate() {
            let field = self.scanner.field(index, tuple);
            index += 1;
            let mut text = None;
            if let Some(Kind::List { .. }) = self.layout.columns().get(column).map(|c| c.kind) {
                text = self.scanner.field(index, tuple);
                index += 1;
            }
            match builder.append(field, text) {
                Ok(bytes) => self.variable_bytes += bytes,
                Err(problem) => {
                    return Err(self.value_error(column, self.rows_total + 1, problem));
                }
            }
        }
        self.scanner.reset();
        self.rows += 1;
        self.rows_total += 1;
        Ok(())
    }

    fn close_batch(&mut self) -> Result<RecordBatch, DecodeError> {
        let rows = std::mem::take(&mut self.rows);
        self.variable_bytes = 0;
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        let batch = self
            .builders
            .iter_mut()
            .try_for_each(|builder| builder.finish_into(&mut arrays))
            .and_then(|()| {
                // The row count is given for tables without columns.
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            });
        batch.map_err(|source| {
            self.state = State::Failed;
            DecodeError::Batch { rows, source }
        })
    }

    fn value_error(&self, column: usize, row: u64, problem: ValueProblem) -> DecodeError {
        let (column, pg_type) = self.layout.describe(column);
        DecodeError::Value {
            column,
            pg_type,
            row,
            problem,
        }
    }

    fn builder_bytes(&self) -> usize {
        self.rows * self.row_bytes + self.variable_bytes
    }
}

impl InLarge {
    fn new(value: Large) -> Self {
        Self {
            value,
            left: value.length,
            begun: false,
            utf8: Utf8::default(),
        }
    }

    /// What comes next; `None` when there is no more input.
    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Step<'a>>, ValueProblem> {
        if !self.begun && self.value.content != Content::Dropped {
            if self.value.content == Content::Jsonb {
                let Some(version) = split_off(input, 1).first() else {
                    return Ok(None);
                };
                if *version != JSONB_VERSION {
                    return Err(ValueProblem::JsonbVersion(*version));
                }
                self.left -= 1;
            }
            self.begun = true;
            return Ok(Some(Step::Begin(LargeValue {
                row: 0,
                column: String::new(),
                place: self.value.column,
                bytes: self.left as u64,
            })));
        }
        if self.left == 0 {
            self.utf8.finish()?;
            return Ok(Some(Step::End));
        }
        let part = split_off(input, self.left);
        self.left -= part.len();
        match self.value.content {
            _ if part.is_empty() => return Ok(None),
            Content::Dropped => return self.step(input),
            Content::Bytes => {}
            Content::Text | Content::Jsonb => self.utf8.push(part)?,
        }
        Ok(Some(Step::Content(part)))
    }
}

/// Takes up to `length` bytes off the front.
fn split_off<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, rest) = input.split_at(length.min(input.len()));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PgColumn;

    #[test]
    fn a_batch_ends_before_its_offsets_overflow() {
        let layout = TableLayout::new(vec![PgColumn {
            name: "body".to_owned(),
            attnum: 1,
            type_oid: 25,
            type_name: "text".to_owned(),
            typmod: -1,
            type_kind: 'b',
            element_oid: None,
            element_kind: None,
            not_null: false,
            odoo_type: None,
            relation: None,
        }]);
        let mut decoder = CopyDecoder::new(&layout);
        decoder.batch_limit = MAX_GROWTH + 250;
        let mut wire = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for _ in 0..5 {
            wire.extend([0, 1, 0, 0, 0, 100]);
            wire.extend([b'x'; 100]);
        }
        wire.extend([0xff, 0xff]);
        decoder.push(&wire).unwrap();
        decoder.finish().unwrap();
        assert_eq!(decoder.rows_pending(), 5);
        assert_eq!(decoder.bytes_pending(), 5 * 104);
        let mut sizes = Vec::new();
        while let Some(batch) = decoder.take_batch().unwrap() {
            sizes.push(batch.num_rows());
        }
        assert_eq!(sizes, [2, 2, 1]);
        assert_eq!((decoder.rows_pending(), decoder.bytes_pending()), (0, 0));
    }
}

//! The framing of COPY BINARY.
//!
//! Format, all big-endian: the 11-byte signature, `u32 flags`, `i32` length of a header extension
//! and the extension; then tuples, each an `i16` number of fields and per field an `i32` length
//! (−1: NULL) and its bytes; last the trailer, an `i16` of −1. The flags' upper half is critical:
//! a reader that does not know a bit must refuse. An extension is to be skipped.
//!
//! Limits: no field and no tuple is longer than PostgreSQL's allocation limit of 1 GiB, and a
//! field of a type with a fixed width has that width; both are checked when the length is read,
//! before anything is buffered.

use crate::error::DecodeError;
use crate::large::{Content, Limits};
use crate::layout::{TableLayout, WireField};
use crate::pgtype::MAX_FIELD;

/// Signature, flags, length of the extension.
pub(crate) const HEADER_BYTES: usize = 19;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const CRITICAL_FLAGS: u32 = 0xffff_0000;
/// PostgreSQL builds each tuple in one allocation.
const MAX_TUPLE: usize = MAX_FIELD as usize;

/// Checks the header and returns the length of its extension.
pub(crate) fn parse_header(header: &[u8]) -> Result<u32, DecodeError> {
    let rest = header
        .strip_prefix(SIGNATURE)
        .ok_or(DecodeError::Signature)?;
    let (flags, rest) = rest
        .split_first_chunk::<4>()
        .ok_or(DecodeError::Signature)?;
    let extension = rest.first_chunk::<4>().ok_or(DecodeError::Signature)?;
    let flags = u32::from_be_bytes(*flags) & CRITICAL_FLAGS;
    if flags != 0 {
        return Err(DecodeError::Flags(flags));
    }
    let extension = i32::from_be_bytes(*extension);
    u32::try_from(extension).map_err(|_| DecodeError::HeaderExtension(extension))
}

/// What stands at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// A complete tuple of so many bytes; its fields are in [`TupleScanner::field`].
    Tuple(usize),
    /// The beginning of a tuple of so many bytes; behind it lies a value that is too large to wait
    /// for. It must be taken out and [`TupleScanner::taken_out`] be called.
    Large { begins_at: usize, value: Large },
    /// The trailer, two bytes.
    Trailer,
    /// Nothing complete; at least so many more bytes are needed.
    Need(usize),
}

/// A value that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Large {
    /// Index of its column.
    pub(crate) column: usize,
    /// Bytes on the wire.
    pub(crate) length: usize,
    pub(crate) content: Content,
}

/// Finds the fields of the tuple at the start of a buffer.
///
/// When the tuple is not complete, the scan continues where it stopped as soon as the buffer has
/// grown, so a tuple that arrives in many pieces is still scanned once.
#[derive(Debug)]
pub(crate) struct TupleScanner {
    wire: Vec<WireField>,
    limits: Limits,
    /// Where each field found so far lies; `None` for NULL.
    fields: Vec<Option<(usize, usize)>>,
    position: usize,
    /// Bytes of the tuple that were taken out of the buffer.
    taken_out: usize,
    /// The column whose value was taken out last.
    without: Option<usize>,
}

impl TupleScanner {
    pub(crate) fn new(layout: &TableLayout, limits: Limits) -> TupleScanner {
        let wire = layout.wire_fields();
        TupleScanner {
            fields: Vec::with_capacity(wire.len()),
            wire,
            limits,
            position: 0,
            taken_out: 0,
            without: None,
        }
    }

    /// Scans; `row` is the number of the tuple, for errors.
    pub(crate) fn scan(
        &mut self,
        buffer: &[u8],
        row: u64,
        layout: &TableLayout,
    ) -> Result<Scan, DecodeError> {
        if self.position == 0 {
            let Some(head) = buffer.first_chunk::<2>() else {
                return Ok(Scan::Need(2 - buffer.len()));
            };
            let found = i16::from_be_bytes(*head);
            if found == -1 {
                return Ok(Scan::Trailer);
            }
            if usize::try_from(found) != Ok(self.wire.len()) {
                return Err(DecodeError::FieldCount {
                    row,
                    expected: self.wire.len(),
                    found,
                });
            }
            self.position = 2;
        }
        while let Some(wire) = self.wire.get(self.fields.len()).copied() {
            let rest = buffer.get(self.position..).unwrap_or_default();
            let Some((head, data)) = rest.split_first_chunk::<4>() else {
                return Ok(Scan::Need(4 - rest.len()));
            };
            let start = self.position + 4;
            let length = i32::from_be_bytes(*head);
            if length == -1 {
                self.fields.push(None);
                self.position = start;
                continue;
            }
            let length = checked_length(length, wire, row, layout)?;
            if start + self.taken_out + length > MAX_TUPLE {
                let limit = MAX_TUPLE;
                return Err(DecodeError::RowLength { row, limit });
            }
            if let Some(content) = self.content_beyond(wire, start, length) {
                self.position = start;
                let column = wire.column;
                let value = Large {
                    column,
                    length,
                    content,
                };
                return Ok(Scan::Large {
                    begins_at: start,
                    value,
                });
            }
            if data.len() < length {
                return Ok(Scan::Need(length - data.len()));
            }
            self.fields.push(Some((start, length)));
            self.position = start + length;
        }
        Ok(Scan::Tuple(self.position))
    }

    /// What a field holds that is too large to wait for.
    fn content_beyond(&self, wire: WireField, start: usize, length: usize) -> Option<Content> {
        let content = wire.large?;
        match content {
            // It is used where the array itself is in the tuple and cannot be a list.
            Content::Dropped if self.without != Some(wire.column) => None,
            _ => self.limits.exclude(start, length).then_some(content),
        }
    }

    /// Says that the large value was taken out of the stream; the tuple goes on without it.
    pub(crate) fn taken_out(&mut self, value: Large) {
        self.fields.push(None);
        self.taken_out += value.length;
        self.without = Some(value.column);
    }

    /// A field of the complete tuple; `None` for NULL.
    pub(crate) fn field<'t>(&self, index: usize, tuple: &'t [u8]) -> Option<&'t [u8]> {
        let (start, length) = self.fields.get(index).copied().flatten()?;
        tuple.get(start..start + length)
    }

    /// Forgets the tuple.
    pub(crate) fn reset(&mut self) {
        self.fields.clear();
        self.position = 0;
        self.taken_out = 0;
        self.without = None;
    }
}

fn checked_length(
    found: i32,
    wire: WireField,
    row: u64,
    layout: &TableLayout,
) -> Result<usize, DecodeError> {
    match u32::try_from(found) {
        Ok(length) if (wire.min..=wire.max).contains(&length) => Ok(length as usize),
        _ => {
            let (column, pg_type) = layout.describe(wire.column);
            Err(DecodeError::FieldLength {
                column,
                pg_type,
                row,
                found,
                min: wire.min,
                max: wire.max,
            })
        }
    }
}

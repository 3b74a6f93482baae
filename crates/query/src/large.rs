//! Values that stand in members of their own, brought back into their rows.

use std::{collections::VecDeque, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_schema::DataType;

use arkstream_columnar::list_from_wire;
use arkstream_format::LargeEntry;
use arkstream_pipeline::{BundleReader, read_whole};

/// A batch, or one row of it whose large values are still elsewhere.
pub(crate) struct Piece {
    pub(crate) batch: RecordBatch,
    large: Vec<LargeEntry>,
}

/// Cuts a batch, whose first row is that number of its part, so that a row with large values is alone.
/// The entries are in the order of their rows.
pub(crate) fn cut(batch: &RecordBatch, first: u64, entries: &[LargeEntry]) -> VecDeque<Piece> {
    let end = first + batch.num_rows() as u64;
    let from = entries.partition_point(|entry| entry.row < first);
    let entries = entries.iter().skip(from);
    let here = entries.take_while(|entry| entry.row < end);
    let here: Vec<&LargeEntry> = here.filter(|entry| has(batch, &entry.column)).collect();
    let mut pieces = VecDeque::new();
    let mut at = 0;
    for of_row in here.chunk_by(|one, other| one.row == other.row) {
        let Some(entry) = of_row.first() else {
            continue;
        };
        let row = (entry.row - first) as usize;
        if row > at {
            pieces.push_back(whole(batch.slice(at, row - at)));
        }
        pieces.push_back(Piece {
            batch: batch.slice(row, 1),
            large: of_row.iter().map(|entry| (*entry).clone()).collect(),
        });
        at = row + 1;
    }
    if at < batch.num_rows() || batch.num_rows() == 0 {
        pieces.push_back(whole(batch.slice(at, batch.num_rows() - at)));
    }
    pieces
}

fn whole(batch: RecordBatch) -> Piece {
    Piece {
        batch,
        large: Vec::new(),
    }
}

fn has(batch: &RecordBatch, column: &str) -> bool {
    batch.column_by_name(column).is_some()
}

impl Piece {
    /// The batch with its large values. Each is in memory as a whole.
    ///
    /// # Errors
    /// What is wrong with a value, or that it has no form that a batch can hold.
    pub(crate) fn complete(self, bundle: &dyn BundleReader) -> Result<RecordBatch, String> {
        let schema = self.batch.schema();
        let mut columns = self.batch.columns().to_vec();
        for entry in &self.large {
            let found = schema.index_of(&entry.column);
            let Some((at, slot)) = found.ok().and_then(|at| Some((at, columns.get_mut(at)?)))
            else {
                continue;
            };
            *slot = value(bundle, entry, schema.field(at).data_type())?;
        }
        RecordBatch::try_new(schema, columns).map_err(|error| error.to_string())
    }
}

fn value(
    bundle: &dyn BundleReader,
    entry: &LargeEntry,
    data_type: &DataType,
) -> Result<ArrayRef, String> {
    let name = &entry.member;
    let member = bundle
        .member(name)
        .filter(|member| entry.is_content(member))
        .ok_or_else(|| format!("{name} is not in the bundle as the part names it"))?;
    let bytes = read_whole(bundle, member).map_err(|finding| finding.to_string())?;
    if *data_type == DataType::Binary {
        return Ok(Arc::new(BinaryArray::from_vec(vec![&bytes])));
    }
    if let DataType::List(_) = data_type {
        let list = list_from_wire(data_type, &bytes).map_err(|error| format!("{name}: {error}"))?;
        return list.ok_or_else(|| {
            format!("{name} is an array of other bounds or dimensions, which only a restore reads")
        });
    }
    let text = String::from_utf8(bytes).map_err(|error| format!("{name}: {error}"))?;
    Ok(Arc::new(StringArray::from(vec![text])))
}

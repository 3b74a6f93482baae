//! The values of one2many and many2many fields: ids that stand in another table.
//!
//! Peak memory: the budget. The pairs of a field are sorted in memory; where they do not fit, the field is
//! left out of the sheet, and the "About" sheet says so.

use std::sync::Arc;

use arkstream_format::{TableEntry, X2ManyField};
use arkstream_pipeline::{BundleReader, Failure};
use arkstream_query::{Rows, lost_parts};

use crate::names::integer;

/// The values of one field.
pub(crate) struct List {
    pub(crate) field: X2ManyField,
    /// The row's id and one of its values; sorted.
    pairs: Vec<(i64, i64)>,
}

/// What became of a field.
pub(crate) enum Read {
    Whole(List),
    /// It takes more than the room there is: so many pairs.
    TooMany(u64),
    /// The bundle does not hold its table, or not these columns.
    Absent,
}

impl List {
    /// Reads a field's values within `room` bytes.
    pub(crate) fn read(
        bundle: &Arc<dyn BundleReader>,
        field: &X2ManyField,
        room: usize,
    ) -> Result<Read, Failure> {
        let tables = &bundle.manifest().tables;
        let Some(table) = tables.iter().find(|table| table.table == field.table) else {
            return Ok(Read::Absent);
        };
        if !has(table, &field.column)
            || !has(table, &field.ids)
            || lost_parts(bundle.as_ref(), table).len() == table.parts.len()
        {
            return Ok(Read::Absent);
        }
        let most = usize::try_from(table.rows).unwrap_or(usize::MAX);
        if most.saturating_mul(size_of::<(i64, i64)>()) > room {
            return Ok(Read::TooMany(table.rows));
        }
        let rows = Rows::open_remaining(Arc::clone(bundle), table)?;
        let mut pairs = Vec::with_capacity(most);
        for batch in rows.only(&[&field.column, &field.ids])? {
            let batch = batch?;
            let (Some(owners), Some(ids)) = (
                batch.column_by_name(&field.column),
                batch.column_by_name(&field.ids),
            ) else {
                return Ok(Read::Absent);
            };
            for row in 0..batch.num_rows() {
                if let (Some(owner), Some(id)) = (integer(owners, row), integer(ids, row)) {
                    pairs.push((owner, id));
                }
            }
        }
        pairs.sort_unstable();
        pairs.shrink_to_fit();
        Ok(Read::Whole(Self {
            field: field.clone(),
            pairs,
        }))
    }

    /// The values of a row, in order, with commas between them; empty where there is none.
    pub(crate) fn text(&self, id: i64) -> String {
        let from = self.pairs.partition_point(|pair| pair.0 < id);
        let of_it = self.pairs.iter().skip(from).take_while(|pair| pair.0 == id);
        let mut text = String::new();
        for (_, value) in of_it {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&value.to_string());
        }
        text
    }

    pub(crate) fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<(i64, i64)>()
    }
}

fn has(table: &TableEntry, column: &str) -> bool {
    table.columns.iter().any(|found| found.name == column)
}

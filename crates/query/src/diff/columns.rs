//! The columns of a table on both sides.

use arkstream_format::{ColumnEntry, TableEntry};

/// Columns that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnsDiff {
    /// Only the second has them.
    pub added: Vec<String>,
    /// Only the first has them.
    pub removed: Vec<String>,
    /// Name, type in the first and type in the second.
    pub retyped: Vec<(String, String, String)>,
}

impl ColumnsDiff {
    pub(super) fn of(first: &TableEntry, second: &TableEntry) -> Self {
        Self {
            added: without(&second.columns, &first.columns),
            removed: without(&first.columns, &second.columns),
            retyped: first
                .columns
                .iter()
                .filter_map(|one| {
                    let other = second.columns.iter().find(|c| c.name == one.name)?;
                    (one.pg_type != other.pg_type).then(|| {
                        let (name, from, to) = (&one.name, &one.pg_type, &other.pg_type);
                        (name.clone(), from.clone(), to.clone())
                    })
                })
                .collect(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.retyped.is_empty()
    }
}

/// Names in `these` that `those` have not.
fn without(these: &[ColumnEntry], those: &[ColumnEntry]) -> Vec<String> {
    let missing = |column: &&ColumnEntry| those.iter().all(|other| other.name != column.name);
    let names = these.iter().filter(missing).map(|c| c.name.clone());
    names.collect()
}

//! Which records a collection has, seen from its two sides.
//!
//! Each segment has applied the queue up to its own `max_seq_id`. What it holds, and what the
//! queue adds to that, must be the same records on both sides.

use std::{collections::HashSet, rc::Rc};

use super::sqlite::{Collection, Database, Operation};

/// `embeddings_queue.operation`.
const ADD: i64 = 0;
const UPDATE: i64 = 1;
const UPSERT: i64 = 2;
const DELETE: i64 = 3;

/// The records that a segment holds once the queue is applied.
#[derive(Debug, Default)]
pub(super) struct Side {
    ids: HashSet<Rc<str>>,
    seen_up_to: i64,
}

impl Side {
    /// A segment that holds `ids` and has applied the queue up to `seen_up_to`.
    pub(super) fn new(ids: impl IntoIterator<Item = Rc<str>>, seen_up_to: i64) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            seen_up_to,
        }
    }

    /// Applies an operation unless it is contained already.
    fn apply(&mut self, operation: &Operation) {
        if operation.seq_id <= self.seen_up_to {
            return;
        }
        match operation.kind {
            ADD | UPSERT => {
                self.ids.insert(operation.id.as_str().into());
            }
            DELETE => {
                self.ids.remove(operation.id.as_str());
            }
            // Updates change records that exist; what else there is, is counted by the caller.
            _ => {}
        }
    }

    /// Records of this side that the other does not have, in order.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let mut missing: Vec<_> = self.ids.difference(&other.ids).map(|id| &**id).collect();
        missing.sort_unstable();
        missing
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Reads the METADATA side of a collection, without the queue.
pub(super) fn metadata_side(
    database: &Database,
    collection: &Collection,
    seen_up_to: i64,
) -> rusqlite::Result<Side> {
    let mut side = Side {
        ids: HashSet::new(),
        seen_up_to,
    };
    database.each_record(&collection.metadata, |id| {
        side.ids.insert(id.into());
    })?;
    Ok(side)
}

/// Applies the queue to several sides. Returns the number of operations of an unknown kind.
pub(super) fn apply_queue(
    database: &Database,
    collection: &Collection,
    sides: &mut [&mut Side],
) -> rusqlite::Result<u64> {
    let mut unknown = 0;
    database.each_operation(&collection.id, |operation| {
        if ![ADD, UPDATE, UPSERT, DELETE].contains(&operation.kind) {
            unknown += 1;
        }
        for side in sides.iter_mut() {
            side.apply(&operation);
        }
    })?;
    Ok(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(seq_id: i64, kind: i64, id: &str) -> Operation {
        Operation {
            seq_id,
            kind,
            id: id.into(),
        }
    }

    #[test]
    fn each_side_applies_only_what_it_has_not_seen() {
        let mut vector = Side::new(["a".into(), "b".into()], 10);
        let mut metadata = Side::new(["a".into(), "c".into()], 12);
        for operation in [
            operation(10, ADD, "never"),
            operation(11, DELETE, "b"),
            operation(12, ADD, "c"),
            operation(13, UPSERT, "d"),
            operation(14, UPDATE, "absent"),
        ] {
            vector.apply(&operation);
            metadata.apply(&operation);
        }
        assert!(vector.without(&metadata).is_empty(), "{vector:?}");
        assert!(metadata.without(&vector).is_empty(), "{metadata:?}");
        assert_eq!(vector.len(), 3);
    }
}

//! The rows of one table on both sides.
//!
//! The side with fewer rows is held, the other streamed past it. Where the held keys would not fit, rows are
//! divided into shares by their id, and both sides are read once a share: time grows with the number of
//! shares, memory does not.

use std::collections::HashMap;

use arkstream_pipeline::Failure;

use super::{
    DiffOptions, FieldDiff, Kind, RowDiff,
    matching::{HELD, Held, Key, Streamed, Tally},
    scan::{Comparing, Shown, Side, shown},
};

/// What reading takes of the budget beside the keys: chunks, a batch as it is decoded, and as it is hashed.
const READING: u64 = 48 << 20;

/// Rows by what became of them.
pub(super) struct Found {
    pub(super) added: Tally,
    pub(super) removed: Tally,
    pub(super) changed: Tally,
    pub(super) passes: u64,
}

/// How many shares keep the keys of `rows` rows within the budget.
fn shares(rows: u64, memory: u64) -> u64 {
    let for_keys = memory.saturating_sub(READING).max(memory / 4);
    // Shares are of about one size only.
    let fit = (for_keys / HELD).saturating_mul(4) / 5;
    rows.div_ceil(fit.max(1)).max(1)
}

pub(super) fn compare(
    first: &Side<'_>,
    second: &Side<'_>,
    comparing: &Comparing,
    options: &DiffOptions,
) -> Result<Found, Failure> {
    let tally = |kind| Tally::new(kind, options.limit);
    let mut found = Found {
        added: tally(Kind::Added),
        removed: tally(Kind::Removed),
        changed: tally(Kind::Changed),
        passes: 0,
    };
    let first_is_held = first.rows() <= second.rows();
    let (hold, stream) = if first_is_held {
        (first, second)
    } else {
        (second, first)
    };
    let (by_id, shares) = (comparing.id.is_some(), shares(hold.rows(), options.memory));
    for share in 0..shares {
        found.passes += 1;
        let (of_held, of_streamed) = if first_is_held {
            (&mut found.removed, &mut found.added)
        } else {
            (&mut found.added, &mut found.removed)
        };
        // A little more than its part of the rows, so that it need not grow.
        let expected = hold.rows().div_ceil(shares) * 9 / 8;
        let mut held = Held::with_capacity(usize::try_from(expected).unwrap_or(0));
        hold.keys(comparing, |key| {
            if key.share(shares) == share {
                held.push(key);
            }
        })?;
        held.seal();
        stream.keys(comparing, |key| {
            if key.share(shares) == share {
                match held.take(key, by_id) {
                    None => {}
                    Some(Streamed::Changed) => found.changed.add(key, 1),
                    Some(Streamed::Alone) => of_streamed.add(key, 1),
                }
            }
        })?;
        for (key, rows) in held.alone() {
            of_held.add(key, rows);
        }
    }
    Ok(found)
}

/// A row that was asked for, as far as it was found.
#[derive(Default)]
struct Wanted {
    first: Option<Vec<(String, Option<Shown>)>>,
    second: Option<Vec<(String, Option<Shown>)>>,
}

/// The rows that were found to differ, with their fields. Both sides are read once more.
pub(super) fn samples(
    first: &Side<'_>,
    second: &Side<'_>,
    comparing: &Comparing,
    tallies: [Tally; 3],
) -> Result<Vec<RowDiff>, Failure> {
    let by_id = comparing.id.is_some();
    let mut order: Vec<(Kind, Key)> = Vec::new();
    for tally in tallies {
        let kind = tally.kind;
        let mut keys = tally.keys();
        keys.iter_mut().for_each(|key| *key = name(*key, by_id));
        // Rows without an id may be there more than once.
        keys.dedup();
        order.extend(keys.into_iter().map(|key| (kind, key)));
    }
    order.sort_unstable();
    let mut rows: HashMap<Key, Wanted> = order
        .iter()
        .map(|(_, key)| (*key, Wanted::default()))
        .collect();
    fetch(first, comparing, &order, Kind::Added, &mut rows, |row| {
        &mut row.first
    })?;
    fetch(second, comparing, &order, Kind::Removed, &mut rows, |row| {
        &mut row.second
    })?;
    let mut samples = Vec::new();
    for (kind, key) in order {
        let row = rows.remove(&key).unwrap_or_default();
        samples.push(RowDiff {
            kind,
            id: by_id.then_some(key.id),
            fields: fields(kind, row),
        });
    }
    Ok(samples)
}

/// By what a row is found again: with an id, its values do not matter.
fn name(key: Key, by_id: bool) -> Key {
    match by_id {
        true => Key {
            hash: [0; 12],
            ..key
        },
        false => key,
    }
}

/// Reads the rows that a side has: all but those of a kind.
fn fetch(
    side: &Side<'_>,
    comparing: &Comparing,
    order: &[(Kind, Key)],
    but: Kind,
    rows: &mut HashMap<Key, Wanted>,
    slot: impl Fn(&mut Wanted) -> &mut Option<Vec<(String, Option<Shown>)>>,
) -> Result<(), Failure> {
    let mut missing = order.iter().filter(|(kind, _)| *kind != but).count();
    if missing == 0 {
        return Ok(());
    }
    let by_id = comparing.id.is_some();
    side.values(comparing, |key, columns, batch, row| {
        if let Some(wanted) = rows.get_mut(&name(key, by_id)) {
            let slot = slot(wanted);
            if slot.is_none() {
                *slot = Some(shown(columns, batch, row)?);
                missing = missing.saturating_sub(1);
            }
        }
        Ok(missing > 0)
    })
}

fn fields(kind: Kind, row: Wanted) -> Vec<FieldDiff> {
    let (first, second) = (
        row.first.unwrap_or_default(),
        row.second.unwrap_or_default(),
    );
    match kind {
        Kind::Changed => {
            let mut others: HashMap<String, Option<Shown>> = second.into_iter().collect();
            first
                .into_iter()
                .filter_map(|(name, first)| {
                    let second = others.remove(&name)?;
                    (first != second).then_some(FieldDiff {
                        name,
                        first,
                        second,
                    })
                })
                .collect()
        }
        Kind::Removed => one_sided(first, |name, first| FieldDiff {
            name,
            first,
            second: None,
        }),
        Kind::Added => one_sided(second, |name, second| FieldDiff {
            name,
            first: None,
            second,
        }),
    }
}

fn one_sided(
    row: Vec<(String, Option<Shown>)>,
    field: impl Fn(String, Option<Shown>) -> FieldDiff,
) -> Vec<FieldDiff> {
    let there = row.into_iter().filter(|(_, value)| value.is_some());
    there.map(|(name, value)| field(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_budget() {
        assert_eq!(shares(0, 32 << 20), 1);
        // As the guide says of the default budget.
        assert_eq!(shares(2_700_000, 128 << 20), 1);
        assert_eq!(shares(20_000_000, 128 << 20), 8);
        assert_eq!(shares(3, 0), 3, "no budget is no panic");
    }
}

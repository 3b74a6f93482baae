//! Which tables there are to compare, and which of their parts.

use std::{collections::HashMap, sync::Arc};

use arkstream_format::{Digest, Manifest, Member, PartEntry, Proof, TableEntry};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};

use super::{
    ColumnsDiff, DiffOptions, In, TableDiff, rows,
    scan::{Comparing, Side},
};
use crate::lost_parts;

/// A table on both sides, or on one.
pub(super) struct Pair<'a> {
    first: Option<&'a TableEntry>,
    second: Option<&'a TableEntry>,
}

/// The tables of both, paired by name.
pub(super) fn pairs<'a>(
    first: &'a Manifest,
    second: &'a Manifest,
    only: &[String],
) -> Result<Vec<Pair<'a>>, Failure> {
    let mut others: HashMap<&str, &TableEntry> = second
        .tables
        .iter()
        .map(|table| (table.table.as_str(), table))
        .collect();
    let mut pairs: Vec<Pair<'_>> = first
        .tables
        .iter()
        .map(|table| Pair {
            first: Some(table),
            second: others.remove(table.table.as_str()),
        })
        .collect();
    let added = second
        .tables
        .iter()
        .filter(|table| others.contains_key(table.table.as_str()));
    pairs.extend(added.map(|table| Pair {
        first: None,
        second: Some(table),
    }));
    for name in only {
        if !pairs.iter().any(|pair| pair.is_called(name)) {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("compare {name}"),
                "neither bundle has a table of that model or name",
            )
            .help("`arkstream cat BUNDLE odoo_data/model_list.json` lists the models"));
        }
    }
    pairs.retain(|pair| only.is_empty() || only.iter().any(|name| pair.is_called(name)));
    Ok(pairs)
}

impl Pair<'_> {
    fn is_called(&self, name: &str) -> bool {
        let sides = [self.first, self.second];
        sides.into_iter().flatten().any(|table| {
            table.table == name
                || table.model.as_deref() == Some(name)
                || table
                    .table
                    .split_once('.')
                    .is_some_and(|(_, bare)| bare == name)
        })
    }
}

pub(super) fn compare(
    first: &Arc<dyn BundleReader>,
    second: &Arc<dyn BundleReader>,
    pair: Pair<'_>,
    options: &DiffOptions,
) -> Result<TableDiff, Failure> {
    let sides = (pair.first, pair.second);
    let any = pair.first.or(pair.second).ok_or_else(no_side)?;
    let rows = |side: Option<&TableEntry>| side.map_or(0, |table| table.rows);
    let mut diff = TableDiff {
        table: any.table.clone(),
        model: any.model.clone(),
        found: In::Both,
        id: None,
        columns: ColumnsDiff::default(),
        rows: (rows(pair.first), rows(pair.second)),
        added: 0,
        removed: 0,
        changed: 0,
        passes: 0,
        left_out: None,
        samples: Vec::new(),
    };
    let (one, other) = match sides {
        (Some(one), Some(other)) => (one, other),
        (Some(one), None) => {
            (diff.found, diff.removed) = (In::First, one.rows);
            return Ok(diff);
        }
        (None, _) => {
            (diff.found, diff.added) = (In::Second, any.rows);
            return Ok(diff);
        }
    };
    diff.id = id_of(one, other);
    diff.columns = ColumnsDiff::of(one, other);
    for (bundle, table, which) in [(first, one, "first"), (second, other, "second")] {
        let lost = lost_parts(bundle.as_ref(), table).len();
        if lost > 0 {
            let of = table.parts.len();
            diff.left_out = Some(format!(
                "the {which} bundle has lost {lost} of its {of} parts"
            ));
            return Ok(diff);
        }
    }
    let (mut one, mut other) = (one.clone(), other.clone());
    cancel_equal_parts(
        (first.manifest(), &mut one),
        (second.manifest(), &mut other),
    );
    let one = Side {
        bundle: first,
        entry: one,
    };
    let other = Side {
        bundle: second,
        entry: other,
    };
    let schemas = (
        one.open()?.map(|r| r.schema()),
        other.open()?.map(|r| r.schema()),
    );
    let (id, table) = (diff.id.clone(), &diff.table);
    let comparing = match schemas {
        (Some(a), Some(b)) => Comparing::new(&a, &b, id, table)?,
        (Some(alone), None) | (None, Some(alone)) => Comparing::alone(&alone, id, table)?,
        (None, None) => return Ok(diff),
    };
    let found = rows::compare(&one, &other, &comparing, options)?;
    diff.passes = found.passes;
    (diff.added, diff.removed) = (found.added.count, found.removed.count);
    diff.changed = found.changed.count;
    let tallies = [found.changed, found.added, found.removed];
    diff.samples = rows::samples(&one, &other, &comparing, tallies)?;
    Ok(diff)
}

fn no_side() -> Failure {
    Failure::new(FailureKind::Internal, "compare a table", "no side has it")
}

/// The column by which rows are told apart: one whole number that is the primary key of both. Rows that
/// were read from several relations have none: what inherits from a table shares its columns, not its key.
fn id_of(one: &TableEntry, other: &TableEntry) -> Option<String> {
    let [id] = one.primary_key.as_slice() else {
        return None;
    };
    let fits = |table: &TableEntry| {
        let mut relations = table.parts.iter().map(|part| &part.relation);
        let first = relations.next();
        table.primary_key == [id.as_str()]
            && table.has_integer(id)
            && relations.all(|relation| Some(relation) == first)
    };
    (fits(one) && fits(other)).then(|| id.clone())
}

/// Takes out parts that hold equal rows on both sides: by the hash of their bytes, else by that of the COPY
/// stream that they were made of, under an equal definition of their columns.
fn cancel_equal_parts(first: (&Manifest, &mut TableEntry), second: (&Manifest, &mut TableEntry)) {
    let (one, other) = (first.1, second.1);
    for same in [by_bytes, by_stream] {
        let mut left: HashMap<[Digest; 2], Vec<usize>> = HashMap::new();
        let members = members(first.0, one);
        for (at, part) in one.parts.iter().enumerate() {
            if let Some(what) = members.get(part.member.as_str()).and_then(|m| same(m)) {
                left.entry(what).or_default().push(at);
            }
        }
        let members = self::members(second.0, other);
        let mut gone = vec![false; one.parts.len()];
        other.parts.retain(|part| {
            let what = members.get(part.member.as_str()).and_then(|m| same(m));
            let equal = what.and_then(|what| left.get_mut(&what)?.pop());
            if let Some(slot) = equal.and_then(|at| gone.get_mut(at)) {
                *slot = true;
            }
            equal.is_none()
        });
        let mut gone = gone.into_iter();
        one.parts.retain(|_| !gone.next().unwrap_or(false));
    }
}

fn by_bytes(member: &Member) -> Option<[Digest; 2]> {
    Some([member.digest, member.digest])
}

fn by_stream(member: &Member) -> Option<[Digest; 2]> {
    match &member.proof {
        // It is the stream of a range, of which the part has all rows unless it has further files.
        Some(Proof::Rows(rows)) if rows.with.iter().all(|of| !of.member.ends_with(".parquet")) => {
            Some([rows.definition, rows.content])
        }
        _ => None,
    }
}

/// The members of a table's parts.
fn members<'a>(manifest: &'a Manifest, table: &TableEntry) -> HashMap<&'a str, &'a Member> {
    let of = |part: &PartEntry| part.member.clone();
    let names: std::collections::HashSet<String> = table.parts.iter().map(of).collect();
    let members = manifest.members.iter().filter(|m| names.contains(&m.name));
    members
        .map(|member| (member.name.as_str(), member))
        .collect()
}

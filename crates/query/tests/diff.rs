//! What is found to differ between two bundles is what differs, whatever the budget.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arkstream_columnar::{EncodeOptions, PartEncoder};
use arkstream_conformance::{MemoryBundle, table_of};
use arkstream_format::{ColumnEncoding, ColumnEntry, TableEntry};
use arkstream_pipeline::{BundleReader, FailureKind};
use arkstream_query::diff::{DiffOptions, In, Kind, TableDiff, diff};
use arrow_array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;

/// Id, text, number.
type Row = (i64, Option<String>, Option<f64>);

/// A table as a bundle has it.
#[derive(Clone)]
struct Table {
    rows: Vec<Row>,
    rows_a_part: usize,
    primary_key: bool,
    /// Names of its columns behind `id`: some of `body`, `score`, and one of numbers by any other name.
    columns: Vec<&'static str>,
    /// Whether the first part is of a child that inherits from the table.
    inherited: bool,
    number: u32,
}

impl Table {
    fn of(rows: Vec<Row>) -> Self {
        Self {
            rows,
            rows_a_part: 1000,
            primary_key: true,
            columns: vec!["body", "score"],
            inherited: false,
            number: 1,
        }
    }

    fn batch(&self, rows: &[Row]) -> RecordBatch {
        let mut fields = vec![Field::new("id", DataType::Int64, true)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(
            rows.iter().map(|row| row.0).collect::<Int64Array>(),
        )];
        for name in &self.columns {
            let (kind, array): (DataType, ArrayRef) = match *name {
                "body" => {
                    let texts = rows.iter().map(|row| row.1.as_deref());
                    (DataType::Utf8, Arc::new(texts.collect::<StringArray>()))
                }
                "score" => {
                    let numbers = rows.iter().map(|row| row.2);
                    (
                        DataType::Float64,
                        Arc::new(numbers.collect::<Float64Array>()),
                    )
                }
                _ => {
                    let ids = rows.iter().map(|row| row.0 as i32);
                    (DataType::Int32, Arc::new(ids.collect::<Int32Array>()))
                }
            };
            fields.push(Field::new(*name, kind, true));
            arrays.push(array);
        }
        // As each part says of which snapshot it is: equal rows make different bytes.
        let of = [("arkstream.snapshot".to_owned(), self.number.to_string())];
        let schema = Schema::new_with_metadata(fields, of.into());
        RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
    }

    fn entry(&self) -> TableEntry {
        let column = |name: &&str| ColumnEntry {
            name: (*name).to_owned(),
            pg_type: match *name {
                "id" => "bigint".to_owned(),
                "body" => "text".to_owned(),
                "score" => "double precision".to_owned(),
                _ => "integer".to_owned(),
            },
            not_null: *name == "id",
            encoding: ColumnEncoding::Native,
            companion: None,
            odoo_type: None,
            relation: None,
            generated: false,
        };
        let mut table = table_of("ai.message");
        table.columns = ["id"].iter().chain(&self.columns).map(column).collect();
        if !self.primary_key {
            table.primary_key.clear();
        }
        table
    }

    fn bundle(&self) -> MemoryBundle {
        // A table without rows has a part without rows.
        let mut pieces: Vec<&[Row]> = self.rows.chunks(self.rows_a_part).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        let parts = pieces.into_iter().map(|rows| {
            let batch = self.batch(rows);
            let mut encoder = PartEncoder::new(batch.schema(), &EncodeOptions::default()).unwrap();
            encoder.write(&batch).unwrap();
            (encoder.finish().unwrap(), rows.len() as u64)
        });
        let mut bundle = MemoryBundle::default();
        bundle.add_table(self.entry(), parts);
        if self.inherited {
            bundle.manifest.tables[0].parts[0].relation = "public.child".to_owned();
        }
        bundle
    }
}

fn reader(bundle: MemoryBundle) -> Arc<dyn BundleReader> {
    Arc::new(bundle)
}

/// Compares within so many bytes, and gives up to `limit` rows of each kind.
fn compare(first: &Table, second: &Table, memory: u64, limit: usize) -> TableDiff {
    let (first, second) = (reader(first.bundle()), reader(second.bundle()));
    let options = DiffOptions {
        memory,
        limit,
        only: Vec::new(),
    };
    let mut found = diff(&first, &second, &options).unwrap();
    assert_eq!(found.tables.len(), 1);
    found.tables.remove(0)
}

fn ids(diff: &TableDiff, kind: Kind) -> Vec<i64> {
    let of_kind = diff.samples.iter().filter(|row| row.kind == kind);
    of_kind.map(|row| row.id.unwrap()).collect()
}

fn plain(rows: std::ops::Range<i64>) -> Vec<Row> {
    rows.map(|id| (id, Some(format!("message {id}")), Some(id as f64)))
        .collect()
}

/// Plants 1,000 differences among the rows. Returns the other side, and the ids that were changed,
/// added and removed.
fn planted(rows: &[Row]) -> (Vec<Row>, [Vec<i64>; 3]) {
    let step = rows.len() / 500;
    let (mut other, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (at, row) in rows.iter().enumerate() {
        match at % step {
            0 => {
                changed.push(row.0);
                other.push((row.0, row.1.as_ref().map(|text| format!("{text}!")), row.2));
            }
            1 if at / step < 250 => removed.push(row.0),
            _ => other.push(row.clone()),
        }
    }
    let first_new = rows.len() as i64 * 3;
    let added: Vec<i64> = (first_new..first_new + 250).collect();
    other.extend(plain(first_new..first_new + 250));
    // The heap's order is not that of ids.
    let half = other.len() / 3;
    other.rotate_left(half);
    (other, [changed, added, removed])
}

#[test]
fn a_thousand_planted_differences_are_found_and_no_others() {
    let soak = std::env::var_os("ARKSTREAM_SOAK").is_some_and(|value| value == "1");
    let rows = if soak { 1_000_000 } else { 40_000 };
    let first = Table {
        rows_a_part: 7_000,
        ..Table::of(plain(0..rows))
    };
    let (others, [changed, added, removed]) = planted(&first.rows);
    assert_eq!(changed.len() + added.len() + removed.len(), 1000);
    let second = Table {
        rows: others,
        rows_a_part: 11_000,
        number: 2,
        ..first.clone()
    };
    // The default holds all of it. The other budget holds a twentieth, and so reads it many times.
    let small = rows as u64 * 24 / 20 * 4;
    for (memory, many) in [(128 << 20, false), (small, true)] {
        let found = compare(&first, &second, memory, 1000);
        assert_eq!(found.passes > 10, many, "{}", found.passes);
        assert_eq!((found.changed, found.added, found.removed), (500, 250, 250));
        assert_eq!(ids(&found, Kind::Changed), changed);
        assert_eq!(ids(&found, Kind::Added), added);
        assert_eq!(ids(&found, Kind::Removed), removed);
        let back = compare(&second, &first, memory, 0);
        assert_eq!((back.changed, back.added, back.removed), (500, 250, 250));
        assert!(back.samples.is_empty());
    }
}

#[test]
fn changed_rows_tell_the_fields_that_differ_on_both_sides() {
    let mut rows = plain(0..10);
    let long = "x".repeat(10_000);
    rows[4].1 = Some(format!("{long}a"));
    let first = Table::of(rows.clone());
    rows[3].1 = None;
    rows[4].1 = Some(format!("{long}b"));
    rows.remove(7);
    let second = Table {
        number: 2,
        ..Table::of(rows)
    };
    let found = compare(&first, &second, 1 << 20, 5);
    let [null, cut, removed] = found.samples.as_slice() else {
        panic!("{:?}", found.samples);
    };
    assert_eq!(
        (null.id, null.fields.len()),
        (Some(3), 1),
        "only the field that differs"
    );
    assert_eq!(null.fields[0].name, "body");
    assert_eq!(null.fields[0].first.as_ref().unwrap().text, "message 3");
    assert_eq!(null.fields[0].second, None);
    let field = &cut.fields[0];
    let (one, other) = (
        field.first.as_ref().unwrap(),
        field.second.as_ref().unwrap(),
    );
    assert!(one.is_cut() && one.bytes == 10_001 && one.text.len() == 4096);
    assert_eq!(one.text, other.text, "they differ behind what is shown");
    assert_eq!(
        (removed.kind, removed.id, removed.fields.len()),
        (Kind::Removed, Some(7), 3)
    );
}

#[test]
fn equal_parts_are_not_read_and_equal_rows_in_other_parts_are_equal() {
    let first = Table::of(plain(0..3_000));
    let same = compare(&first, &first, 0, 9);
    assert!(same.is_equal() && same.passes == 0, "{same:?}");
    let mut second = first.clone();
    second.rows[2_500].2 = Some(-1.0);
    let one_part = compare(&first, &second, 1 << 20, 9);
    assert_eq!((one_part.changed, one_part.passes), (1, 1));
    let mut other = Table {
        number: 2,
        rows_a_part: 77,
        ..first.clone()
    };
    other.rows.reverse();
    let found = compare(&first, &other, 128 << 20, 9);
    assert!(found.is_equal() && found.passes == 1, "{found:?}");
}

#[test]
fn a_part_that_is_there_twice_is_equal_to_one_part_once() {
    let first = Table {
        rows_a_part: 10,
        primary_key: false,
        ..Table::of(plain(0..10))
    };
    let mut second = first.clone();
    second.rows.extend(plain(0..10));
    let found = compare(&first, &second, 1 << 20, 9);
    assert_eq!((found.added, found.removed), (10, 0));
    let found = compare(&second, &first, 1 << 20, 9);
    assert_eq!((found.added, found.removed), (0, 10));
}

#[test]
fn columns_that_one_side_has_are_told_and_not_compared() {
    let first = Table::of(plain(0..50));
    let mut second = Table {
        columns: vec!["score", "rank"],
        number: 2,
        ..first.clone()
    };
    second.rows[9].2 = None;
    let found = compare(&first, &second, 1 << 20, 5);
    assert_eq!(found.columns.added, ["rank"]);
    assert_eq!(found.columns.removed, ["body"]);
    assert_eq!((found.changed, ids(&found, Kind::Changed)), (1, vec![9]));
    let alike = Table {
        columns: vec!["score", "rank"],
        number: 2,
        ..first.clone()
    };
    let found = compare(&first, &alike, 1 << 20, 5);
    assert_eq!(
        (found.changed, found.is_equal()),
        (0, false),
        "a column is a difference"
    );
}

#[test]
fn rows_of_several_relations_have_no_id() {
    let first = Table {
        inherited: true,
        rows_a_part: 10,
        ..Table::of(plain(0..20))
    };
    let mut second = first.clone();
    second.rows[15].1 = None;
    let found = compare(&first, &second, 1 << 20, 5);
    assert_eq!(
        (found.id, found.added, found.removed, found.changed),
        (None, 1, 1, 0)
    );
}

#[test]
fn what_is_lost_is_not_compared_and_what_is_damaged_is_an_error() {
    let table = Table::of(plain(0..3_000));
    let name = "odoo_data/models/ai.message/part-00001.parquet";
    let whole = reader(table.bundle());
    let options = DiffOptions {
        memory: 1 << 20,
        limit: 0,
        only: Vec::new(),
    };
    let mut without = table.bundle();
    without
        .manifest
        .members
        .retain(|member| member.name != name);
    let lost = reader(without);
    let found = diff(&whole, &lost, &options).unwrap();
    assert!(found.is_partial());
    let why = found.tables[0].left_out.as_ref().unwrap();
    assert_eq!(why, "the second bundle has lost 1 of its 3 parts");

    let other = Table {
        number: 2,
        ..table.clone()
    };
    let mut flipped = other.bundle();
    let chunk = flipped.chunks.get_mut(name).unwrap()[0].as_mut().unwrap();
    let mut bytes = chunk.to_vec();
    bytes[500] ^= 1;
    *chunk = bytes.into();
    let damaged = reader(flipped);
    let failure = diff(&whole, &damaged, &options).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Damaged);

    let named = |name: &str| DiffOptions {
        only: vec![name.to_owned()],
        ..options.clone()
    };
    for name in ["ai.message", "ai_message", "public.ai_message"] {
        assert_eq!(diff(&whole, &whole, &named(name)).unwrap().tables.len(), 1);
    }
    let failure = diff(&whole, &whole, &named("ai.massage")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage);
}

#[test]
fn a_table_without_rows_and_one_that_is_not_there() {
    let (none, some) = (Table::of(Vec::new()), Table::of(plain(0..5)));
    let found = compare(&none, &some, 1 << 20, 2);
    assert_eq!((found.added, found.removed), (5, 0));
    assert_eq!(ids(&found, Kind::Added), [0, 1], "the smallest two");
    let found = compare(&some, &none, 1 << 20, 2);
    assert_eq!((found.added, found.removed), (0, 5));
    let empty = reader(MemoryBundle::default());
    let options = DiffOptions {
        memory: 0,
        limit: 0,
        only: Vec::new(),
    };
    let found = diff(&empty, &reader(some.bundle()), &options).unwrap();
    assert_eq!(
        (found.tables[0].found, found.tables[0].added),
        (In::Second, 5)
    );
    assert!(!found.is_equal());
}

/// What differs, by the plainest means. Numbers are compared bit by bit.
fn naive(first: &[Row], second: &[Row]) -> [BTreeSet<i64>; 3] {
    let bits = |rows: &[Row]| -> BTreeMap<i64, (Option<String>, Option<u64>)> {
        let value = |row: &Row| (row.0, (row.1.clone(), row.2.map(f64::to_bits)));
        rows.iter().map(value).collect()
    };
    let (one, other) = (bits(first), bits(second));
    let without = |a: &BTreeMap<i64, _>, b: &BTreeMap<i64, _>| -> BTreeSet<i64> {
        a.keys().filter(|id| !b.contains_key(id)).copied().collect()
    };
    let changed = one
        .iter()
        .filter(|(id, row)| other.get(id).is_some_and(|o| o != *row));
    let changed = changed.map(|(id, _)| *id).collect();
    [changed, without(&other, &one), without(&one, &other)]
}

/// How many rows each side has beyond those of the other, every one counted.
fn naive_sets(first: &[Row], second: &[Row]) -> (u64, u64) {
    let counts = |rows: &[Row]| {
        let mut counts: BTreeMap<_, i64> = BTreeMap::new();
        for row in rows {
            *counts
                .entry((row.0, row.1.clone(), row.2.map(f64::to_bits)))
                .or_default() += 1;
        }
        counts
    };
    let (one, other) = (counts(first), counts(second));
    let beyond = |a: &BTreeMap<_, i64>, b: &BTreeMap<_, i64>| -> u64 {
        let more = a
            .iter()
            .map(|(row, n)| n - b.get(row).copied().unwrap_or(0));
        more.filter(|n| *n > 0).sum::<i64>() as u64
    };
    (beyond(&other, &one), beyond(&one, &other))
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop::option::of("[ab]{0,1}");
    let number = prop::option::of(prop::sample::select(vec![0.0, -0.0, 1.5, f64::NAN]));
    prop::collection::vec((0..12i64, text, number), 0..40)
}

fn unique(rows: Vec<Row>) -> Vec<Row> {
    let mut seen = BTreeSet::new();
    rows.into_iter().filter(|row| seen.insert(row.0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn as_the_plainest_comparison_says(
        first in rows(), second in rows(), a_part in (1..9usize, 1..9usize), memory in 0..4000u64,
    ) {
        let table = |rows, rows_a_part, number, primary_key| Table {
            rows_a_part, number, primary_key, ..Table::of(rows)
        };
        let (one, other) = (unique(first.clone()), unique(second.clone()));
        let found = compare(
            &table(one.clone(), a_part.0, 1, true), &table(other.clone(), a_part.1, 2, true), memory, 100,
        );
        for (kind, expected) in [Kind::Changed, Kind::Added, Kind::Removed].into_iter().zip(naive(&one, &other)) {
            prop_assert_eq!(ids(&found, kind), expected.into_iter().collect::<Vec<_>>(), "{:?}", kind);
        }
        let count = [found.changed, found.added, found.removed].iter().sum::<u64>();
        prop_assert_eq!(count, found.samples.len() as u64);
        let sets = compare(
            &table(first.clone(), a_part.0, 1, false), &table(second.clone(), a_part.1, 2, false), memory, 3,
        );
        prop_assert_eq!((sets.added, sets.removed), naive_sets(&first, &second));
        prop_assert_eq!(sets.changed, 0);
    }
}

//! Rows of parts that were written by the encoder and stand in a bundle.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, sync::Arc};

use arkstream_columnar::{EncodeOptions, PartEncoder};
use arkstream_conformance::{MemoryBundle, table_of};
use arkstream_format::{Component, Digest, LARGE_KEY, LargeEntry, TableEntry};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};
use arkstream_query::{Rows, lost_parts};
use arrow_array::{Array as _, Int64Array, RecordBatch, StringArray, cast::AsArray as _};
use arrow_schema::{DataType, Field, Schema};

const ROW_GROUP: usize = 1 << 16;

fn batch(first: i64, rows: i64, text: impl Fn(i64) -> String) -> RecordBatch {
    let fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("body", DataType::Utf8, true),
        Field::new("note", DataType::Utf8, true),
    ];
    // As each part says what it is.
    let metadata = HashMap::from([("arkstream.part".to_owned(), first.to_string())]);
    let schema = Schema::new_with_metadata(fields, metadata);
    let ids = first..first + rows;
    let texts: StringArray = ids.clone().map(|id| Some(text(id))).collect();
    let notes: StringArray = ids
        .clone()
        .map(|id| (id % 2 == 0).then_some("even"))
        .collect();
    let columns: [Arc<dyn arrow_array::Array>; 3] = [
        Arc::new(ids.collect::<Int64Array>()),
        Arc::new(texts),
        Arc::new(notes),
    ];
    RecordBatch::try_new(Arc::new(schema), columns.into()).unwrap()
}

fn part(batch: &RecordBatch) -> bytes::Bytes {
    let options = EncodeOptions {
        row_group_bytes: ROW_GROUP,
        ..EncodeOptions::default()
    };
    let mut encoder = PartEncoder::new(batch.schema(), &options).unwrap();
    encoder.write(batch).unwrap();
    encoder.finish().unwrap()
}

fn name(number: usize) -> String {
    format!("odoo_data/models/ai.message/part-{number:05}.parquet")
}

/// A bundle of one table with these parts, and the table.
fn bundle(parts: &[RecordBatch]) -> (MemoryBundle, TableEntry) {
    let parts = parts.iter();
    let parts = parts.map(|batch| (part(batch), batch.num_rows() as u64));
    let mut bundle = MemoryBundle::default();
    bundle.add_table(table_of("ai.message"), parts);
    let table = bundle.manifest.tables[0].clone();
    (bundle, table)
}

fn ids(rows: Rows) -> Result<Vec<i64>, Failure> {
    let mut ids = Vec::new();
    for batch in rows {
        let batch = batch?;
        let column = batch.column_by_name("id").unwrap();
        ids.extend(
            column
                .as_primitive::<arrow_array::types::Int64Type>()
                .values(),
        );
    }
    Ok(ids)
}

/// Text that does not compress.
fn noise(seed: i64, len: usize) -> String {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(len);
    while text.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push(char::from(b' ' + (state % 95) as u8));
    }
    text
}

#[test]
fn all_parts_come_in_order_and_only_the_columns_that_were_asked_for() {
    let parts = [
        batch(0, 5_000, |id| format!("row {id}")),
        batch(5_000, 3, |_| String::new()),
    ];
    let (bundle, table) = bundle(&parts);
    let bundle: Arc<dyn BundleReader> = Arc::new(bundle);
    let all = Rows::open(bundle.clone(), &table).unwrap();
    assert_eq!(all.schema().fields().len(), 3);
    assert_eq!(ids(all).unwrap(), (0..5_003).collect::<Vec<_>>());

    let some = Rows::open(bundle.clone(), &table)
        .unwrap()
        .only(&["note", "id"])
        .unwrap();
    let names: Vec<_> = some
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, ["id", "note"]);
    let nulls: usize = some
        .map(|batch| batch.unwrap().column(1).null_count())
        .sum();
    assert_eq!(nulls, 2_501);
    let unknown = Rows::open(bundle, &table).unwrap().only(&["missing"]);
    assert!(unknown.err().unwrap().why().contains("missing"));
}

#[test]
fn a_part_of_many_chunks_is_read_whole() {
    let parts = [batch(0, 300, |id| noise(id, 100_000))];
    let (bundle, table) = bundle(&parts);
    assert!(bundle.manifest().members[0].chunks.len() > 5);
    let rows = Rows::open(Arc::new(bundle), &table).unwrap();
    let mut seen = 0;
    for found in rows {
        let found = found.unwrap();
        assert!(found.num_rows() < 300, "row group by row group");
        assert_eq!(
            found.columns(),
            parts[0].slice(seen, found.num_rows()).columns()
        );
        seen += found.num_rows();
    }
    assert_eq!(seen, 300);
}

#[test]
fn damage_is_told_with_its_place_and_ends_the_rows() {
    let parts = [batch(0, 300, |id| noise(id, 100_000))];
    let (mut bundle, table) = bundle(&parts);
    let chunk = &mut bundle.chunks.get_mut(&name(0)).unwrap()[1];
    let mut bytes = chunk.take().unwrap().to_vec();
    bytes[17] ^= 1;
    *chunk = Some(bytes.into());
    let mut rows = Rows::open(Arc::new(bundle), &table).unwrap();
    let failure = rows.find_map(Result::err).unwrap();
    assert_eq!(failure.kind, FailureKind::Damaged);
    let told = failure.to_string();
    assert!(
        told.contains(&name(0)) && told.contains("chunk 1"),
        "{told}"
    );
    assert!(rows.next().is_none());
}

#[test]
fn a_part_that_is_lost_or_short_is_not_passed_over_in_silence() {
    let parts = [
        batch(0, 10, |_| String::new()),
        batch(10, 10, |_| String::new()),
        batch(20, 10, |_| String::new()),
    ];
    let (mut lacking, mut table) = bundle(&parts);
    lacking
        .manifest
        .members
        .retain(|member| member.name != name(1));
    let lacking: Arc<dyn BundleReader> = Arc::new(lacking);
    assert_eq!(lost_parts(lacking.as_ref(), &table), [&table.parts[1]]);
    let refused = Rows::open(lacking.clone(), &table).err().unwrap();
    assert!(refused.why().contains(&name(1)), "{refused}");
    let rest = ids(Rows::open_remaining(lacking, &table).unwrap()).unwrap();
    assert_eq!(rest, (0..10).chain(20..30).collect::<Vec<_>>());

    let (whole, _) = bundle(&parts);
    table.parts[2].rows = 11;
    let failure = ids(Rows::open(Arc::new(whole), &table).unwrap()).unwrap_err();
    assert!(failure.why().contains("the manifest says 11"), "{failure}");
}

#[test]
fn parts_of_another_shape_are_damage() {
    let other = batch(3, 3, |_| String::new()).project(&[0, 1]).unwrap();
    let (bundle, table) = bundle(&[batch(0, 3, |_| String::new()), other]);
    let failure = ids(Rows::open(Arc::new(bundle), &table).unwrap()).unwrap_err();
    assert!(failure.why().contains("different columns"), "{failure}");
}

#[test]
fn a_value_in_a_member_of_its_own_is_brought_back_into_its_row() {
    let name = "odoo_data/models/ai.message/large/part-00000-3-body.bin";
    let value = "a large value ".repeat(1000);
    let entry = LargeEntry {
        row: 3,
        column: "body".to_owned(),
        member: name.to_owned(),
        bytes: value.len() as u64,
        digest: Digest::of_chunks(&[Digest::of(value.as_bytes())]),
    };
    let plain = batch(0, 10, |id| format!("small {id}"));
    let mut schema = plain.schema().as_ref().clone();
    schema
        .metadata
        .insert(LARGE_KEY.to_owned(), LargeEntry::write(&[entry]));
    let part = plain.with_schema(Arc::new(schema)).unwrap();
    let (mut bundle, table) = bundle(&[part]);
    let bodies = |bundle: &MemoryBundle, names: &[&str]| -> Result<Vec<String>, Failure> {
        let rows = Rows::open(Arc::new(bundle.clone()), &table)?.only(names)?;
        let mut found = Vec::new();
        for batch in rows {
            let batch = batch?;
            let texts = batch
                .column(batch.num_columns() - 1)
                .as_string::<i32>()
                .clone();
            found.extend(texts.iter().map(|text| text.unwrap_or("NULL").to_owned()));
        }
        Ok(found)
    };
    let lost = bodies(&bundle, &["id", "body"]).unwrap_err();
    assert_eq!(lost.kind, FailureKind::Damaged, "never NULL: {lost}");
    // Who does not look at the column does not need it.
    assert_eq!(bodies(&bundle, &["note"]).unwrap().len(), 10);

    let bytes = bytes::Bytes::from(value.clone());
    bundle.add(name, Component::Models, 0o600, vec![Some(bytes)]);
    let mut expected: Vec<String> = (0..10).map(|id| format!("small {id}")).collect();
    expected[3] = value;
    assert_eq!(bodies(&bundle, &["id", "body"]).unwrap(), expected);
}

//! Rows of parts that were written by the encoder and stand in a bundle.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, sync::Arc};

use arkstream_columnar::{EncodeOptions, PartEncoder};
use arkstream_conformance::{MemoryBundle, MemorySink};
use arkstream_format::{
    Component, Compression, Generator, Manifest, PartEntry, RunId, TableEntry, TableRole,
};
use arkstream_pipeline::{
    Budget, BundleReader, BundleSink as _, Failure, FailureKind, MemberFacts, MemberSpec, Sink as _,
};
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
async fn bundle(parts: &[RecordBatch]) -> (MemoryBundle, TableEntry) {
    let sink = MemorySink::default();
    let mut entries = Vec::new();
    for (number, batch) in parts.iter().enumerate() {
        let spec = MemberSpec {
            name: name(number),
            component: Component::Models,
            compression: Compression::Stored,
            modified_at: Default::default(),
            mode: 0o600,
            budget: Budget::new(1 << 20),
        };
        sink.put(spec, part(batch), MemberFacts::default())
            .await
            .unwrap();
        entries.push(PartEntry {
            member: name(number),
            rows: batch.num_rows() as u64,
            relation: "public.ai_message".to_owned(),
            relfilenode: None,
            first_block: 0,
            end_block: None,
            generation: 1,
            kept_by: None,
        });
    }
    let table = TableEntry {
        table: "public.ai_message".to_owned(),
        role: TableRole::Model,
        model: Some("ai.message".to_owned()),
        filter: None,
        columns: Vec::new(),
        columns_left_out: Vec::new(),
        primary_key: vec!["id".to_owned()],
        foreign_keys: Vec::new(),
        rows: entries.iter().map(|part| part.rows).sum(),
        parts: entries,
    };
    let generator = Generator::new("conformance", "0");
    let manifest = Manifest {
        tables: vec![table.clone()],
        ..Manifest::empty(RunId(String::new()), generator, Default::default())
    };
    let manifest = sink.publish(manifest).await.unwrap().manifest;
    (MemoryBundle::of_sink(&sink, manifest), table)
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

#[tokio::test]
async fn all_parts_come_in_order_and_only_the_columns_that_were_asked_for() {
    let parts = [
        batch(0, 5_000, |id| format!("row {id}")),
        batch(5_000, 3, |_| String::new()),
    ];
    let (bundle, table) = bundle(&parts).await;
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

#[tokio::test]
async fn a_part_of_many_chunks_is_read_whole() {
    let parts = [batch(0, 300, |id| noise(id, 100_000))];
    let (bundle, table) = bundle(&parts).await;
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

#[tokio::test]
async fn damage_is_told_with_its_place_and_ends_the_rows() {
    let parts = [batch(0, 300, |id| noise(id, 100_000))];
    let (mut bundle, table) = bundle(&parts).await;
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

#[tokio::test]
async fn a_part_that_is_lost_or_short_is_not_passed_over_in_silence() {
    let parts = [
        batch(0, 10, |_| String::new()),
        batch(10, 10, |_| String::new()),
        batch(20, 10, |_| String::new()),
    ];
    let (mut lacking, mut table) = bundle(&parts).await;
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

    let (whole, _) = bundle(&parts).await;
    table.parts[2].rows = 11;
    let failure = ids(Rows::open(Arc::new(whole), &table).unwrap()).unwrap_err();
    assert!(failure.why().contains("the manifest says 11"), "{failure}");
}

#[tokio::test]
async fn parts_of_another_shape_are_damage() {
    let other = batch(3, 3, |_| String::new()).project(&[0, 1]).unwrap();
    let (bundle, table) = bundle(&[batch(0, 3, |_| String::new()), other]).await;
    let failure = ids(Rows::open(Arc::new(bundle), &table).unwrap()).unwrap_err();
    assert!(failure.why().contains("different columns"), "{failure}");
}

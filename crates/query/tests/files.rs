//! Rows as files. What PostgreSQL and pyarrow make of them is in the end-to-end tests.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::HashMap, sync::Arc};

use arkstream_columnar::layout::{KEY_COMPANION, KEY_COMPANION_OF};
use arkstream_query::Format;
use arrow_array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};

fn written(format: Format, batch: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = format.begin(&mut out, &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    out
}

fn batch() -> RecordBatch {
    let with = |field: Field, key: &str, value: &str| {
        field.with_metadata(HashMap::from([(key.to_owned(), value.to_owned())]))
    };
    let day = with(
        Field::new("day", DataType::Date32, true),
        KEY_COMPANION,
        "day__text",
    );
    let text = Field::new("day__text", DataType::Utf8, true);
    let text = with(text, KEY_COMPANION_OF, "day");
    let fields = vec![
        Field::new("big", DataType::Int64, true),
        Field::new("a \"name\", of sorts", DataType::Utf8, true),
        day,
        text,
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![
            Some((1 << 53) - 1),
            Some(1 << 53),
            None,
        ])),
        Arc::new(StringArray::from(vec![
            Some("a,\"b\"\nc\r"),
            Some(""),
            None,
        ])),
        Arc::new(Date32Array::from(vec![Some(19_844), None, None])),
        Arc::new(StringArray::from(vec![None, Some("infinity"), None])),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

#[test]
fn csv_tells_null_from_the_empty_text_and_companions_are_no_columns() {
    let text = String::from_utf8(written(Format::Csv, &batch())).unwrap();
    let rows =
        "9007199254740991,\"a,\"\"b\"\"\nc\r\",2024-05-01\n9007199254740992,\"\",infinity\n,,\n";
    assert_eq!(
        text,
        format!("big,\"a \"\"name\"\", of sorts\",day\n{rows}{rows}")
    );
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(&reader.headers().unwrap()[1], "a \"name\", of sorts");
    let first = reader.records().next().unwrap().unwrap();
    assert_eq!(&first[1], "a,\"b\"\nc\r");
}

#[test]
fn json_keeps_whole_numbers_that_readers_would_round() {
    let text = String::from_utf8(written(Format::Jsonl, &batch())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    assert_eq!(
        lines[0],
        r#"{"big":9007199254740991,"a \"name\", of sorts":"a,\"b\"\nc\r","day":"2024-05-01"}"#
    );
    assert_eq!(
        lines[1],
        r#"{"big":"9007199254740992","a \"name\", of sorts":"","day":"infinity"}"#
    );
    assert_eq!(
        lines[2],
        r#"{"big":null,"a \"name\", of sorts":null,"day":null}"#
    );
}

#[test]
fn parquet_keeps_every_field_and_says_nothing_of_single_parts() {
    let batch = batch();
    let metadata = ["arkstream.part", "arkstream.table", "arkstream.large"]
        .map(|key| (key.to_owned(), "x".to_owned()));
    let schema = batch
        .schema()
        .as_ref()
        .clone()
        .with_metadata(metadata.into());
    let batch = batch.with_schema(Arc::new(schema)).unwrap();
    let file = bytes::Bytes::from(written(Format::Parquet, &batch));
    let read = arkstream_columnar::read_part(file).unwrap();
    let found = read.schema();
    assert_eq!(found.fields(), batch.schema().fields());
    assert_eq!(
        found.metadata().keys().collect::<Vec<_>>(),
        ["arkstream.table"]
    );
    assert_eq!(
        read.map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
        6
    );
}

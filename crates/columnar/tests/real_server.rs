//! The decoder against what a real server sent, value by value.
//!
//! The texts come through the types' output functions and share no code with the decoder.

mod support;

use std::collections::HashMap;

use arkstream_columnar::{EncodeOptions, Encoding, PartEncoder, check_parquet, write_text};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use support::{Fixture, decode, fixture};

#[test]
fn every_scalar_value_equals_the_servers_text() {
    let exceptions = compare("scalars");
    assert_eq!(
        exceptions,
        [
            ("d", 2),
            ("money_amount", 1),
            ("t", 2),
            ("ts", 5),
            ("tstz", 5),
            ("whole", 1),
            ("wide", 1),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    );
}

#[test]
fn every_array_value_equals_the_servers_text() {
    let exceptions = compare("arrays");
    assert_eq!(
        exceptions,
        [
            ("amounts", 2),
            ("ds", 3),
            ("i4", 5),
            ("i8", 1),
            ("texts", 1),
            ("ts", 1),
            ("tss", 4),
            ("tstzs", 4),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    );
}

#[test]
fn a_table_without_columns_keeps_its_rows() {
    let fixture = fixture("bare");
    let batch = batch(&fixture);
    assert_eq!((batch.num_columns(), batch.num_rows()), (0, 3));
}

#[test]
fn dates_and_times_equal_the_servers_own_count() {
    let fixture = fixture("scalars");
    let batch = batch(&fixture);
    let mut compared = 0;
    let columns = fixture.layout.columns().len();
    for (index, name) in ["d", "ts", "tstz", "t"].into_iter().enumerate() {
        let values = integers(batch.column_by_name(name).expect(name));
        for (row, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let expected = fixture.texts[row][columns + index].as_deref();
                assert_eq!(expected, Some(value.to_string().as_str()), "{name} {row}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 8 + 6 + 6 + 4);
}

#[test]
fn every_typed_value_is_printed_as_the_server_prints_it() {
    for table in ["scalars", "arrays"] {
        let fixture = fixture(table);
        let batch = batch(&fixture);
        let mut compared = 0;
        for (index, layout) in fixture.layout.columns().iter().enumerate() {
            let neat = batch.column_by_name(&layout.name).expect("neat");
            for row in (0..neat.len()).filter(|row| neat.is_valid(*row)) {
                let mut text = String::new();
                assert!(write_text(neat, row, &mut text), "{}", layout.name);
                let expected = fixture.texts[row][index].as_deref();
                assert_eq!(expected, Some(text.as_str()), "{}", layout.name);
                compared += 1;
            }
        }
        assert!(compared > 50, "{table}: {compared}");
    }
}

#[test]
fn parquet_gives_back_the_very_batch() {
    for table in ["scalars", "arrays"] {
        let fixture = fixture(table);
        let batch = batch(&fixture);
        let schema = fixture.layout.arrow_schema(HashMap::new());
        let mut encoder = PartEncoder::new(schema, &EncodeOptions::default()).expect("encoder");
        encoder.write(&batch).expect("write");
        let file = encoder.finish().expect("file");
        assert_eq!(
            check_parquet(file.clone()).expect("check").rows,
            batch.num_rows() as u64
        );
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .expect("open")
            .build()
            .expect("reader");
        let read = reader.next().expect("a batch").expect("decodes");
        assert_eq!(read.schema().fields(), batch.schema().fields());
        assert_eq!(read.columns(), batch.columns());
    }
}

/// Compares all values and counts, per column, those that stand in the companion.
fn compare(table: &str) -> HashMap<String, usize> {
    let fixture = fixture(table);
    let batch = batch(&fixture);
    assert_eq!(batch.num_rows(), fixture.texts.len());
    let mut exceptions = HashMap::new();
    for (index, layout) in fixture.layout.columns().iter().enumerate() {
        let neat = batch.column_by_name(&layout.name).expect("neat");
        let companion = layout
            .companion
            .as_deref()
            .map(|name| batch.column_by_name(name).expect("companion"));
        assert!(layout.encoding == Encoding::Native || *neat.data_type() == DataType::Utf8);
        for (row, texts) in fixture.texts.iter().enumerate() {
            let place = format!("{} row {row}", layout.name);
            let text = companion.filter(|companion| companion.is_valid(row));
            match (&texts[index], text) {
                (None, text) => assert!(neat.is_null(row) && text.is_none(), "{place}"),
                (Some(expected), Some(text)) => {
                    assert!(neat.is_null(row), "{place}");
                    assert_eq!(text.as_string::<i32>().value(row), expected, "{place}");
                    *exceptions.entry(layout.name.clone()).or_default() += 1;
                }
                (Some(expected), None) => {
                    assert!(neat.is_valid(row), "{place}");
                    assert_value(neat, row, expected, &place);
                }
            }
        }
    }
    exceptions
}

fn batch(fixture: &Fixture) -> RecordBatch {
    assert_eq!(fixture.layout.select_list(), fixture.select.trim_end());
    decode(&fixture.layout, [fixture.wire.as_slice()])
        .expect("decodes")
        .expect("rows")
}

fn assert_value(array: &dyn Array, row: usize, expected: &str, place: &str) {
    let found = match array.data_type() {
        DataType::Boolean => if array.as_boolean().value(row) {
            "t"
        } else {
            "f"
        }
        .to_owned(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float32 => {
            let found = array.as_primitive::<Float32Type>().value(row);
            let expected: f32 = expected.parse().expect("float");
            assert_eq!(found.to_bits(), expected.to_bits(), "{place}");
            return;
        }
        DataType::Float64 => {
            let found = array.as_primitive::<Float64Type>().value(row);
            let expected: f64 = expected.parse().expect("float");
            assert_eq!(found.to_bits(), expected.to_bits(), "{place}");
            return;
        }
        DataType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => format!("\\x{}", hex(array.as_binary::<i32>().value(row))),
        DataType::FixedSizeBinary(16) => {
            let hex = hex(array.as_fixed_size_binary().value(row));
            assert_eq!(hex, expected.replace('-', ""), "{place}");
            return;
        }
        DataType::Date32 | DataType::Time64(_) | DataType::Timestamp(_, _) => {
            if let Some(expected) = parse_time(array.data_type(), expected) {
                assert_eq!(integers(array)[row], Some(expected), "{place}");
            }
            return;
        }
        DataType::List(_) => {
            let elements = array.as_list::<i32>().value(row);
            let expected = parse_array(expected);
            assert_eq!(elements.len(), expected.len(), "{place}");
            for (index, expected) in expected.iter().enumerate() {
                match expected {
                    None => assert!(elements.is_null(index), "{place}"),
                    Some(expected) => assert_value(&elements, index, expected, place),
                }
            }
            return;
        }
        other => panic!("{place}: {other}"),
    };
    assert_eq!(found, expected, "{place}");
}

/// Days or microseconds by chrono, of the years it can read.
fn parse_time(data_type: &DataType, text: &str) -> Option<i64> {
    if text.len() > 29 || text.ends_with("BC") || text.starts_with('5') {
        return None;
    }
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("epoch");
    let text = text.strip_suffix("+00").unwrap_or(text);
    match data_type {
        DataType::Date32 => {
            let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
            Some((date - epoch).num_days())
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
            Some(time.and_utc().timestamp_micros())
        }
        _ => {
            let time = NaiveTime::parse_from_str(text, "%H:%M:%S%.f").expect("time");
            (time - NaiveTime::MIN).num_microseconds()
        }
    }
}

fn integers(array: &dyn Array) -> Vec<Option<i64>> {
    match array.data_type() {
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().iter();
            days.map(|day| day.map(i64::from)).collect()
        }
        DataType::Time64(_) => array
            .as_primitive::<Time64MicrosecondType>()
            .iter()
            .collect(),
        _ => array
            .as_primitive::<TimestampMicrosecondType>()
            .iter()
            .collect(),
    }
}

/// A one-dimensional array literal as PostgreSQL prints it.
fn parse_array(text: &str) -> Vec<Option<String>> {
    let inner = text
        .strip_prefix('{')
        .and_then(|t| t.strip_suffix('}'))
        .expect("braces");
    let mut elements = Vec::new();
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some() {
        let mut element = String::new();
        let quoted = chars.next_if_eq(&'"').is_some();
        loop {
            match chars.next() {
                Some('\\') => element.push(chars.next().expect("escape")),
                Some('"') if quoted => {
                    chars.next_if_eq(&',');
                    break;
                }
                Some(',') if !quoted => break,
                Some(char) => element.push(char),
                None => break,
            }
        }
        elements.push((quoted || element != "NULL").then_some(element));
    }
    elements
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

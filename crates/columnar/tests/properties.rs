//! Random cuts, random values, random damage.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use arkstream_columnar::{
    CopyDecoder, EncodeOptions, PartEncoder, PgColumn, TableLayout, check_parquet,
};
use arrow_array::builder::{FixedSizeBinaryBuilder, Int32Builder, ListBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use support::{array_column, column, decode, fixture, numeric_typmod, stream, wire_array};

#[test]
fn every_cut_of_the_stream_gives_the_same_batch() {
    for table in ["arrays", "scalars"] {
        let fixture = fixture(table);
        let whole = decode(&fixture.layout, [fixture.wire.as_slice()]).expect("decodes");
        for size in 1..40 {
            let cut = decode(&fixture.layout, fixture.wire.chunks(size)).expect("decodes");
            assert_eq!(cut, whole, "{table} in pieces of {size}");
        }
        for end in 0..fixture.wire.len() {
            let (head, tail) = fixture.wire.split_at(end);
            let cut = decode(&fixture.layout, [head, tail]).expect("decodes");
            assert_eq!(cut, whole, "{table} cut at {end}");
        }
    }
}

/// One row of values as Arrow has them.
#[derive(Debug, Clone)]
struct Row {
    flag: Option<bool>,
    small: Option<i16>,
    int: Option<i32>,
    large: Option<i64>,
    float: Option<u64>,
    amount: Option<i128>,
    text: Option<String>,
    raw: Option<Vec<u8>>,
    day: Option<i32>,
    instant: Option<i64>,
    zoned: Option<i64>,
    time: Option<i64>,
    uuid: Option<[u8; 16]>,
    list: Option<Vec<Option<i32>>>,
}

fn row() -> impl Strategy<Value = Row> {
    let limit = 10_i128.pow(38) - 1;
    let scalars = (
        of(any::<bool>()),
        of(any::<i16>()),
        of(any::<i32>()),
        of(any::<i64>()),
        of(any::<u64>()),
        of(-limit..=limit),
        of(".{0,12}"),
        of(vec(any::<u8>(), 0..12)),
    );
    let times = (
        of(-2_440_588..=2_145_042_905_i32),
        of(-210_866_803_200_000_000..=i64::MAX),
        of(-210_866_803_200_000_000..=i64::MAX),
        of(0..86_400_000_000_i64),
        of(any::<[u8; 16]>()),
        of(vec(of(any::<i32>()), 0..5)),
    );
    (scalars, times).prop_map(|(s, t)| Row {
        flag: s.0,
        small: s.1,
        int: s.2,
        large: s.3,
        float: s.4,
        amount: s.5,
        text: s.6,
        raw: s.7,
        day: t.0,
        instant: t.1,
        zoned: t.2,
        time: t.3,
        uuid: t.4,
        list: t.5,
    })
}

fn layout() -> TableLayout {
    TableLayout::new(vec![
        column("flag", 16, "boolean"),
        column("small", 21, "smallint"),
        column("int", 23, "integer"),
        column("large", 20, "bigint"),
        column("float", 701, "double precision"),
        PgColumn {
            typmod: numeric_typmod(38, 10),
            ..column("amount", 1700, "numeric(38,10)")
        },
        column("exact", 1700, "numeric"),
        column("text", 25, "text"),
        column("json", 3802, "jsonb"),
        column("raw", 17, "bytea"),
        column("day", 1082, "date"),
        column("instant", 1114, "timestamp without time zone"),
        column("zoned", 1184, "timestamp with time zone"),
        column("time", 1083, "time without time zone"),
        column("uuid", 2950, "uuid"),
        array_column("list", 1007, 23, "integer[]"),
    ])
}

impl Row {
    fn wire(&self) -> Vec<Option<Vec<u8>>> {
        const EPOCH: i64 = 946_684_800_000_000;
        let amount = self.amount.map(|amount| numeric(&amount_text(amount)));
        let instant = |value: i64| (value - EPOCH).to_be_bytes().to_vec();
        vec![
            self.flag.map(|value| vec![u8::from(value)]),
            self.small.map(|value| value.to_be_bytes().to_vec()),
            self.int.map(|value| value.to_be_bytes().to_vec()),
            self.large.map(|value| value.to_be_bytes().to_vec()),
            self.float.map(|value| value.to_be_bytes().to_vec()),
            amount.clone(),
            amount,
            self.text.as_ref().map(|value| value.clone().into_bytes()),
            self.text
                .as_ref()
                .map(|value| [b"\x01", value.as_bytes()].concat()),
            self.raw.clone(),
            self.day
                .map(|value| (value - 10_957).to_be_bytes().to_vec()),
            self.instant.map(instant),
            self.zoned.map(instant),
            self.time.map(|value| value.to_be_bytes().to_vec()),
            self.uuid.map(|value| value.to_vec()),
            self.list.as_ref().map(|list| {
                let bytes = |value: &Option<i32>| value.map(|value| value.to_be_bytes().to_vec());
                wire_array(23, 1, &list.iter().map(bytes).collect::<Vec<_>>())
            }),
            None,
        ]
    }
}

/// The decimal text of an unscaled value with ten places.
fn amount_text(unscaled: i128) -> String {
    let digits = format!("{:011}", unscaled.unsigned_abs());
    let (whole, places) = digits.split_at(digits.len() - 10);
    let sign = if unscaled < 0 { "-" } else { "" };
    format!("{sign}{whole}.{places}")
}

/// PostgreSQL's wire format of a decimal text.
fn numeric(text: &str) -> Vec<u8> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (0x4000, text),
        None => (0, text),
    };
    let (whole, places) = text.split_once('.').expect("a point");
    let width = whole.len().div_ceil(4) * 4;
    let places_width = places.len().div_ceil(4) * 4;
    let digits = format!("{whole:0>width$}{places:0<places_width$}");
    let mut groups: Vec<u16> = digits
        .as_bytes()
        .chunks(4)
        .map(|group| {
            std::str::from_utf8(group)
                .expect("ascii")
                .parse()
                .expect("digits")
        })
        .collect();
    let mut weight = (width / 4) as i16 - 1;
    while groups.first() == Some(&0) {
        groups.remove(0);
        weight -= 1;
    }
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    support::wire_numeric(weight, sign, places.len() as u16, &groups)
}

fn expected(rows: &[Row]) -> Vec<ArrayRef> {
    fn all<T, C: FromIterator<T>>(rows: &[Row], pick: impl Fn(&Row) -> T) -> C {
        rows.iter().map(pick).collect()
    }
    let nulls = || Arc::new(StringArray::new_null(rows.len())) as ArrayRef;
    let amounts: Decimal128Array = all(rows, |r| r.amount);
    let zoned: TimestampMicrosecondArray = all(rows, |r| r.zoned);
    let text: StringArray = all(rows, |r| r.text.clone());
    let mut uuids = FixedSizeBinaryBuilder::new(16);
    let element = Field::new("element", DataType::Int32, true);
    let mut lists = ListBuilder::new(Int32Builder::new()).with_field(element);
    for row in rows {
        match row.uuid {
            Some(uuid) => uuids.append_value(uuid).expect("16 bytes"),
            None => uuids.append_null(),
        }
        lists.append_option(row.list.clone());
    }
    vec![
        Arc::new(all::<_, BooleanArray>(rows, |r| r.flag)),
        Arc::new(all::<_, Int16Array>(rows, |r| r.small)),
        Arc::new(all::<_, Int32Array>(rows, |r| r.int)),
        Arc::new(all::<_, Int64Array>(rows, |r| r.large)),
        Arc::new(all::<_, Float64Array>(rows, |r| {
            r.float.map(f64::from_bits)
        })),
        Arc::new(amounts.with_precision_and_scale(38, 10).expect("fits")),
        nulls(),
        Arc::new(all::<_, StringArray>(rows, |r| r.amount.map(amount_text))),
        Arc::new(text.clone()),
        Arc::new(text),
        Arc::new(BinaryArray::from_iter(
            rows.iter().map(|r| r.raw.as_deref()),
        )),
        Arc::new(all::<_, Date32Array>(rows, |r| r.day)),
        nulls(),
        Arc::new(all::<_, TimestampMicrosecondArray>(rows, |r| r.instant)),
        nulls(),
        Arc::new(zoned.with_timezone("UTC")),
        nulls(),
        Arc::new(all::<_, Time64MicrosecondArray>(rows, |r| r.time)),
        nulls(),
        Arc::new(uuids.finish()),
        Arc::new(lists.finish()),
        nulls(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_the_wire_and_parquet(rows in vec(row(), 1..20), size in 1_usize..200) {
        let layout = layout();
        let wire = stream(&rows.iter().map(Row::wire).collect::<Vec<_>>());
        let batch = decode(&layout, wire.chunks(size)).expect("decodes").expect("rows");
        let schema = layout.arrow_schema(HashMap::new());
        let expected = RecordBatch::try_new(schema.clone(), expected(&rows)).expect("batch");
        prop_assert!(same_floats(&batch, &expected));
        prop_assert_eq!(without_floats(&batch), without_floats(&expected));

        let options = EncodeOptions { row_group_bytes: 2000, page_bytes: 300, ..Default::default() };
        let mut encoder = PartEncoder::new(schema, &options).expect("encoder");
        encoder.write(&batch).expect("write");
        let file = encoder.finish().expect("file");
        prop_assert_eq!(check_parquet(file.clone()).expect("check").rows, rows.len() as u64);
        let mut first = 0;
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("open");
        for read in reader.build().expect("reader") {
            let read = read.expect("decodes");
            let part = batch.slice(first, read.num_rows());
            prop_assert!(same_floats(&read, &part));
            prop_assert_eq!(without_floats(&read), without_floats(&part));
            first += read.num_rows();
        }
        prop_assert_eq!(first, rows.len());
    }

    #[test]
    fn damaged_streams_never_panic(
        scalars in any::<bool>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
        size in 1_usize..2000,
    ) {
        let fixture = fixture(if scalars { "scalars" } else { "arrays" });
        let mut wire = fixture.wire;
        for (place, byte, kind) in damage {
            let place = place.index(wire.len());
            match kind {
                0 => wire[place] = byte,
                1 => wire[place] ^= 1 << (byte % 8),
                2 => wire.insert(place, byte),
                _ => drop(wire.remove(place)),
            }
        }
        drain(&fixture.layout, &wire, size);
    }

    #[test]
    fn garbage_after_a_good_header_never_panics(
        tail in vec(prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()], 0..400),
    ) {
        let fixture = fixture("arrays");
        let mut wire = fixture.wire[..19].to_vec();
        wire.extend((fixture.layout.columns().len() as i16).to_be_bytes());
        wire.extend(tail);
        drain(&fixture.layout, &wire, 64);
    }
}

#[test]
fn damaged_parquet_files_never_panic() {
    let fixture = fixture("arrays");
    let batch = decode(&fixture.layout, [fixture.wire.as_slice()]);
    let batch = batch.expect("decodes").expect("rows");
    let mut encoder = PartEncoder::new(batch.schema(), &EncodeOptions::default()).expect("new");
    encoder.write(&batch).expect("write");
    let file = encoder.finish().expect("file");
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut found = 0;
    for _ in 0..3000 {
        let mut damaged = file.to_vec();
        damaged[random(file.len())] ^= 1 << random(8);
        found += usize::from(check_parquet(Bytes::from(damaged)).is_err());
    }
    assert!(found > 300, "{found}");
}

/// Decodes what there is; rows counted must be rows handed out.
fn drain(layout: &TableLayout, wire: &[u8], size: usize) {
    let mut decoder = CopyDecoder::new(layout);
    let mut rows = 0;
    for piece in wire.chunks(size) {
        if decoder.push(piece).is_err() {
            return;
        }
        while let Ok(Some(batch)) = decoder.take_batch() {
            rows += batch.num_rows() as u64;
        }
    }
    assert_eq!(rows, decoder.rows_total());
    let _ = decoder.finish();
}

fn floats(batch: &RecordBatch) -> Vec<Option<u64>> {
    let column = batch.column_by_name("float").expect("float");
    let floats = column.as_any().downcast_ref::<Float64Array>().expect("f64");
    floats.iter().map(|value| value.map(f64::to_bits)).collect()
}

/// Arrow compares floats by value, which NaN payloads would fail.
fn same_floats(one: &RecordBatch, other: &RecordBatch) -> bool {
    floats(one) == floats(other)
}

fn without_floats(batch: &RecordBatch) -> Vec<ArrayRef> {
    let float = |column: &&ArrayRef| *column.data_type() != DataType::Float64;
    batch.columns().iter().filter(float).cloned().collect()
}

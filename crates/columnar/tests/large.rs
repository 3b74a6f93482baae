//! Values that are too large for a batch come out beside it, and nothing else changes.

mod support;

use arkstream_columnar::{
    CopyDecoder, CopyEncoder, DecodeError, LargeValue, Limits, Step, TableLayout,
};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, UInt32Array};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{array_column, column, decode, fixture, stream, wire_array};

/// Fields of a row on the wire, in the order of [`layout`]; the array comes with its text.
type Row = Vec<Option<Vec<u8>>>;

fn layout() -> TableLayout {
    TableLayout::new(vec![
        column("id", 23, "integer"),
        column("body", 25, "text"),
        column("doc", 3802, "jsonb"),
        column("raw", 17, "bytea"),
        array_column("tags", 1009, 25, "text[]"),
        column("shape", 600, "point"),
    ])
}

fn row() -> impl Strategy<Value = Row> {
    let text = || proptest::option::of("[a-zä𝄞]{0,40}");
    let raw = proptest::option::of(vec(any::<u8>(), 0..60));
    let tags = proptest::option::of(vec(text(), 0..6));
    (any::<i32>(), text(), text(), raw, tags, text()).prop_map(
        |(id, body, doc, raw, tags, shape)| {
            let bytes = |text: Option<String>| text.map(String::into_bytes);
            let jsonb = |text: String| [&[1], text.as_bytes()].concat();
            let array = |tags: Vec<Option<String>>| {
                wire_array(25, 1, &tags.into_iter().map(bytes).collect::<Vec<_>>())
            };
            vec![
                Some(id.to_be_bytes().to_vec()),
                bytes(body),
                doc.map(jsonb),
                raw,
                tags.map(array),
                None,
                bytes(shape),
            ]
        },
    )
}

/// What a large value is, and its content.
type Taken = Vec<(LargeValue, Vec<u8>)>;

fn decode_within(
    layout: &TableLayout,
    limits: Limits,
    wire: &[u8],
    sizes: &[usize],
) -> Result<(Option<RecordBatch>, Taken), DecodeError> {
    let mut decoder = CopyDecoder::with_limits(layout, limits);
    let mut taken: Taken = Vec::new();
    let (mut rest, mut open) = (wire, false);
    for size in sizes.iter().cycle() {
        let (mut piece, more) = rest.split_at((*size).min(rest.len()));
        rest = more;
        loop {
            match decoder.step(&mut piece)? {
                Step::Done => break,
                Step::Begin(value) => {
                    assert!(!open, "one value within another");
                    open = true;
                    taken.push((value, Vec::new()));
                }
                Step::Content(bytes) => {
                    assert!(open && !bytes.is_empty());
                    taken.last_mut().expect("a value").1.extend(bytes);
                }
                Step::End => {
                    assert!(open);
                    open = false;
                }
            }
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            break;
        }
    }
    decoder.finish()?;
    Ok((decoder.take_batch()?, taken))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_row_is_the_same_with_its_large_values_put_back(
        rows in vec(row(), 1..8),
        value in 1usize..50,
        row_limit in 20usize..150,
        sizes in vec(1usize..90, 1..5),
    ) {
        let layout = layout();
        let wire = stream(&rows);
        let limits = Limits { value, row: row_limit };
        let (batch, taken) = decode_within(&layout, limits, &wire, &sizes).expect("decodes");
        let batch = batch.expect("rows");

        let mut without = rows.clone();
        for (large, content) in &taken {
            prop_assert_eq!(large.bytes, content.len() as u64);
            let field = if large.place == 5 { 6 } else { large.place };
            prop_assert_eq!(&large.column, layout.columns()[large.place].name.as_str());
            let original = without[large.row as usize][field].take().expect("a value");
            let framed = original.len() - usize::from(large.column == "doc");
            prop_assert_eq!(content.as_slice(), &original[original.len() - framed..]);
        }
        // What is left is what a decoder without limits makes of a row without them.
        let left = decode(&layout, [stream(&without).as_slice()]).expect("decodes").expect("rows");
        prop_assert_eq!(&batch, &left);
        // And with them, a staging table gets what one without limits would give it.
        let whole = decode(&layout, [wire.as_slice()]).expect("decodes").expect("rows");
        let encoder = CopyEncoder::new(whole.schema_ref()).expect("types");
        let mut expected = Vec::new();
        encoder.encode(&whole, &mut expected).expect("encodes");
        prop_assert_eq!(put_back(&encoder, &batch, &taken), expected);
        for row in &without {
            let lengths: Vec<usize> = row.iter().flatten().map(Vec::len).collect();
            prop_assert!(lengths.iter().all(|length| *length <= value.max(4)));
            let tiny = value.min(4096) * row.len();
            let total = 2 + 4 * row.len() + lengths.iter().sum::<usize>();
            prop_assert!(total <= row_limit.max(2 + 4 * row.len()) + tiny + 4);
        }
    }
}

fn put_back(encoder: &CopyEncoder, batch: &RecordBatch, taken: &Taken) -> Vec<u8> {
    let rows = encoder.rows(batch).expect("the columns");
    let mut out = Vec::new();
    for row in 0..batch.num_rows() {
        rows.begin(&mut out);
        for column in 0..rows.columns() {
            let name = batch.schema_ref().field(column).name();
            let large = taken
                .iter()
                .find(|(value, _)| value.row == row as u64 && value.column == *name);
            match large {
                None => rows.field(row, column, &mut out).expect("a value"),
                Some((value, content)) => {
                    rows.large(row, column, value.bytes, &mut out)
                        .expect("fits");
                    out.extend(content);
                }
            }
        }
    }
    out
}

#[test]
fn a_large_value_has_no_second_one_in_its_place() {
    let layout = TableLayout::new(vec![column("v", 25, "text")]);
    let wire = stream(&[vec![Some(b"here".to_vec())]]);
    let batch = decode(&layout, [wire.as_slice()])
        .expect("decodes")
        .expect("a row");
    let encoder = CopyEncoder::new(batch.schema_ref()).expect("types");
    let rows = encoder.rows(&batch).expect("the columns");
    assert!(rows.large(0, 0, 5, &mut Vec::new()).is_err());
    assert!(rows.large(0, 1, 5, &mut Vec::new()).is_err(), "no column");
}

/// The real server's values, cut out column by column.
#[test]
fn real_rows_are_the_same_but_for_what_is_taken_out() {
    for name in ["scalars", "arrays"] {
        let fixture = fixture(name);
        let whole = decode(&fixture.layout, [fixture.wire.as_slice()]);
        let whole = whole.expect("decodes").expect("rows");
        let limits = Limits {
            value: 24,
            row: 1 << 20,
        };
        let (batch, taken) =
            decode_within(&fixture.layout, limits, &fixture.wire, &[7, 100]).expect("decodes");
        let batch = batch.expect("rows");
        assert!(!taken.is_empty(), "{name}");
        for (place, field) in whole.schema().fields().iter().enumerate() {
            let mut out: Vec<u32> = Vec::new();
            for (value, content) in &taken {
                let of = field.metadata().get("arkstream.companion_of");
                if value.column == *field.name() || of == Some(&value.column) {
                    out.push(value.row as u32);
                    assert!(batch.column(place).is_null(value.row as usize));
                }
                if value.column == *field.name()
                    && let Some(texts) = whole.column(place).as_string_opt::<i32>()
                {
                    assert_eq!(texts.value(value.row as usize).as_bytes(), content);
                }
            }
            let kept: UInt32Array = (0..whole.num_rows() as u32)
                .filter(|row| !out.contains(row))
                .collect();
            for row in kept.values() {
                let row = *row as usize;
                let (one, other) = (whole.column(place), batch.column(place));
                // Debug: floats are compared by value otherwise, which NaN would fail.
                assert_eq!(
                    format!("{:?}", one.slice(row, 1)),
                    format!("{:?}", other.slice(row, 1)),
                    "{name}.{} row {row}",
                    field.name()
                );
            }
        }
    }
}

fn one_value(
    pg_type: (u32, &str),
    value: &[u8],
) -> Result<(Option<RecordBatch>, Taken), DecodeError> {
    let layout = TableLayout::new(vec![column("v", pg_type.0, pg_type.1)]);
    let limits = Limits { value: 3, row: 99 };
    decode_within(
        &layout,
        limits,
        &stream(&[vec![Some(value.to_vec())]]),
        &[1],
    )
}

#[test]
fn a_large_text_that_is_none_is_refused_wherever_it_is_cut() {
    let error = one_value((25, "text"), b"abc\xffdef").expect_err("no UTF-8");
    assert!(error.to_string().contains("not valid UTF-8"), "{error}");
    let error = one_value((25, "text"), b"abc\xc3");
    assert!(error.is_err(), "a character without its end");
    let error = one_value((3802, "jsonb"), b"\x02{\"a\": 1}").expect_err("a version");
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(one_value((17, "bytea"), b"abc\xffdef").is_ok());
}

#[test]
fn who_does_not_ask_for_large_values_loses_none() {
    let layout = TableLayout::new(vec![column("v", 25, "text")]);
    let wire = stream(&[vec![Some(b"too long".to_vec())]]);
    let mut decoder = CopyDecoder::with_limits(&layout, Limits { value: 3, row: 99 });
    let error = decoder.push(&wire).expect_err("a large value");
    assert!(matches!(error, DecodeError::Large { row: 1 }), "{error}");
    assert!(decoder.finish().is_err(), "an error stays");
}

/// The text of an array that a list cannot carry is not needed where the array itself is taken out.
#[test]
fn the_text_of_a_large_array_is_dropped_with_it() {
    let layout = TableLayout::new(vec![array_column("tags", 1009, 25, "text[]")]);
    let array = wire_array(25, 0, &[Some(b"some tag".to_vec())]);
    let text = b"[0:0]={\"some tag\"}".to_vec();
    let wire = stream(&[vec![Some(array.clone()), Some(text.clone())]]);
    let limits = Limits { value: 9, row: 99 };
    let (batch, taken) = decode_within(&layout, limits, &wire, &[4]).expect("decodes");
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1, array);
    let batch = batch.expect("a row");
    assert!(batch.columns().iter().all(|column| column.is_null(0)));
    // Where the array stays, so does its text, however long.
    let limits = Limits {
        value: array.len(),
        row: 99,
    };
    let text = [text, vec![b' '; 90]].concat();
    let wire = stream(&[vec![Some(array), Some(text.clone())]]);
    let (batch, taken) = decode_within(&layout, limits, &wire, &[4]).expect("decodes");
    assert!(taken.is_empty());
    let batch = batch.expect("a row");
    assert_eq!(batch.column(1).as_string::<i32>().value(0).as_bytes(), text);
}

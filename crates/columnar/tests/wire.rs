//! Hand-built wire bytes: values that a server's text cannot produce, and streams that are wrong.

mod support;

use arkstream_columnar::{CopyDecoder, DecodeError, PgColumn, TableLayout, ValueProblem};
use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Float32Type, Float64Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use support::{array_column, column, decode, numeric_typmod, stream, wire_array, wire_numeric};

#[test]
fn nan_payloads_and_negative_zero_arrive_bit_by_bit() {
    let layout = TableLayout::new(vec![
        column("f4", 700, "real"),
        column("f8", 701, "double precision"),
    ]);
    let small = [0x7fc0_0001_u32, 0xffc1_2345, 0x7f80_0001, 0x8000_0000, 1];
    let large = [
        0x7ff8_0000_0000_0001_u64,
        0xfff8_1234_5678_9abc,
        0x7ff0_0000_0000_0001,
        0x8000_0000_0000_0000,
        1,
    ];
    let rows: Vec<_> = small
        .iter()
        .zip(large)
        .map(|(small, large)| {
            vec![
                Some(small.to_be_bytes().to_vec()),
                Some(large.to_be_bytes().to_vec()),
            ]
        })
        .collect();
    let batch = rows_of(&layout, &rows);
    let f4 = batch.column(0).as_primitive::<Float32Type>().values();
    let f8 = batch.column(1).as_primitive::<Float64Type>().values();
    assert!(f4.iter().map(|v| v.to_bits()).eq(small));
    assert!(f8.iter().map(|v| v.to_bits()).eq(large));
}

#[test]
fn a_numeric_that_its_decimal_cannot_carry_stands_in_the_companion() {
    let layout = TableLayout::new(vec![PgColumn {
        typmod: numeric_typmod(10, 2),
        ..column("n", 1700, "numeric(10,2)")
    }]);
    let values = [
        (wire_numeric(0, 0xc000, 0, &[]), "NaN"),
        (wire_numeric(0, 0xd000, 32, &[]), "Infinity"),
        (wire_numeric(0, 0, 3, &[1, 5000]), "1.500"),
        (wire_numeric(2, 0, 2, &[1, 0, 0]), "100000000.00"),
    ];
    let rows: Vec<_> = values
        .iter()
        .map(|(raw, _)| vec![Some(raw.clone())])
        .collect();
    let batch = rows_of(&layout, &rows);
    assert_eq!(batch.column(0).null_count(), 4);
    let texts = batch.column(1).as_string::<i32>();
    assert!(
        texts
            .iter()
            .flatten()
            .eq(values.iter().map(|(_, text)| *text))
    );
}

#[test]
fn null_empty_and_null_element_are_three_arrays() {
    let layout = TableLayout::new(vec![array_column("a", 1007, 23, "integer[]")]);
    let array = |elements: &[Option<Vec<u8>>]| Some(wire_array(23, 1, elements));
    let batch = rows_of(
        &layout,
        &[
            vec![None, None],
            vec![array(&[]), None],
            vec![array(&[None]), None],
            vec![array(&[Some(vec![0, 0, 0, 7]), None]), None],
        ],
    );
    let lists = batch.column(0).as_list::<i32>();
    let found: Vec<Option<Vec<Option<i32>>>> = lists
        .iter()
        .map(|list| list.map(|list| list.as_primitive::<Int32Type>().iter().collect()))
        .collect();
    assert_eq!(
        found,
        [
            None,
            Some(vec![]),
            Some(vec![None]),
            Some(vec![Some(7), None])
        ]
    );
    assert_eq!(batch.column(1).null_count(), 4);
}

#[test]
fn a_text_sent_for_an_array_that_needs_none_is_dropped() {
    let layout = TableLayout::new(vec![array_column("a", 1007, 23, "integer[]")]);
    let array = wire_array(23, 1, &[Some(vec![0, 0, 0, 7])]);
    let batch = rows_of(&layout, &[vec![Some(array), Some(b"{7}".to_vec())]]);
    assert!(batch.column(0).is_valid(0) && batch.column(1).is_null(0));
}

#[test]
fn an_array_with_an_exception_leaves_no_elements_behind() {
    let layout = TableLayout::new(vec![array_column("ds", 1182, 1082, "date[]")]);
    let day = |day: i32| Some(day.to_be_bytes().to_vec());
    let mixed = wire_array(1082, 1, &[day(1), day(i32::MAX)]);
    let plain = wire_array(1082, 1, &[day(2)]);
    let batch = rows_of(
        &layout,
        &[
            vec![Some(mixed), Some(b"{2000-01-02,infinity}".to_vec())],
            vec![Some(plain), None],
        ],
    );
    let lists = batch.column(0).as_list::<i32>();
    assert!(lists.is_null(0));
    assert_eq!(lists.values().len(), 1);
    assert_eq!(lists.value(1).as_primitive::<Date32Type>().value(0), 10_959);
    let texts = batch.column(1).as_string::<i32>();
    assert_eq!(texts.value(0), "{2000-01-02,infinity}");
}

#[test]
fn the_char_type_holds_any_byte() {
    let layout = TableLayout::new(vec![column("c", 18, "\"char\"")]);
    let rows: Vec<_> = (0..=255_u8).map(|byte| vec![Some(vec![byte])]).collect();
    let batch = rows_of(&layout, &rows);
    let texts = batch.column(0).as_string::<i32>();
    assert_eq!(texts.value(0), "");
    assert_eq!(texts.value(65), "A");
    assert_eq!(texts.value(128), "\\200");
    assert_eq!(texts.value(255), "\\377");
    let distinct: std::collections::HashSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), 256);
}

#[test]
fn a_wrong_width_names_column_and_row() {
    let layout = TableLayout::new(vec![column("id", 23, "integer"), column("n", 20, "bigint")]);
    let good = vec![Some(vec![0; 4]), Some(vec![0; 8])];
    let bad = vec![Some(vec![0; 4]), Some(vec![0; 4])];
    let error = decode(&layout, [stream(&[good, bad]).as_slice()]).expect_err("width");
    match error {
        DecodeError::FieldLength {
            column, row, found, ..
        } => assert_eq!((column.as_str(), row, found), ("n", 2, 4)),
        other => panic!("{other}"),
    }
}

#[test]
fn an_impossible_length_is_refused_before_anything_is_buffered() {
    let layout = TableLayout::new(vec![
        column("body", 25, "text"),
        column("id", 23, "integer"),
    ]);
    let lengths = [0x3fff_fff0_i32, 0x4000_0000, -2, i32::MIN];
    for length in lengths {
        let mut wire = stream(&[]);
        wire.truncate(19);
        wire.extend([0, 2]);
        wire.extend(0_i32.to_be_bytes());
        wire.extend(length.to_be_bytes());
        let mut decoder = CopyDecoder::new(&layout);
        let error = decoder.push(&wire).expect_err("length");
        assert!(matches!(error, DecodeError::FieldLength { found, .. } if found == length));
        assert_eq!(decoder.bytes_pending(), 0);
    }
}

#[test]
fn values_that_are_none_are_typed_errors() {
    let array = array_column("v", 1007, 23, "integer[]");
    let one = |raw: &[u8]| vec![Some(raw.to_vec())];
    let pair = |raw: Vec<u8>| vec![Some(raw), None];
    let mut two_dimensions = wire_array(23, 1, &[None]);
    two_dimensions[3] = 2;
    let mut long = wire_array(23, 1, &[None]);
    long.push(0);
    let wide = wire_array(23, 1, &[Some(vec![0; 8])]);
    let many = [1, 0, 23, 0x7fff_ffff, 1].map(i32::to_be_bytes).concat();
    let cases = [
        (column("v", 16, "boolean"), one(&[2]), ValueProblem::Bool(2)),
        (
            column("v", 3802, "jsonb"),
            one(b"\x02{}"),
            ValueProblem::JsonbVersion(2),
        ),
        (column("v", 25, "text"), one(&[0xff]), ValueProblem::NotUtf8),
        (
            column("v", 869, "inet"),
            one(&[0xc0]),
            ValueProblem::NotUtf8,
        ),
        (
            column("v", 1082, "date"),
            one(&(i32::MAX - 1).to_be_bytes()),
            ValueProblem::Range("date"),
        ),
        (
            array.clone(),
            pair(wire_array(20, 1, &[])),
            ValueProblem::ArrayElement {
                expected: 23,
                found: 20,
            },
        ),
        (
            array.clone(),
            pair(two_dimensions),
            ValueProblem::MissingText,
        ),
        (
            array.clone(),
            pair(wire_array(23, 0, &[None])),
            ValueProblem::MissingText,
        ),
        (
            array.clone(),
            pair(long),
            ValueProblem::Array("field is longer than its elements"),
        ),
        (
            array.clone(),
            pair(wide),
            ValueProblem::Array("element has an impossible length"),
        ),
        (
            array,
            pair(many),
            ValueProblem::Array("field is shorter than its elements"),
        ),
    ];
    for (column, row, expected) in cases {
        let pg_type = column.type_name.clone();
        let layout = TableLayout::new(vec![column]);
        match decode(&layout, [stream(&[row]).as_slice()]) {
            Err(DecodeError::Value {
                column,
                row,
                problem,
                ..
            }) => assert_eq!(
                (column.as_str(), row, problem),
                ("v", 1, expected),
                "{pg_type}"
            ),
            other => panic!("{pg_type}: {other:?}"),
        }
    }
}

#[test]
fn a_stream_cut_anywhere_is_incomplete() {
    let layout = TableLayout::new(vec![column("id", 23, "integer")]);
    let wire = stream(&[vec![Some(vec![0; 4])], vec![None]]);
    for end in 0..wire.len() {
        let error = decode(&layout, [&wire[..end]]).expect_err("cut");
        assert!(
            matches!(error, DecodeError::Incomplete { .. }),
            "{end}: {error}"
        );
    }
    decode(&layout, [wire.as_slice()]).expect("whole");
}

#[test]
fn nothing_may_follow_the_trailer() {
    let layout = TableLayout::new(vec![column("id", 23, "integer")]);
    let mut wire = stream(&[]);
    wire.push(0);
    let error = decode(&layout, [wire.as_slice()]).expect_err("one more byte");
    assert!(matches!(
        error,
        DecodeError::AfterTrailer { bytes: 1, rows: 0 }
    ));
}

#[test]
fn the_header_is_read_as_the_protocol_says() {
    let layout = TableLayout::new(vec![column("id", 23, "integer")]);
    let row = vec![Some(vec![0, 0, 0, 5])];
    let mut extended = stream(&[row]);
    extended[14] = 1; // an uncritical flag
    extended[18] = 3;
    extended.splice(19..19, *b"abc");
    for size in 1..extended.len() {
        let batch = decode(&layout, extended.chunks(size)).expect("skips the extension");
        assert_eq!(batch.expect("rows").num_rows(), 1);
    }
    let mut oids = stream(&[]);
    oids[12] = 1;
    assert!(matches!(
        decode(&layout, [oids.as_slice()]),
        Err(DecodeError::Flags(0x1_0000))
    ));
    let mut foreign = stream(&[]);
    foreign[10] = 1;
    assert!(matches!(
        decode(&layout, [foreign.as_slice()]),
        Err(DecodeError::Signature)
    ));
    let mut negative = stream(&[]);
    negative[15..19].fill(0xff);
    let error = decode(&layout, [negative.as_slice()]).expect_err("negative");
    assert!(matches!(error, DecodeError::HeaderExtension(-1)));
}

#[test]
fn another_number_of_fields_is_refused() {
    let layout = TableLayout::new(vec![column("id", 23, "integer")]);
    let error = decode(&layout, [stream(&[vec![None, None]]).as_slice()]).expect_err("two");
    assert!(matches!(
        error,
        DecodeError::FieldCount {
            row: 1,
            expected: 1,
            found: 2
        }
    ));
}

#[test]
fn a_decoder_that_failed_hands_out_nothing() {
    let layout = TableLayout::new(vec![column("id", 23, "integer")]);
    let mut decoder = CopyDecoder::new(&layout);
    let wire = stream(&[vec![Some(vec![0; 4])], vec![None, None]]);
    decoder.push(&wire).expect_err("second row");
    assert!(matches!(decoder.push(&[]), Err(DecodeError::Failed)));
    assert!(matches!(decoder.take_batch(), Err(DecodeError::Failed)));
    assert!(matches!(decoder.finish(), Err(DecodeError::Failed)));
}

#[test]
fn pending_bytes_count_values_and_an_incomplete_tail() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let wire = stream(&[vec![Some(vec![b'x'; 1000])], vec![Some(vec![b'y'; 500])]]);
    let mut decoder = CopyDecoder::new(&layout);
    let first = 19 + 2 + 4 + 1000;
    decoder.push(&wire[..first]).expect("a row");
    assert_eq!((decoder.rows_pending(), decoder.bytes_pending()), (1, 1004));
    decoder
        .push(&wire[first..first + 106])
        .expect("part of a row");
    assert_eq!((decoder.rows_pending(), decoder.bytes_pending()), (1, 1110));
    assert_eq!(
        decoder.take_batch().expect("ok").expect("rows").num_rows(),
        1
    );
    assert_eq!((decoder.rows_pending(), decoder.bytes_pending()), (0, 106));
    decoder.push(&wire[first + 106..]).expect("the rest");
    assert_eq!((decoder.rows_pending(), decoder.bytes_pending()), (1, 504));
    assert_eq!(decoder.rows_total(), 2);
    decoder.finish().expect("whole");
}

fn rows_of(layout: &TableLayout, rows: &[Vec<Option<Vec<u8>>>]) -> RecordBatch {
    let batch = decode(layout, [stream(rows).as_slice()]).expect("decodes");
    batch.expect("rows")
}

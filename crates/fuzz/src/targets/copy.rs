//! COPY BINARY: the decoder, and the encoder against it.

use std::sync::{Arc, LazyLock};

use arkstream_columnar::{
    CopyDecoder, CopyEncoder, DecodeError, Limits, PgColumn, Step, TableLayout,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray,
    Time64MicrosecondArray, TimestampMicrosecondArray,
};

const HEADER: usize = 19;
const TEXT: u32 = 25;

/// Tables as a real server described them, and one of every scalar that is short.
static TABLES: LazyLock<Vec<Vec<PgColumn>>> = LazyLock::new(|| {
    vec![
        catalog(include_str!("../../../columnar/tests/data/scalars.columns")),
        catalog(include_str!("../../../columnar/tests/data/arrays.columns")),
        Vec::new(),
        mixed(),
    ]
});

/// Which table, how long the pieces are, and the stream. However a stream is cut, it gives the same
/// batches or an error; a row takes at least two bytes, and all rows are in the batches. After an
/// error nothing is given out. A decoder with limits gives as many rows, and gives out large values that are
/// as long as it says.
pub fn copy_decode(data: &[u8]) {
    let Some((&[table, piece], wire)) = data.split_first_chunk::<2>() else {
        return;
    };
    let layout = TableLayout::new(table_of(table).clone());
    let whole = decode(&layout, [wire]);
    let cut = decode(&layout, wire.chunks(usize::from(piece).max(1)));
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => assert_eq!(whole, cut),
        (whole, cut) => assert_eq!(whole.is_err(), cut.is_err(), "{whole:?} {cut:?}"),
    }
    let rows = decode_within(&layout, wire, usize::from(piece).max(1));
    if let Ok(whole) = whole {
        // Not the other way round: an array that is taken out is not looked into.
        let expected: usize = whole.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows.expect("limits refuse nothing"), expected as u64);
    }
}

/// Rows of a stream, large values aside.
fn decode_within(layout: &TableLayout, wire: &[u8], piece: usize) -> Result<u64, DecodeError> {
    let limits = Limits {
        value: piece,
        row: 4 * piece,
    };
    let mut decoder = CopyDecoder::with_limits(layout, limits);
    let mut left = None;
    for mut bytes in wire.chunks(piece) {
        loop {
            match decoder.step(&mut bytes)? {
                Step::Done => break,
                Step::Begin(value) => assert!(left.replace(value.bytes).is_none()),
                Step::Content(content) => {
                    let left = left.as_mut().expect("a value has begun");
                    *left = left.checked_sub(content.len() as u64).expect("no more");
                }
                Step::End => assert_eq!(left.take(), Some(0)),
            }
        }
        assert!(bytes.is_empty());
    }
    decoder.finish()?;
    assert_eq!(left, None);
    let mut rows = 0;
    while let Some(batch) = decoder.take_batch()? {
        rows += batch.num_rows() as u64;
    }
    assert_eq!(rows, decoder.rows_total());
    Ok(rows)
}

/// A stream that is accepted is encoded again, and what a staging table receives decodes to the same
/// values; those whose wire form has no freedom are the same bytes.
pub fn copy_round_trip(data: &[u8]) {
    let Some((table, wire)) = data.split_first() else {
        return;
    };
    let columns = table_of(*table);
    let Ok(batches) = decode(&TableLayout::new(columns.clone()), [wire]) else {
        return;
    };
    let mut sent = tuples(&wire[HEADER + extension(wire)..]).into_iter();
    for batch in &batches {
        let staged = encode(batch).expect("what was decoded can be staged");
        let tuples = tuples(&staged[HEADER..]);
        assert_eq!(tuples.len(), batch.num_rows());
        for tuple in &tuples {
            same_bytes(columns, batch, &sent.next().unwrap(), tuple);
        }
        let (again, _) = decode_staged(columns, batch, &staged).expect("what was staged is sound");
        for (index, column) in batch.columns().iter().enumerate() {
            let name = batch.schema_ref().field(index).name();
            assert_eq!(again.column_by_name(name).unwrap(), column, "{name}");
        }
    }
}

/// Values of Arrow, whatever they are (a file may hold what no server sends): they are refused, or
/// what a staging table receives is what stands in the batch, in a value or in a value's own text.
pub fn copy_encode(data: &[u8]) {
    let columns = mixed();
    let batch = batch(&columns, data);
    let Some(staged) = encode(&batch) else {
        return;
    };
    assert_eq!(tuples(&staged[HEADER..]).len(), batch.num_rows());
    // What no server holds (a day beyond its calendar) is refused by it, as the decoder does.
    let Ok((again, companions)) = decode_staged(&columns, &batch, &staged) else {
        return;
    };
    for (index, column) in batch.columns().iter().enumerate() {
        let name = batch.schema_ref().field(index).name();
        let found = again.column_by_name(name).unwrap();
        let text = companions
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, companion)| again.column_by_name(companion).unwrap());
        for row in 0..batch.num_rows() {
            let as_text = text.is_some_and(|text| text.is_valid(row));
            assert!(
                as_text || found.slice(row, 1) == column.slice(row, 1),
                "{name}, row {row}: {found:?} {column:?}"
            );
        }
    }
}

fn table_of(number: u8) -> &'static Vec<PgColumn> {
    &TABLES[usize::from(number) % TABLES.len()]
}

fn decode<'a>(
    layout: &TableLayout,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<RecordBatch>, DecodeError> {
    let mut decoder = CopyDecoder::new(layout);
    let mut len = 0;
    for piece in pieces {
        len += piece.len();
        if let Err(error) = decoder.push(piece) {
            assert!(decoder.push(&[]).is_err(), "an error stays");
            assert!(decoder.take_batch().is_err(), "an error stays");
            assert!(decoder.finish().is_err(), "an error stays");
            return Err(error);
        }
    }
    decoder.finish()?;
    assert!(decoder.rows_total() <= len as u64 / 2);
    let mut batches = Vec::new();
    while let Some(batch) = decoder.take_batch()? {
        batches.push(batch);
    }
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!(rows as u64, decoder.rows_total());
    assert_eq!(decoder.rows_pending(), 0);
    Ok(batches)
}

fn encode(batch: &RecordBatch) -> Option<Vec<u8>> {
    let encoder = CopyEncoder::new(batch.schema_ref()).expect("the types are known");
    let mut out = Vec::new();
    encoder.header(&mut out);
    encoder.encode(batch, &mut out).ok()?;
    encoder.trailer(&mut out);
    Some(out)
}

/// Reads what a staging table receives: typed columns as they were, everything else as text. Also
/// names the companions that such a table's columns have, by column.
fn decode_staged(
    columns: &[PgColumn],
    batch: &RecordBatch,
    staged: &[u8],
) -> Result<(RecordBatch, Vec<(String, String)>), DecodeError> {
    let schema = batch.schema_ref();
    let staging: Vec<PgColumn> = schema
        .fields()
        .iter()
        .map(|field| {
            let native = field.metadata()["arkstream.encoding"] == "native";
            match columns.iter().find(|c| native && c.name == *field.name()) {
                Some(column) => column.clone(),
                None => column(field.name(), TEXT, "text"),
            }
        })
        .collect();
    // A list comes with a second field, its text.
    let mut wire = staged[..HEADER].to_vec();
    for tuple in tuples(&staged[HEADER..]) {
        let fields: Vec<Option<&[u8]>> = tuple
            .iter()
            .zip(&staging)
            .flat_map(|(field, column)| {
                let list = column.element_oid.is_some();
                [Some(*field), list.then_some(None)].into_iter().flatten()
            })
            .collect();
        wire.extend((fields.len() as i16).to_be_bytes());
        for field in fields {
            match field {
                Some(bytes) => {
                    wire.extend((bytes.len() as i32).to_be_bytes());
                    wire.extend(bytes);
                }
                None => wire.extend((-1i32).to_be_bytes()),
            }
        }
    }
    wire.extend((-1i16).to_be_bytes());
    let layout = TableLayout::new(staging);
    let mut batches = decode(&layout, [&wire[..]])?;
    let companions = layout
        .columns()
        .iter()
        .filter_map(|column| Some((column.name.clone(), column.companion.clone()?)))
        .collect();
    assert!(batches.len() <= 1);
    let empty = || RecordBatch::new_empty(layout.arrow_schema(Default::default()));
    Ok((batches.pop().unwrap_or_else(empty), companions))
}

/// Fields of a sent tuple against the staged one, where a type has one wire form for a value.
fn same_bytes(
    columns: &[PgColumn],
    batch: &RecordBatch,
    sent: &[Option<&[u8]>],
    staged: &[Option<&[u8]>],
) {
    const FREE: [u32; 3] = [16, 18, 1700]; // any byte is true; octal digits; zero groups
    let mut at = 0;
    for column in columns {
        let sent = sent[at];
        at += 1 + usize::from(is_list(batch, column));
        let index = batch.schema_ref().index_of(&column.name).unwrap();
        if !FREE.contains(&column.type_oid)
            && column.element_oid.is_none()
            && let Some(staged) = staged[index]
        {
            assert_eq!(sent, Some(staged), "{}", column.name);
        }
    }
}

fn is_list(batch: &RecordBatch, column: &PgColumn) -> bool {
    let array = batch.column_by_name(&column.name).unwrap();
    matches!(array.data_type(), arrow_schema::DataType::List(_))
}

/// Bytes of the header's extension.
fn extension(wire: &[u8]) -> usize {
    u32::from_be_bytes(wire[HEADER - 4..HEADER].try_into().unwrap()) as usize
}

/// Tuples of a stream behind its header, read without the decoder's code.
fn tuples(mut wire: &[u8]) -> Vec<Vec<Option<&[u8]>>> {
    let mut tuples = Vec::new();
    loop {
        let count = i16::from_be_bytes(*wire.first_chunk().unwrap());
        wire = &wire[2..];
        if count == -1 {
            assert!(wire.is_empty(), "nothing follows the trailer");
            return tuples;
        }
        let mut fields = Vec::new();
        for _ in 0..count {
            let len = i32::from_be_bytes(*wire.first_chunk().unwrap());
            wire = &wire[4..];
            fields.push(match usize::try_from(len) {
                Err(_) => None,
                Ok(len) => {
                    let (field, rest) = wire.split_at(len);
                    wire = rest;
                    Some(field)
                }
            });
        }
        tuples.push(fields);
    }
}

/// The rows of a `.columns` file; see `crates/columnar/tests/data`.
fn catalog(text: &str) -> Vec<PgColumn> {
    text.lines()
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let cell = |index: usize| Some(cells[index]).filter(|cell| *cell != "\\N");
            PgColumn {
                name: cells[0].to_owned(),
                attnum: cells[1].parse().unwrap(),
                type_oid: cells[2].parse().unwrap(),
                type_name: cells[3].to_owned(),
                typmod: cells[4].parse().unwrap(),
                type_kind: cells[5].chars().next().unwrap(),
                element_oid: cell(6).map(|oid| oid.parse().unwrap()),
                element_kind: cell(7).and_then(|kind| kind.chars().next()),
                not_null: cells[8] == "t",
                odoo_type: None,
                relation: None,
            }
        })
        .collect()
}

fn column(name: &str, type_oid: u32, type_name: &str) -> PgColumn {
    PgColumn {
        name: name.to_owned(),
        attnum: 1,
        type_oid,
        type_name: type_name.to_owned(),
        typmod: -1,
        type_kind: 'b',
        element_oid: None,
        element_kind: None,
        not_null: false,
        odoo_type: None,
        relation: None,
    }
}

fn mixed() -> Vec<PgColumn> {
    vec![
        column("flag", 16, "boolean"),
        column("small", 21, "smallint"),
        column("int", 23, "integer"),
        column("large", 20, "bigint"),
        column("single", 700, "real"),
        column("double", 701, "double precision"),
        PgColumn {
            typmod: ((38 << 16) | 10) + 4,
            ..column("amount", 1700, "numeric(38,10)")
        },
        column("text", TEXT, "text"),
        column("byte", 18, "\"char\""),
        column("json", 3802, "jsonb"),
        column("raw", 17, "bytea"),
        column("day", 1082, "date"),
        column("instant", 1114, "timestamp without time zone"),
        column("zoned", 1184, "timestamp with time zone"),
        column("time", 1083, "time without time zone"),
        column("uuid", 2950, "uuid"),
    ]
}

/// One row for every 48 bytes of `data`.
fn batch(columns: &[PgColumn], data: &[u8]) -> RecordBatch {
    let schema = TableLayout::new(columns.to_vec()).arrow_schema(Default::default());
    let rows: Vec<[u8; 48]> = data
        .chunks(48)
        .map(|chunk| {
            let mut row = [0; 48];
            row[..chunk.len()].copy_from_slice(chunk);
            row
        })
        .collect();
    let arrays = schema.fields().iter().map(|field| values(field, &rows));
    RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).unwrap()
}

/// Values of a field: bit 0 of a row's byte is null, the others choose where its bytes begin.
fn values(field: &arrow_schema::Field, rows: &[[u8; 48]]) -> ArrayRef {
    use arrow_schema::{DataType, TimeUnit};

    let name = field.name().bytes().map(usize::from).sum::<usize>();
    let number = |row: &[u8; 48]| -> Option<i128> {
        let choice = row[name % 16];
        let at = usize::from(choice >> 1) % 32;
        (choice & 1 == 0).then(|| i128::from_le_bytes(row[at..at + 16].try_into().unwrap()))
    };
    let numbers = || rows.iter().map(number);
    let text = |row: &[u8; 48]| {
        number(row)
            .map(|n| String::from_utf8_lossy(&n.to_le_bytes()[..n as usize % 9]).into_owned())
    };
    match field.data_type() {
        DataType::Boolean => Arc::new(BooleanArray::from_iter(
            numbers().map(|n| n.map(|n| n & 1 == 1)),
        )),
        DataType::Int16 => Arc::new(Int16Array::from_iter(
            numbers().map(|n| n.map(|n| n as i16)),
        )),
        DataType::Int32 => Arc::new(Int32Array::from_iter(
            numbers().map(|n| n.map(|n| n as i32)),
        )),
        DataType::Int64 => Arc::new(Int64Array::from_iter(
            numbers().map(|n| n.map(|n| n as i64)),
        )),
        DataType::Float32 => Arc::new(Float32Array::from_iter(
            numbers().map(|n| n.map(|n| f32::from_bits(n as u32))),
        )),
        DataType::Float64 => Arc::new(Float64Array::from_iter(
            numbers().map(|n| n.map(|n| f64::from_bits(n as u64))),
        )),
        DataType::Decimal128(precision, scale) => Arc::new(
            Decimal128Array::from_iter(numbers())
                .with_precision_and_scale(*precision, *scale)
                .unwrap(),
        ),
        DataType::Date32 => Arc::new(Date32Array::from_iter(
            numbers().map(|n| n.map(|n| n as i32)),
        )),
        DataType::Time64(_) => Arc::new(Time64MicrosecondArray::from_iter(
            numbers().map(|n| n.map(|n| n as i64)),
        )),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => Arc::new(
            TimestampMicrosecondArray::from_iter(numbers().map(|n| n.map(|n| n as i64)))
                .with_timezone_opt(zone.clone()),
        ),
        DataType::Binary => Arc::new(BinaryArray::from_iter(
            numbers().map(|n| n.map(|n| n.to_le_bytes().to_vec())),
        )),
        DataType::FixedSizeBinary(16) => Arc::new(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                numbers().map(|n| n.map(i128::to_le_bytes)),
                16,
            )
            .unwrap(),
        ),
        _ => Arc::new(StringArray::from_iter(rows.iter().map(text))),
    }
}

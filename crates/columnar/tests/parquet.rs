//! What a Parquet file of ours looks like to its readers.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use arkstream_columnar::{
    CheckError, EncodeError, EncodeOptions, PartEncoder, PartFile, PgColumn, TableLayout,
    check_integers, check_parquet, read_part,
};
use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::{Compression, Encoding, LogicalType};
use parquet::file::metadata::ParquetMetaData;
use support::{array_column, column, decode, fixture, stream};

#[test]
fn the_file_names_its_maker_and_carries_the_metadata() {
    let fixture = fixture("scalars");
    let batch = decode(&fixture.layout, [fixture.wire.as_slice()]);
    let batch = batch.expect("decodes").expect("rows");
    let file_metadata = [
        ("arkstream.model", "x.scalars"),
        ("arkstream.table", "scalars"),
        ("arkstream.part", "0"),
        ("arkstream.snapshot", "00000003-1"),
        ("other", "not ours"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let schema = fixture.layout.arrow_schema(HashMap::from(file_metadata));
    let file = encode(schema, &[batch], &EncodeOptions::default());

    let check = check_parquet(file.clone()).expect("check");
    assert_eq!(check.rows, 15);
    assert_eq!(check.metadata.len(), 4);
    assert_eq!(check.metadata["arkstream.snapshot"], "00000003-1");
    assert_eq!(check.columns[..3], ["id", "flag", "i2"]);
    let field = check.schema.field_with_name("docb").expect("docb");
    assert_eq!(field.metadata()["arkstream.pg_type"], "jsonb");
    assert_eq!(field.metadata()["ARROW:extension:name"], "arrow.json");

    let metadata = metadata(&file);
    let created_by = metadata.file_metadata().created_by().expect("created_by");
    assert_eq!(created_by, concat!("arkstream ", env!("CARGO_PKG_VERSION")));
    let pairs = metadata
        .file_metadata()
        .key_value_metadata()
        .expect("pairs");
    let keys: Vec<&str> = pairs.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "arkstream.model",
            "arkstream.part",
            "arkstream.snapshot",
            "arkstream.table",
            "other",
            "ARROW:schema"
        ]
    );
}

#[test]
fn json_columns_have_parquets_json_type() {
    let layout = TableLayout::new(vec![
        column("json", 114, "json"),
        column("jsonb", 3802, "jsonb"),
        column("text", 25, "text"),
        array_column("list", 3807, 3802, "jsonb[]"),
    ]);
    let file = encode(
        layout.arrow_schema(HashMap::new()),
        &[],
        &EncodeOptions::default(),
    );
    let metadata = metadata(&file);
    let columns = metadata.file_metadata().schema_descr().columns();
    let types: Vec<_> = columns
        .iter()
        .map(|column| column.logical_type_ref())
        .collect();
    assert_eq!(types[0], Some(&LogicalType::Json));
    assert_eq!(types[1], Some(&LogicalType::Json));
    assert_eq!(types[2], Some(&LogicalType::String));
    assert_eq!(types[3], Some(&LogicalType::Json));
}

#[test]
fn each_column_is_encoded_as_it_pays() {
    let selection = PgColumn {
        odoo_type: Some("selection".to_owned()),
        ..column("state", 1043, "character varying")
    };
    let layout = TableLayout::new(vec![
        column("id", 23, "integer"),
        column("at", 1114, "timestamp without time zone"),
        column("f", 701, "double precision"),
        column("body", 25, "text"),
        selection,
        array_column("ids", 1007, 23, "integer[]"),
        column("dotted.name", 20, "bigint"),
    ]);
    let row = vec![
        Some(vec![0; 4]),
        Some(vec![0; 8]),
        Some(vec![0; 8]),
        Some(b"body".to_vec()),
        Some(b"draft".to_vec()),
        Some(support::wire_array(23, 1, &[Some(vec![0; 4])])),
        None,
        Some(vec![0; 8]),
    ];
    let wire = stream(&vec![row.clone(); 500]);
    let batch = decode(&layout, [wire.as_slice()])
        .expect("decodes")
        .expect("rows");
    let file = encode(batch.schema(), &[batch], &EncodeOptions::default());
    let metadata = metadata(&file);
    for chunk in metadata.row_group(0).columns() {
        let encodings: Vec<Encoding> = chunk.encodings().collect();
        let (expected, dictionary) = match chunk.column_path().string().as_str() {
            "id" | "at" | "ids.list.element" | "dotted.name" => {
                (Encoding::DELTA_BINARY_PACKED, false)
            }
            "f" => (Encoding::BYTE_STREAM_SPLIT, false),
            "state" => (Encoding::RLE_DICTIONARY, true),
            _ => (Encoding::PLAIN, false),
        };
        let path = chunk.column_path();
        assert!(encodings.contains(&expected), "{path}: {encodings:?}");
        assert_eq!(
            chunk.dictionary_page_offset().is_some(),
            dictionary,
            "{path}"
        );
        assert!(
            matches!(chunk.compression(), Compression::ZSTD(_)),
            "{path}"
        );
    }

    // A packer for each column would cost more than three rows are worth.
    let wire = stream(&vec![row; 3]);
    let batch = decode(&layout, [wire.as_slice()])
        .expect("decodes")
        .expect("rows");
    let file = encode(batch.schema(), &[batch], &EncodeOptions::default());
    for chunk in self::metadata(&file).row_group(0).columns() {
        let plain = |encoding| matches!(encoding, Encoding::PLAIN | Encoding::RLE);
        assert!(chunk.encodings().all(plain), "{}", chunk.column_path());
        assert_eq!(chunk.dictionary_page_offset(), None);
    }
}

#[test]
fn a_file_too_small_to_gain_is_not_compressed() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let is_compressed = |batches: &[RecordBatch]| {
        let file = encode(batches[0].schema(), batches, &EncodeOptions::default());
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let check = check_parquet(file.clone()).expect("check");
        assert_eq!(check.rows, rows as u64);
        metadata(&file).row_group(0).column(0).compression() != Compression::UNCOMPRESSED
    };
    let few = texts(&layout, 2, 1000);
    assert!(!is_compressed(std::slice::from_ref(&few)));
    assert!(is_compressed(&[few.clone(), texts(&layout, 50, 1000)]));
    assert!(is_compressed(&[texts(&layout, 50, 1000), few]));
}

#[test]
fn row_groups_stay_within_their_bytes() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let batch = texts(&layout, 100, 1000);
    let options = EncodeOptions {
        row_group_bytes: 10_000,
        ..Default::default()
    };
    let file = encode(
        batch.schema(),
        &[batch.slice(0, 3), batch.slice(3, 97)],
        &options,
    );
    let metadata = metadata(&file);
    assert!(metadata.num_row_groups() >= 10);
    for group in metadata.row_groups() {
        assert!(group.num_rows() <= 10, "{}", group.num_rows());
    }
    assert_eq!(check_parquet(file).expect("check").rows, 100);
}

#[test]
fn a_row_larger_than_a_row_group_has_one_of_its_own() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let batch = texts(&layout, 3, 50_000);
    let options = EncodeOptions {
        row_group_bytes: 10_000,
        ..Default::default()
    };
    let file = encode(batch.schema(), &[batch], &options);
    assert_eq!(metadata(&file).num_row_groups(), 3);
}

#[test]
fn statistics_of_long_texts_are_cut() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let batch = texts(&layout, 2, 1_600_000);
    let file = encode(batch.schema(), &[batch], &EncodeOptions::default());
    let metadata = metadata(&file);
    let statistics = metadata
        .row_group(0)
        .column(0)
        .statistics()
        .expect("statistics");
    assert!(statistics.min_bytes_opt().expect("min").len() <= 64);
    assert!(statistics.max_bytes_opt().expect("max").len() <= 64);
    assert!(file.len() < 200_000);
}

#[test]
fn equal_batches_give_equal_files() {
    let fixture = fixture("scalars");
    let file = || {
        let batch = decode(&fixture.layout, [fixture.wire.as_slice()]);
        let batch = batch.expect("decodes").expect("rows");
        let metadata = (0..20)
            .map(|key| (format!("k{key}"), "v".to_owned()))
            .collect();
        let schema = fixture.layout.arrow_schema(metadata);
        encode(schema, &[batch], &EncodeOptions::default())
    };
    assert_eq!(file(), file());
}

#[test]
fn encoded_bytes_grow_before_the_file_is_finished() {
    let layout = TableLayout::new(vec![column("raw", 17, "bytea")]);
    let mut state = 1_u64;
    let mut noise = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u8
    };
    let row = vec![Some((0..100_000).map(|_| noise()).collect())];
    let batch = decode(&layout, [stream(&[row]).as_slice()])
        .expect("decodes")
        .expect("rows");
    let mut encoder = PartEncoder::new(batch.schema(), &EncodeOptions::default()).expect("new");
    encoder.write(&batch).expect("write");
    assert!(encoder.encoded_bytes() >= 100_000);
    let file = encoder.finish().expect("file");
    assert!((100_000..110_000).contains(&file.len()));
}

#[test]
fn another_layouts_batch_is_refused() {
    let ours = TableLayout::new(vec![column("a", 25, "text")]);
    let other = texts(&TableLayout::new(vec![column("b", 25, "text")]), 1, 1);
    let schema = ours.arrow_schema(HashMap::new());
    let mut encoder = PartEncoder::new(schema, &EncodeOptions::default()).expect("new");
    assert!(matches!(encoder.write(&other), Err(EncodeError::Schema)));
}

#[test]
fn a_zstd_level_that_does_not_exist_is_refused() {
    let schema = TableLayout::new(Vec::new()).arrow_schema(HashMap::new());
    let options = EncodeOptions {
        zstd_level: 99,
        ..Default::default()
    };
    let result = PartEncoder::new(schema, &options);
    assert!(matches!(
        result.err(),
        Some(EncodeError::Level { level: 99, .. })
    ));
}

#[test]
fn tables_without_rows_are_files_too() {
    let empty = TableLayout::new(vec![column("a", 25, "text")]);
    let file = encode(
        empty.arrow_schema(HashMap::new()),
        &[],
        &EncodeOptions::default(),
    );
    assert_eq!(check_parquet(file).expect("check").rows, 0);

    let none = TableLayout::new(Vec::new()).arrow_schema(HashMap::new());
    let file = encode(none, &[], &EncodeOptions::default());
    assert_eq!(check_parquet(file).expect("check").rows, 0);
}

#[test]
fn rows_without_columns_are_refused_instead_of_lost() {
    let fixture = fixture("bare");
    let batch = decode(&fixture.layout, [fixture.wire.as_slice()]);
    let batch = batch.expect("decodes").expect("rows");
    let mut encoder = PartEncoder::new(batch.schema(), &EncodeOptions::default()).expect("new");
    let result = encoder.write(&batch);
    assert!(matches!(result, Err(EncodeError::NoColumns { rows: 3 })));
}

#[test]
fn integers_are_streamed_without_their_nulls() {
    let layout = TableLayout::new(vec![
        column("id", 20, "bigint"),
        column("parent", 23, "integer"),
        column("kind", 21, "smallint"),
        column("body", 25, "text"),
    ]);
    let rows: Vec<_> = (0..5_i32)
        .map(|id| {
            vec![
                Some(i64::from(id).to_be_bytes().to_vec()),
                (id > 2).then(|| (id - 1).to_be_bytes().to_vec()),
                Some((-1_i16).to_be_bytes().to_vec()),
                None,
            ]
        })
        .collect();
    let batch = decode(&layout, [stream(&rows).as_slice()])
        .expect("decodes")
        .expect("rows");
    let file = encode(batch.schema(), &[batch], &EncodeOptions::default());
    let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
    let mut visit =
        |column: &str, value: i64| seen.entry(column.to_owned()).or_default().push(value);
    let names = ["parent", "id", "kind"];
    let check = check_integers(file.clone(), &names, &mut visit).expect("reads");
    assert_eq!(check.rows, 5);
    assert_eq!(seen["id"], [0, 1, 2, 3, 4]);
    assert_eq!(seen["parent"], [2, 3]);
    assert_eq!(seen["kind"], [-1; 5]);

    let refused = check_integers(file.clone(), &["body"], &mut |_, _| {});
    assert!(matches!(refused, Err(CheckError::NotInteger { column, .. }) if column == "body"));
    let missing = check_integers(file, &["none"], &mut |_, _| {});
    assert!(matches!(missing, Err(CheckError::NoColumn(column)) if column == "none"));
}

/// Whoever reads a part holds a row group of it and no more.
#[test]
fn a_part_is_read_row_group_by_row_group() {
    let layout = TableLayout::new(vec![column("body", 25, "text"), column("more", 25, "text")]);
    let rows: Vec<_> = (0..1000u64)
        .map(|row| {
            let text = format!("{:x}", row.wrapping_mul(0x9e37_79b9_7f4a_7c15)).repeat(20);
            vec![Some(text.clone().into_bytes()), Some(text.into_bytes())]
        })
        .collect();
    let batch = decode(&layout, [stream(&rows).as_slice()]);
    let batch = batch.expect("decodes").expect("rows");
    let options = EncodeOptions {
        row_group_bytes: 60_000,
        ..EncodeOptions::default()
    };
    let file = encode(batch.schema(), std::slice::from_ref(&batch), &options);
    let groups = metadata(&file).num_row_groups();
    assert!(groups > 8, "{groups} row groups");
    let mut ranges = Vec::new();
    let part = PartFile::new(file.len() as u64, |range| {
        ranges.push(range.clone());
        Ok(file.slice(range.start as usize..range.end as usize))
    });
    let read: usize = read_part(part)
        .expect("opens")
        .map(|batch| batch.expect("a batch").num_rows())
        .sum();
    assert_eq!(read, 1000);
    // The end twice, for the footer's length and the footer.
    assert_eq!(ranges.len(), groups + 2);
    let groups: Vec<u64> = ranges[2..].iter().map(|r| r.end - r.start).collect();
    assert!(
        groups.iter().all(|bytes| *bytes * 6 < file.len() as u64),
        "{groups:?}"
    );

    let broken = PartFile::new(file.len() as u64, |range| match range.start {
        0..100 => Err(std::io::Error::other("the disk says no")),
        _ => Ok(file.slice(range.start as usize..range.end as usize)),
    });
    let error = check_parquet(broken).expect_err("it cannot be read");
    assert!(error.to_string().contains("the disk says no"), "{error}");
}

#[test]
fn a_damaged_page_is_found() {
    let layout = TableLayout::new(vec![column("body", 25, "text")]);
    let batch = texts(&layout, 2000, 50);
    let file = encode(batch.schema(), &[batch], &EncodeOptions::default());
    let mut damaged = file.to_vec();
    damaged[60..160].fill(0xa5);
    let error = check_parquet(Bytes::from(damaged)).expect_err("damage");
    assert!(
        matches!(error, CheckError::RowGroup { row_group: 0, .. }),
        "{error}"
    );
    let cut = file.slice(..file.len() - 1);
    assert!(matches!(check_parquet(cut), Err(CheckError::Footer(_))));
}

fn encode(
    schema: Arc<arrow_schema::Schema>,
    batches: &[RecordBatch],
    options: &EncodeOptions,
) -> Bytes {
    let mut encoder = PartEncoder::new(schema, options).expect("encoder");
    for batch in batches {
        encoder.write(batch).expect("write");
    }
    encoder.finish().expect("file")
}

fn metadata(file: &Bytes) -> Arc<ParquetMetaData> {
    let metadata = ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).expect("footer");
    metadata.metadata().clone()
}

/// Rows of one text column, each `length` bytes long.
fn texts(layout: &TableLayout, rows: usize, length: usize) -> RecordBatch {
    let text = |row: usize| format!("{row:08} ").repeat(length.div_ceil(9))[..length].to_owned();
    let rows: Vec<_> = (0..rows)
        .map(|row| vec![Some(text(row).into_bytes())])
        .collect();
    decode(layout, [stream(&rows).as_slice()])
        .expect("decodes")
        .expect("rows")
}

//! Rows through the decoder, the Parquet encoder and back to COPY BINARY, on one thread.
//!
//! `cargo bench -p arkstream-columnar`
#![allow(missing_docs, clippy::unwrap_used)]

use arkstream_columnar::{
    CopyDecoder, CopyEncoder, EncodeOptions, PartEncoder, PgColumn, TableLayout, read_part,
};
use arrow_array::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Bytes that are handed over at once, as an export does.
const PIECE: usize = 64 << 10;

struct Table {
    name: &'static str,
    layout: TableLayout,
    /// The rows as COPY BINARY, header and trailer included.
    wire: Vec<u8>,
}

/// Numbers that look random and are always the same.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
}

fn column(name: &str, attnum: i16, type_oid: u32, type_name: &str) -> PgColumn {
    PgColumn {
        name: name.to_owned(),
        attnum,
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

fn header() -> Vec<u8> {
    let mut wire = b"PGCOPY\n\xff\r\n\0".to_vec();
    wire.extend([0; 8]);
    wire
}

fn field(wire: &mut Vec<u8>, value: &[u8]) {
    wire.extend((value.len() as i32).to_be_bytes());
    wire.extend(value);
}

/// Chat messages: ids, a time, a role, and text of 20 to 6,000 bytes.
fn messages() -> Table {
    let mut numbers = Numbers(1);
    let words: Vec<String> = (0..4096)
        .map(|_| {
            let number = numbers.next();
            format!("{:x}", number % (1 << (8 + number % 24)))
        })
        .collect();
    let mut wire = header();
    for id in 0..12_000i32 {
        wire.extend(5i16.to_be_bytes());
        field(&mut wire, &id.to_be_bytes());
        field(&mut wire, &(id / 12).to_be_bytes());
        let moment = 800_000_000_000_000 + i64::from(id) * 1_234_567;
        field(&mut wire, &moment.to_be_bytes());
        field(&mut wire, [&b"user"[..], b"assistant"][id as usize % 2]);
        let mut text = String::new();
        let length = 20 + numbers.next() % 200 * (numbers.next() % 30);
        while (text.len() as u64) < length {
            // The first words are by far the most frequent.
            let rank = (numbers.next() % 4096) * (numbers.next() % 4096) / 4096;
            text.push_str(&words[rank as usize]);
            text.push(' ');
        }
        field(&mut wire, text.as_bytes());
    }
    wire.extend((-1i16).to_be_bytes());
    Table {
        name: "messages",
        layout: TableLayout::new(vec![
            column("id", 1, 23, "integer"),
            column("conversation_id", 2, 23, "integer"),
            column("create_date", 3, 1114, "timestamp without time zone"),
            column("role", 4, 1043, "character varying"),
            column("content", 5, 25, "text"),
        ]),
        wire,
    }
}

/// Narrow rows of numbers.
fn narrow() -> Table {
    let mut numbers = Numbers(2);
    let mut wire = header();
    for id in 0..200_000i32 {
        wire.extend(6i16.to_be_bytes());
        field(&mut wire, &id.to_be_bytes());
        field(&mut wire, &((numbers.next() % 50_000) as i32).to_be_bytes());
        field(&mut wire, &(numbers.next() as i64).to_be_bytes());
        field(&mut wire, &(numbers.next() as f64 / 997.0).to_be_bytes());
        let moment = 800_000_000_000_000 + i64::from(id) * 1_234_567;
        field(&mut wire, &moment.to_be_bytes());
        field(&mut wire, &[(id % 3 == 0).into()]);
    }
    wire.extend((-1i16).to_be_bytes());
    Table {
        name: "narrow",
        layout: TableLayout::new(vec![
            column("id", 1, 23, "integer"),
            column("partner_id", 2, 23, "integer"),
            column("ref", 3, 20, "bigint"),
            column("quantity", 4, 701, "double precision"),
            column("posted", 5, 1114, "timestamp without time zone"),
            column("reconciled", 6, 16, "boolean"),
        ]),
        wire,
    }
}

/// Decodes the stream in batches of that many bytes.
fn decode(table: &Table, batch_bytes: usize) -> Vec<RecordBatch> {
    let mut decoder = CopyDecoder::new(&table.layout);
    let mut batches = Vec::new();
    for piece in table.wire.chunks(PIECE) {
        decoder.push(piece).unwrap();
        if decoder.bytes_pending() >= batch_bytes {
            batches.extend(decoder.take_batch().unwrap());
        }
    }
    decoder.finish().unwrap();
    batches.extend(decoder.take_batch().unwrap());
    batches
}

fn encode(batches: &[RecordBatch], options: &EncodeOptions) -> bytes::Bytes {
    let mut encoder = PartEncoder::new(batches[0].schema(), options).unwrap();
    for batch in batches {
        encoder.write(batch).unwrap();
    }
    encoder.finish().unwrap()
}

fn rows(criterion: &mut Criterion) {
    // What a job with the default budget uses.
    let options = EncodeOptions {
        row_group_bytes: 4 << 20,
        ..EncodeOptions::default()
    };
    for table in [messages(), narrow()] {
        let mut group = criterion.benchmark_group(table.name);
        group.sample_size(10);
        group.throughput(Throughput::Bytes(table.wire.len() as u64));
        group.bench_function("decode", |bencher| {
            bencher.iter(|| decode(&table, options.batch_bytes()));
        });
        let batches = decode(&table, options.batch_bytes());
        for zstd_level in [1, 2, 3] {
            let options = EncodeOptions {
                zstd_level,
                ..options.clone()
            };
            let size = encode(&batches, &options).len();
            let ratio = size as f64 / table.wire.len() as f64;
            println!("{}, zstd {zstd_level}: {ratio:.4} of the size", table.name);
            group.bench_function(format!("encode, zstd {zstd_level}"), |bencher| {
                bencher.iter(|| encode(&batches, &options));
            });
        }
        let file = encode(&batches, &options);
        group.bench_function("read", |bencher| {
            bencher.iter(|| read_part(file.clone()).unwrap().map(Result::unwrap).count());
        });
        let copy = CopyEncoder::new(&batches[0].schema()).unwrap();
        group.bench_function("to COPY BINARY", |bencher| {
            bencher.iter(|| {
                let mut out = Vec::with_capacity(table.wire.len());
                for batch in &batches {
                    copy.encode(batch, &mut out).unwrap();
                }
                out
            });
        });
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);

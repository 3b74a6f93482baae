//! What the tests share: fixtures of a real server, and hand-built wire bytes.
#![allow(dead_code)]

use std::path::PathBuf;

use arkstream_columnar::{CopyDecoder, DecodeError, PgColumn, TableLayout};
use arrow_array::RecordBatch;

/// A table captured from a real server; see `data/README.md`.
pub(crate) struct Fixture {
    pub(crate) layout: TableLayout,
    pub(crate) select: String,
    pub(crate) wire: Vec<u8>,
    /// Texts by row and column.
    pub(crate) texts: Vec<Vec<Option<String>>>,
}

pub(crate) fn fixture(table: &str) -> Fixture {
    let columns = copy_text(&read(table, "columns"))
        .iter()
        .map(|row| {
            let text = |index: usize| row[index].clone().expect("not null");
            PgColumn {
                name: text(0),
                attnum: text(1).parse().expect("attnum"),
                type_oid: text(2).parse().expect("oid"),
                type_name: text(3),
                typmod: text(4).parse().expect("typmod"),
                type_kind: text(5).chars().next().expect("kind"),
                element_oid: row[6].as_ref().map(|oid| oid.parse().expect("oid")),
                element_kind: row[7].as_ref().and_then(|kind| kind.chars().next()),
                not_null: text(8) == "t",
                odoo_type: None,
                relation: None,
            }
        })
        .collect();
    Fixture {
        layout: TableLayout::new(columns),
        select: String::from_utf8(read(table, "select")).expect("utf8"),
        wire: read(table, "copy"),
        texts: copy_text(&read(table, "txt")),
    }
}

fn read(table: &str, extension: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(table)
        .with_extension(extension);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// PostgreSQL's COPY text format.
fn copy_text(bytes: &[u8]) -> Vec<Vec<Option<String>>> {
    let text = std::str::from_utf8(bytes).expect("utf8");
    let value = |field: &str| {
        if field == "\\N" {
            return None;
        }
        let mut out = String::new();
        let mut chars = field.chars();
        while let Some(char) = chars.next() {
            out.push(match char {
                '\\' => match chars.next().expect("escape") {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    other => other,
                },
                other => other,
            });
        }
        Some(out)
    };
    text.split_terminator('\n')
        .map(|line| line.split('\t').map(value).collect())
        .collect()
}

/// A built-in type's column.
pub(crate) fn column(name: &str, type_oid: u32, type_name: &str) -> PgColumn {
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

/// An array type's column.
pub(crate) fn array_column(
    name: &str,
    type_oid: u32,
    element_oid: u32,
    type_name: &str,
) -> PgColumn {
    PgColumn {
        element_oid: Some(element_oid),
        element_kind: Some('b'),
        ..column(name, type_oid, type_name)
    }
}

pub(crate) fn numeric_typmod(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}

/// A whole COPY BINARY stream of the given rows.
pub(crate) fn stream(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
    let mut wire = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        wire.extend((row.len() as i16).to_be_bytes());
        for field in row {
            match field {
                None => wire.extend((-1_i32).to_be_bytes()),
                Some(bytes) => {
                    wire.extend((bytes.len() as i32).to_be_bytes());
                    wire.extend(bytes);
                }
            }
        }
    }
    wire.extend((-1_i16).to_be_bytes());
    wire
}

/// An array on the wire with one dimension.
pub(crate) fn wire_array(oid: u32, lower_bound: i32, elements: &[Option<Vec<u8>>]) -> Vec<u8> {
    let has_nulls = elements.iter().any(Option::is_none);
    let mut wire = Vec::new();
    for word in [
        i32::from(!elements.is_empty()),
        i32::from(has_nulls),
        oid as i32,
    ] {
        wire.extend(word.to_be_bytes());
    }
    if !elements.is_empty() {
        wire.extend((elements.len() as i32).to_be_bytes());
        wire.extend(lower_bound.to_be_bytes());
    }
    for element in elements {
        match element {
            None => wire.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                wire.extend((bytes.len() as i32).to_be_bytes());
                wire.extend(bytes);
            }
        }
    }
    wire
}

/// A numeric on the wire.
pub(crate) fn wire_numeric(weight: i16, sign: u16, dscale: u16, digits: &[u16]) -> Vec<u8> {
    let mut wire = (digits.len() as u16).to_be_bytes().to_vec();
    wire.extend(weight.to_be_bytes());
    wire.extend(sign.to_be_bytes());
    wire.extend(dscale.to_be_bytes());
    wire.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
    wire
}

/// Decodes a stream that arrives in the given pieces into one batch.
pub(crate) fn decode<'a>(
    layout: &TableLayout,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<RecordBatch>, DecodeError> {
    let mut decoder = CopyDecoder::new(layout);
    for piece in pieces {
        decoder.push(piece)?;
    }
    decoder.finish()?;
    decoder.take_batch()
}

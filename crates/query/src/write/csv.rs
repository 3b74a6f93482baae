//! CSV as PostgreSQL has it: values are PostgreSQL's texts, NULL is nothing, the empty text is `""`.
//!
//! `COPY t (columns) FROM … (FORMAT csv, HEADER)` reads the file back, each value through its type's input
//! function. The quoting is written out here, because no CSV library lets single fields choose it, and
//! without that NULL and the empty text would be one.

use std::io::Write;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use arkstream_pipeline::Failure;

use super::{KEPT, RowWriter, failed};
use crate::{Column, columns};

pub(super) struct CsvWriter<W> {
    out: W,
    columns: Vec<Column>,
    line: String,
    value: String,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn begin(out: W, schema: &SchemaRef) -> Result<Self, Failure> {
        let mut writer = Self {
            out,
            columns: columns(schema),
            line: String::new(),
            value: String::new(),
        };
        for (number, column) in writer.columns.iter().enumerate() {
            if number > 0 {
                writer.line.push(',');
            }
            quote(&column.name, &mut writer.line);
        }
        writer.end_line()?;
        Ok(writer)
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes()).map_err(failed)?;
        self.line.clear();
        self.line.shrink_to(KEPT);
        self.value.shrink_to(KEPT);
        Ok(())
    }
}

impl<W: Write> RowWriter for CsvWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for row in 0..batch.num_rows() {
            for (number, column) in self.columns.iter().enumerate() {
                if number > 0 {
                    self.line.push(',');
                }
                self.value.clear();
                if column.text(batch, row, &mut self.value)? {
                    quote(&self.value, &mut self.line);
                }
            }
            self.end_line()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }
}

/// Appends a value, in quotes where a reader needs them. `\.` alone on a line would end the data for
/// older PostgreSQL.
fn quote(value: &str, out: &mut String) {
    let plain = !value.is_empty()
        && value != "\\."
        && !value.starts_with(' ')
        && !value.ends_with(' ')
        && !value.contains([',', '"', '\n', '\r']);
    if plain {
        return out.push_str(value);
    }
    out.push('"');
    for (number, piece) in value.split('"').enumerate() {
        if number > 0 {
            out.push_str("\"\"");
        }
        out.push_str(piece);
    }
    out.push('"');
}

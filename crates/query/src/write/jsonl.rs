//! One JSON object a line.
//!
//! | Value | JSON |
//! |---|---|
//! | NULL | `null` |
//! | `bool` | `true`, `false` |
//! | integers up to 2^53 − 1, finite floats | a number |
//! | larger integers, `numeric`, NaN and the infinities | a string: readers would round them or refuse |
//! | one-dimensional arrays | an array of these |
//! | everything else, `json` and `bytea` too | a string with PostgreSQL's text |

use std::io::Write;

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray as _,
    types::{Float32Type, Float64Type, Int64Type},
};
use arrow_schema::{DataType, SchemaRef};

use arkstream_columnar::write_text;
use arkstream_pipeline::Failure;

use super::{KEPT, RowWriter, failed};
use crate::{Column, Value, columns};

/// The largest whole number up to which every reader keeps every whole number.
const EXACT: u64 = (1 << 53) - 1;

pub(super) struct JsonWriter<W> {
    out: W,
    columns: Vec<Column>,
    /// For each column, its name and colon, with what separates it from the one before.
    keys: Vec<String>,
    line: Vec<u8>,
    text: String,
}

impl<W: Write> JsonWriter<W> {
    pub(super) fn begin(out: W, schema: &SchemaRef) -> Self {
        let columns = columns(schema);
        let keys = columns.iter().enumerate().map(|(number, column)| {
            let before = if number == 0 { '{' } else { ',' };
            format!("{before}{}:", serde_json::Value::from(column.name.as_str()))
        });
        Self {
            keys: keys.collect(),
            out,
            columns,
            line: Vec::new(),
            text: String::new(),
        }
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        self.line.push(b'\n');
        self.out.write_all(&self.line).map_err(failed)?;
        self.line.clear();
        self.line.shrink_to(KEPT);
        self.text.shrink_to(KEPT);
        Ok(())
    }
}

impl<W: Write> RowWriter for JsonWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        for row in 0..batch.num_rows() {
            for (column, key) in self.columns.iter().zip(&self.keys) {
                self.line.extend_from_slice(key.as_bytes());
                match column.value(batch, row) {
                    Value::Null => self.line.extend_from_slice(b"null"),
                    Value::Text(text) => string(text, &mut self.line)?,
                    Value::Typed(array, row) => {
                        if !value(array, row, &mut self.text, &mut self.line)? {
                            return Err(column.unknown(array));
                        }
                    }
                }
            }
            if self.columns.is_empty() {
                self.line.push(b'{');
            }
            self.line.push(b'}');
            self.end_line()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }
}

/// Appends a value that is not NULL; false where its type is unknown.
fn value(
    array: &dyn Array,
    row: usize,
    text: &mut String,
    out: &mut Vec<u8>,
) -> Result<bool, Failure> {
    if let DataType::List(_) = array.data_type() {
        let elements = array.as_list::<i32>().value(row);
        out.push(b'[');
        for element in 0..elements.len() {
            if element > 0 {
                out.push(b',');
            }
            if elements.is_null(element) {
                out.extend_from_slice(b"null");
            } else if !value(&elements, element, text, out)? {
                return Ok(false);
            }
        }
        out.push(b']');
        return Ok(true);
    }
    text.clear();
    if !write_text(array, row, text) {
        return Ok(false);
    }
    let bare = match array.data_type() {
        DataType::Boolean => {
            let word: &[u8] = if array.as_boolean().value(row) {
                b"true"
            } else {
                b"false"
            };
            out.extend_from_slice(word);
            return Ok(true);
        }
        DataType::Int16 | DataType::Int32 => true,
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).unsigned_abs() <= EXACT,
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).is_finite(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).is_finite(),
        _ => false,
    };
    match bare {
        true => out.extend_from_slice(text.as_bytes()),
        false => string(text, out)?,
    }
    Ok(true)
}

fn string(text: &str, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer(out, text).map_err(|error| failed(error.into()))
}

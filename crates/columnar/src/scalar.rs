//! Arrow builders for the scalars, fed from the wire.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, PrimitiveBuilder,
    StringBuilder,
};
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};

use crate::datetime;
use crate::error::ValueProblem;
use crate::numeric::Numeric;
use crate::pgtype::Scalar;

/// What became of a value.
pub(crate) enum Appended {
    /// It stands in the builder; so many bytes beyond the fixed ones of a row.
    Value(usize),
    /// The Arrow type cannot carry it; nothing was appended.
    Exception,
}

/// The builder of one scalar column, or of a list's elements.
pub(crate) struct ScalarBuilder {
    scalar: Scalar,
    values: Values,
}

enum Values {
    Bool(BooleanBuilder),
    Int2(PrimitiveBuilder<Int16Type>),
    Int4(PrimitiveBuilder<Int32Type>),
    Int8(PrimitiveBuilder<Int64Type>),
    Float4(PrimitiveBuilder<Float32Type>),
    Float8(PrimitiveBuilder<Float64Type>),
    Decimal(PrimitiveBuilder<Decimal128Type>),
    Text(StringBuilder),
    Bytea(BinaryBuilder),
    Date(PrimitiveBuilder<Date32Type>),
    Timestamp(PrimitiveBuilder<TimestampMicrosecondType>),
    Time(PrimitiveBuilder<Time64MicrosecondType>),
    Uuid(FixedSizeBinaryBuilder),
}

impl ScalarBuilder {
    pub(crate) fn new(scalar: Scalar) -> ScalarBuilder {
        let values = match scalar {
            Scalar::Bool => Values::Bool(BooleanBuilder::new()),
            Scalar::Int2 => Values::Int2(primitive(scalar)),
            Scalar::Int4 => Values::Int4(primitive(scalar)),
            Scalar::Int8 => Values::Int8(primitive(scalar)),
            Scalar::Float4 => Values::Float4(primitive(scalar)),
            Scalar::Float8 => Values::Float8(primitive(scalar)),
            Scalar::Decimal { .. } => Values::Decimal(primitive(scalar)),
            Scalar::Text | Scalar::Char | Scalar::Json | Scalar::Jsonb => {
                Values::Text(StringBuilder::new())
            }
            Scalar::Bytea => Values::Bytea(BinaryBuilder::new()),
            Scalar::Date => Values::Date(primitive(scalar)),
            Scalar::Timestamp | Scalar::TimestampTz => Values::Timestamp(primitive(scalar)),
            Scalar::Time => Values::Time(primitive(scalar)),
            Scalar::Uuid => Values::Uuid(FixedSizeBinaryBuilder::new(16)),
        };
        ScalarBuilder { scalar, values }
    }

    pub(crate) fn append(&mut self, raw: &[u8]) -> Result<Appended, ValueProblem> {
        match &mut self.values {
            Values::Bool(values) => match fixed(raw)? {
                [0] => values.append_value(false),
                [1] => values.append_value(true),
                [other] => return Err(ValueProblem::Bool(other)),
            },
            Values::Int2(values) => values.append_value(i16::from_be_bytes(fixed(raw)?)),
            Values::Int4(values) => values.append_value(i32::from_be_bytes(fixed(raw)?)),
            Values::Int8(values) => values.append_value(i64::from_be_bytes(fixed(raw)?)),
            Values::Float4(values) => values.append_value(f32::from_be_bytes(fixed(raw)?)),
            Values::Float8(values) => values.append_value(f64::from_be_bytes(fixed(raw)?)),
            Values::Decimal(values) => return Ok(put(values, decimal(self.scalar, raw)?)),
            Values::Date(values) => return Ok(put(values, date(raw)?)),
            Values::Timestamp(values) => return Ok(put(values, timestamp(raw)?)),
            Values::Time(values) => return Ok(put(values, time(raw)?)),
            Values::Uuid(values) => {
                let raw: [u8; 16] = fixed(raw)?;
                values.append_value(raw).map_err(|_| WIDTH)?;
            }
            Values::Bytea(values) => {
                values.append_value(raw);
                return Ok(Appended::Value(raw.len()));
            }
            Values::Text(values) => return append_text(self.scalar, raw, values),
        }
        Ok(Appended::Value(0))
    }

    pub(crate) fn append_null(&mut self) {
        match &mut self.values {
            Values::Bool(values) => values.append_null(),
            Values::Int2(values) => values.append_null(),
            Values::Int4(values) => values.append_null(),
            Values::Int8(values) => values.append_null(),
            Values::Float4(values) => values.append_null(),
            Values::Float8(values) => values.append_null(),
            Values::Decimal(values) => values.append_null(),
            Values::Text(values) => values.append_null(),
            Values::Bytea(values) => values.append_null(),
            Values::Date(values) => values.append_null(),
            Values::Timestamp(values) => values.append_null(),
            Values::Time(values) => values.append_null(),
            Values::Uuid(values) => values.append_null(),
        }
    }

    /// Number of values, nulls included.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int2(values) => values.len(),
            Values::Int4(values) => values.len(),
            Values::Int8(values) => values.len(),
            Values::Float4(values) => values.len(),
            Values::Float8(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Text(values) => values.len(),
            Values::Bytea(values) => values.len(),
            Values::Date(values) => values.len(),
            Values::Timestamp(values) => values.len(),
            Values::Time(values) => values.len(),
            Values::Uuid(values) => values.len(),
        }
    }

    /// Hands out the array and starts anew. The next one is expected to be as long, and grows without
    /// copying what is in it.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Bool(values) => Arc::new(values.finish()),
            Values::Int2(values) => finish_primitives(values, self.scalar),
            Values::Int4(values) => finish_primitives(values, self.scalar),
            Values::Int8(values) => finish_primitives(values, self.scalar),
            Values::Float4(values) => finish_primitives(values, self.scalar),
            Values::Float8(values) => finish_primitives(values, self.scalar),
            Values::Decimal(values) => finish_primitives(values, self.scalar),
            Values::Text(values) => finish_texts(values),
            Values::Bytea(values) => {
                let next = BinaryBuilder::with_capacity(values.len(), values.values_slice().len());
                Arc::new(std::mem::replace(values, next).finish())
            }
            Values::Date(values) => finish_primitives(values, self.scalar),
            Values::Timestamp(values) => finish_primitives(values, self.scalar),
            Values::Time(values) => finish_primitives(values, self.scalar),
            Values::Uuid(values) => Arc::new(values.finish()),
        }
    }
}

fn finish_primitives<T: ArrowPrimitiveType>(
    values: &mut PrimitiveBuilder<T>,
    scalar: Scalar,
) -> ArrayRef {
    let next = PrimitiveBuilder::with_capacity(values.len()).with_data_type(scalar.data_type());
    Arc::new(std::mem::replace(values, next).finish())
}

/// Hands out the texts and starts anew, with room for as much.
pub(crate) fn finish_texts(values: &mut StringBuilder) -> ArrayRef {
    let next = StringBuilder::with_capacity(values.len(), values.values_slice().len());
    Arc::new(std::mem::replace(values, next).finish())
}

/// Whether the Arrow type can carry this value, and an error when it is none.
pub(crate) fn carries(scalar: Scalar, raw: &[u8]) -> Result<bool, ValueProblem> {
    Ok(match scalar {
        Scalar::Decimal { .. } => decimal(scalar, raw)?.is_some(),
        Scalar::Date => date(raw)?.is_some(),
        Scalar::Timestamp | Scalar::TimestampTz => timestamp(raw)?.is_some(),
        Scalar::Time => time(raw)?.is_some(),
        _ => true,
    })
}

/// Appends the text of a value that the Arrow type cannot carry.
pub(crate) fn write_exception(
    scalar: Scalar,
    raw: &[u8],
    out: &mut String,
) -> Result<(), ValueProblem> {
    match scalar {
        Scalar::Decimal { .. } => Numeric::parse(raw)?.write_text(out),
        Scalar::Date => datetime::write_date(i32::from_be_bytes(fixed(raw)?), out),
        Scalar::Timestamp | Scalar::TimestampTz => {
            let with_zone = scalar == Scalar::TimestampTz;
            datetime::write_timestamp(i64::from_be_bytes(fixed(raw)?), with_zone, out);
        }
        Scalar::Time => datetime::write_time(i64::from_be_bytes(fixed(raw)?), out),
        // The other scalars have no exceptions.
        _ => {}
    }
    Ok(())
}

/// The problem of a value whose length is not its type's; the framing checks lengths of fields,
/// this one speaks of elements.
const WIDTH: ValueProblem = ValueProblem::Array("element has a length that its type does not have");

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], ValueProblem> {
    raw.try_into().map_err(|_| WIDTH)
}

fn primitive<T: ArrowPrimitiveType>(scalar: Scalar) -> PrimitiveBuilder<T> {
    PrimitiveBuilder::new().with_data_type(scalar.data_type())
}

fn put<T: ArrowPrimitiveType>(
    values: &mut PrimitiveBuilder<T>,
    value: Option<T::Native>,
) -> Appended {
    match value {
        Some(value) => {
            values.append_value(value);
            Appended::Value(0)
        }
        None => Appended::Exception,
    }
}

fn append_text(
    scalar: Scalar,
    raw: &[u8],
    values: &mut StringBuilder,
) -> Result<Appended, ValueProblem> {
    let raw = match (scalar, raw) {
        (Scalar::Jsonb, [1, json @ ..]) => json,
        (Scalar::Jsonb, [version, ..]) => return Err(ValueProblem::JsonbVersion(*version)),
        (Scalar::Jsonb, []) => return Err(WIDTH),
        (Scalar::Char, [byte]) => return Ok(append_char(*byte, values)),
        (Scalar::Char, _) => return Err(WIDTH),
        _ => raw,
    };
    let text = std::str::from_utf8(raw).map_err(|_| ValueProblem::NotUtf8)?;
    values.append_value(text);
    Ok(Appended::Value(text.len()))
}

/// A `"char"` as PostgreSQL 16 prints it: the zero byte is the empty string, a byte beyond ASCII
/// a backslash and three octal digits (earlier servers print the bare byte, which is no text).
fn append_char(byte: u8, values: &mut StringBuilder) -> Appended {
    match byte {
        0 => {
            values.append_value("");
            Appended::Value(0)
        }
        1..=0x7f => {
            values.append_value(char::from(byte).encode_utf8(&mut [0; 4]));
            Appended::Value(1)
        }
        0x80.. => {
            let digit = |shift: u32| b'0' + ((byte >> shift) & 7);
            let octal = [b'\\', digit(6), digit(3), digit(0)];
            values.append_value(String::from_utf8_lossy(&octal));
            Appended::Value(octal.len())
        }
    }
}

fn decimal(scalar: Scalar, raw: &[u8]) -> Result<Option<i128>, ValueProblem> {
    let numeric = Numeric::parse(raw)?;
    Ok(match scalar {
        Scalar::Decimal { precision, scale } => numeric.to_decimal(precision, scale),
        _ => None,
    })
}

fn date(raw: &[u8]) -> Result<Option<i32>, ValueProblem> {
    datetime::date_to_arrow(i32::from_be_bytes(fixed(raw)?))
}

fn timestamp(raw: &[u8]) -> Result<Option<i64>, ValueProblem> {
    datetime::timestamp_to_arrow(i64::from_be_bytes(fixed(raw)?))
}

fn time(raw: &[u8]) -> Result<Option<i64>, ValueProblem> {
    datetime::time_to_arrow(i64::from_be_bytes(fixed(raw)?))
}

//! Values of Arrow arrays as PostgreSQL's `…recv` functions read them, each with its length in
//! front. The inverse of `scalar.rs` and `column.rs`.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, FixedSizeBinaryArray, ListArray, PrimitiveArray,
    StringArray,
};
use arrow_schema::DataType;

use crate::stage::{Typed, Wire};

/// Days and microseconds from Arrow's epoch (1970) to PostgreSQL's (2000).
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Writes the values of one array.
pub(crate) enum ColumnWriter<'a> {
    Scalar(ScalarWriter<'a>),
    List {
        list: &'a ListArray,
        elements: ScalarWriter<'a>,
        oid: u32,
    },
}

impl<'a> ColumnWriter<'a> {
    /// `None` when the array's type is not the one that the column's type has.
    pub(crate) fn new(typed: Option<Typed>, array: &'a ArrayRef) -> Option<Self> {
        let Some(typed) = typed else {
            return ScalarWriter::new(Wire::Text, array.as_ref()).map(Self::Scalar);
        };
        if !typed.array {
            return ScalarWriter::new(typed.wire, array.as_ref()).map(Self::Scalar);
        }
        let list = array.as_any().downcast_ref::<ListArray>()?;
        Some(Self::List {
            list,
            elements: ScalarWriter::new(typed.wire, list.values().as_ref())?,
            oid: typed.oid,
        })
    }

    /// Appends length and bytes of a value that is not null; `None` when it is none of its type.
    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Scalar(writer) => writer.write(row, out),
            Self::List {
                list,
                elements,
                oid,
            } => sized(out, |out| {
                let offsets = list.value_offsets();
                let start = usize::try_from(*offsets.get(row)?).ok()?;
                let end = usize::try_from(*offsets.get(row + 1)?).ok()?;
                let length = i32::try_from(end.checked_sub(start)?).ok()?;
                let has_nulls = (start..end).any(|i| elements.is_null(i));
                let dimensions = i32::from(length > 0);
                for number in [dimensions, i32::from(has_nulls), oid.cast_signed()] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                if length > 0 {
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(&1i32.to_be_bytes());
                }
                for element in start..end {
                    if elements.is_null(element) {
                        out.extend_from_slice(&(-1i32).to_be_bytes());
                    } else {
                        elements.write(element, out)?;
                    }
                }
                Some(())
            }),
        }
    }
}

/// Writes the values of an array of scalars.
pub(crate) enum ScalarWriter<'a> {
    Bool(&'a BooleanArray),
    Int2(&'a PrimitiveArray<Int16Type>),
    Int4(&'a PrimitiveArray<Int32Type>),
    Int8(&'a PrimitiveArray<Int64Type>),
    Float4(&'a PrimitiveArray<Float32Type>),
    Float8(&'a PrimitiveArray<Float64Type>),
    Numeric(&'a PrimitiveArray<Decimal128Type>, u8),
    Text(&'a StringArray),
    Char(&'a StringArray),
    Jsonb(&'a StringArray),
    Bytea(&'a BinaryArray),
    Date(&'a PrimitiveArray<Date32Type>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Uuid(&'a FixedSizeBinaryArray),
}

impl<'a> ScalarWriter<'a> {
    fn new(wire: Wire, array: &'a dyn Array) -> Option<Self> {
        Some(match wire {
            Wire::Bool => Self::Bool(array.as_boolean_opt()?),
            Wire::Int2 => Self::Int2(array.as_primitive_opt()?),
            Wire::Int4 => Self::Int4(array.as_primitive_opt()?),
            Wire::Int8 => Self::Int8(array.as_primitive_opt()?),
            Wire::Float4 => Self::Float4(array.as_primitive_opt()?),
            Wire::Float8 => Self::Float8(array.as_primitive_opt()?),
            Wire::Numeric => match array.data_type() {
                DataType::Decimal128(_, scale) => {
                    Self::Numeric(array.as_primitive_opt()?, u8::try_from(*scale).ok()?)
                }
                _ => return None,
            },
            Wire::Text => Self::Text(array.as_string_opt()?),
            Wire::Char => Self::Char(array.as_string_opt()?),
            Wire::Jsonb => Self::Jsonb(array.as_string_opt()?),
            Wire::Bytea => Self::Bytea(array.as_binary_opt()?),
            Wire::Date => Self::Date(array.as_primitive_opt()?),
            Wire::Timestamp => Self::Timestamp(array.as_primitive_opt()?),
            Wire::Time => Self::Time(array.as_primitive_opt()?),
            Wire::Uuid => {
                let array = array.as_fixed_size_binary_opt()?;
                (array.value_length() == 16).then_some(Self::Uuid(array))?
            }
        })
    }

    fn array(&self) -> &dyn Array {
        match self {
            Self::Bool(array) => *array,
            Self::Int2(array) => *array,
            Self::Int4(array) => *array,
            Self::Int8(array) => *array,
            Self::Float4(array) => *array,
            Self::Float8(array) => *array,
            Self::Numeric(array, _) => *array,
            Self::Text(array) | Self::Char(array) | Self::Jsonb(array) => *array,
            Self::Bytea(array) => *array,
            Self::Date(array) => *array,
            Self::Timestamp(array) => *array,
            Self::Time(array) => *array,
            Self::Uuid(array) => *array,
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Option<()> {
        match self {
            Self::Bool(array) => fixed(out, [u8::from(array.value(row))]),
            Self::Int2(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Int4(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Int8(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Float4(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Float8(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Numeric(array, scale) => {
                return sized(out, |out| numeric(array.value(row), *scale, out));
            }
            Self::Text(array) => return bytes(out, array.value(row).as_bytes()),
            Self::Char(array) => fixed(out, [char_byte(array.value(row).as_bytes())?]),
            Self::Jsonb(array) => {
                return sized(out, |out| {
                    out.push(1);
                    out.extend_from_slice(array.value(row).as_bytes());
                    Some(())
                });
            }
            Self::Bytea(array) => return bytes(out, array.value(row)),
            Self::Date(array) => {
                fixed(out, array.value(row).checked_sub(EPOCH_DAYS)?.to_be_bytes())
            }
            Self::Timestamp(array) => {
                fixed(
                    out,
                    array.value(row).checked_sub(EPOCH_MICROS)?.to_be_bytes(),
                );
            }
            Self::Time(array) => fixed(out, array.value(row).to_be_bytes()),
            Self::Uuid(array) => return bytes(out, array.value(row)),
        }
        Some(())
    }
}

/// A value of a length that is known by its type.
fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    out.extend_from_slice(&(N as i32).to_be_bytes());
    out.extend_from_slice(&value);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) -> Option<()> {
    out.extend_from_slice(&i32::try_from(value.len()).ok()?.to_be_bytes());
    out.extend_from_slice(value);
    Some(())
}

/// A value whose length is known once it is written.
fn sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<()>) -> Option<()> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = i32::try_from(out.len() - start - 4).ok()?;
    out.get_mut(start..start + 4)?
        .copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// The byte of a `"char"`: empty for zero, itself for ASCII, a backslash and three octal digits beyond. No
/// byte has another text.
fn char_byte(text: &[u8]) -> Option<u8> {
    match text {
        [] => Some(0),
        [0] => None,
        [byte] => Some(*byte),
        [b'\\', digits @ ..] if digits.len() == 3 => {
            let text = std::str::from_utf8(digits).ok()?;
            let byte = u8::from_str_radix(text, 8).ok()?;
            (!byte.is_ascii()).then_some(byte)
        }
        _ => None,
    }
}

/// `numeric` on the wire: number of groups, weight of the first one, sign, display scale, then
/// groups of four decimal digits from the largest down, without zero groups at either end.
fn numeric(value: i128, scale: u8, out: &mut Vec<u8>) -> Option<()> {
    let (sign, mut rest) = (u16::from(value < 0) << 14, value.unsigned_abs());
    // Aligned so that the decimal point lies between two groups.
    let fraction_groups = usize::from(scale).div_ceil(4);
    let padding = (fraction_groups * 4 - usize::from(scale)) as u32;
    let mut groups = [0u16; 12];
    let mut used = 0;
    if padding > 0 {
        let unit = 10u128.pow(4 - padding);
        *groups.first_mut()? = ((rest % unit) * 10u128.pow(padding)) as u16;
        rest /= unit;
        used = 1;
    }
    while rest > 0 {
        *groups.get_mut(used)? = (rest % 10_000) as u16;
        rest /= 10_000;
        used += 1;
    }
    let used = groups.get(..used)?;
    let lowest = used
        .iter()
        .position(|group| *group != 0)
        .unwrap_or(used.len());
    let highest = used
        .iter()
        .rposition(|group| *group != 0)
        .map_or(lowest, |at| at + 1);
    let significant = used.get(lowest..highest)?;
    let weight = if significant.is_empty() {
        0
    } else {
        i16::try_from(highest).ok()? - 1 - i16::try_from(fraction_groups).ok()?
    };
    out.extend_from_slice(&u16::try_from(significant.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&if significant.is_empty() { 0 } else { sign }.to_be_bytes());
    out.extend_from_slice(&u16::from(scale).to_be_bytes());
    for group in significant.iter().rev() {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::Numeric;

    #[test]
    fn a_decimal_comes_back_from_the_wire() {
        for scale in 0..=38u8 {
            for value in [
                0i128,
                1,
                -1,
                9,
                10_000,
                -10_001,
                123_456_789,
                99_999_999_999_999_999_999_999_999_999_999_999_999,
                -100_000_000_000_000_000_000_000_000_000_000_000_000 + 1,
            ] {
                let mut out = Vec::new();
                numeric(value, scale, &mut out).expect("a numeric");
                let read = Numeric::parse(&out).expect("reads");
                assert_eq!(
                    read.to_decimal(38, scale),
                    Some(value),
                    "{value} at {scale}"
                );
            }
        }
    }

    #[test]
    fn a_char_comes_back_from_its_text() {
        assert_eq!(char_byte(b""), Some(0));
        assert_eq!(char_byte(b"x"), Some(b'x'));
        assert_eq!(char_byte(b"\\377"), Some(255));
        assert_eq!(char_byte(b"ab"), None);
    }
}

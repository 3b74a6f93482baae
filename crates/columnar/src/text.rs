//! Values of Arrow arrays as PostgreSQL's output functions print them, with `DateStyle = ISO`,
//! `TimeZone = UTC` and `bytea_output = hex`: the text that the type's input function reads back to the
//! same value.
//!
//! One text may differ from the server's own: for some large whole numbers PostgreSQL prints a digit more
//! of a float than its value needs.

use std::fmt::Write as _;

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_schema::{DataType, TimeUnit};

use crate::datetime;

/// Days and microseconds from Arrow's epoch (1970) to PostgreSQL's (2000).
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Appends the text of a value that is not NULL. Returns whether the array has a type that a part can
/// have, and the row a value of it; nothing is appended where not.
#[must_use]
pub fn write_text(array: &dyn Array, row: usize, out: &mut String) -> bool {
    let before = out.len();
    let written = row < array.len() && array.is_valid(row) && write(array, row, out).is_some();
    if !written {
        out.truncate(before);
    }
    written
}

fn write(array: &dyn Array, row: usize, out: &mut String) -> Option<()> {
    match array.data_type() {
        DataType::Boolean => out.push(if array.as_boolean().value(row) {
            't'
        } else {
            'f'
        }),
        DataType::Int16 => display(out, array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => display(out, array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => display(out, array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            float(f64::from(value), &format!("{value:e}"), 6, out);
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            float(value, &format!("{value:e}"), 15, out);
        }
        DataType::Decimal128(_, _) => {
            out.push_str(&array.as_primitive::<Decimal128Type>().value_as_string(row));
        }
        DataType::Utf8 => out.push_str(array.as_string::<i32>().value(row)),
        DataType::Binary => {
            out.push_str("\\x");
            hex(array.as_binary::<i32>().value(row), out);
        }
        DataType::FixedSizeBinary(16) => uuid(array.as_fixed_size_binary().value(row), out),
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>().value(row);
            datetime::write_date(days.checked_sub(EPOCH_DAYS)?, out);
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            datetime::write_timestamp(micros.checked_sub(EPOCH_MICROS)?, zone.is_some(), out);
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(row);
            datetime::write_time(micros, out);
        }
        DataType::List(_) => {
            let elements = array.as_list_opt::<i32>()?.value(row);
            list(&elements, out)?;
        }
        _ => return None,
    }
    Some(())
}

fn display(out: &mut String, value: impl std::fmt::Display) {
    // Writing into a String cannot fail.
    let _ = write!(out, "{value}");
}

/// A float by its shortest digits (`1.25e-7`): with an exponent where PostgreSQL has one, which is below
/// 10^-4 and from `fixed_below` digits before the point on.
fn float(value: f64, shortest: &str, fixed_below: i32, out: &mut String) {
    if !value.is_finite() {
        out.push_str(match value {
            _ if value.is_nan() => "NaN",
            _ if value > 0.0 => "Infinity",
            _ => "-Infinity",
        });
        return;
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..fixed_below).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{mantissa}e{sign}{:02}", exponent.abs());
        return;
    }
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    out.push_str(sign);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    if exponent < 0 {
        out.push_str("0.");
        (1..-exponent).for_each(|_| out.push('0'));
        out.push_str(&digits);
        return;
    }
    let whole = exponent.unsigned_abs() as usize + 1;
    match digits.split_at_checked(whole) {
        Some((whole, "")) => out.push_str(whole),
        Some((whole, fraction)) => {
            let _ = write!(out, "{whole}.{fraction}");
        }
        None => {
            out.push_str(&digits);
            (digits.len()..whole).for_each(|_| out.push('0'));
        }
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.push(
                DIGITS
                    .get(usize::from(digit))
                    .map_or('0', |d| char::from(*d)),
            );
        }
    }
}

fn uuid(bytes: &[u8], out: &mut String) {
    let start = out.len();
    hex(bytes, out);
    for at in [20, 16, 12, 8] {
        out.insert(start + at, '-');
    }
}

/// A one-dimensional array literal.
fn list(elements: &dyn Array, out: &mut String) -> Option<()> {
    out.push('{');
    for row in 0..elements.len() {
        if row > 0 {
            out.push(',');
        }
        if elements.is_null(row) {
            out.push_str("NULL");
            continue;
        }
        let start = out.len();
        write(elements, row, out)?;
        let text = out.get(start..)?;
        let special = text.is_empty()
            || text.eq_ignore_ascii_case("null")
            || text.contains(|c: char| "{},\"\\ \t\n\r\u{b}\u{c}".contains(c));
        if special {
            let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
            out.truncate(start);
            let _ = write!(out, "\"{quoted}\"");
        }
    }
    out.push('}');
    Some(())
}

#[cfg(test)]
mod tests {
    use arrow_array::{BinaryArray, Float32Array, Float64Array, StringArray};

    use super::*;

    fn text(array: &dyn Array) -> String {
        let mut out = String::new();
        assert!(write_text(array, 0, &mut out));
        out
    }

    #[test]
    fn floats_have_postgresqls_digits_and_exponents() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1234.5, "-1234.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (2.5e-7, "2.5e-07"),
            (1e14, "100000000000000"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(text(&Float64Array::from(vec![value])), expected);
        }
        for (value, expected) in [(0.1, "0.1"), (1e6, "1e+06"), (123_456.0, "123456")] {
            assert_eq!(text(&Float32Array::from(vec![value])), expected);
        }
    }

    #[test]
    fn bytes_are_hexadecimal_and_null_is_no_text() {
        let values = BinaryArray::from_opt_vec(vec![Some(&[0, 255, 16]), None]);
        assert_eq!(text(&values), "\\x00ff10");
        let mut out = "before".to_owned();
        assert!(!write_text(&values, 1, &mut out));
        assert!(!write_text(&StringArray::from(vec!["x"]), 7, &mut out));
        assert_eq!(out, "before");
    }
}

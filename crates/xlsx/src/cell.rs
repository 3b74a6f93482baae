//! What of a value an Excel cell can carry.
//!
//! Excel's limits, as far as they decide here: a cell holds 32,767 UTF-16 units of text; a number is a
//! double of which Excel keeps 15 digits when a cell is edited; dates begin in 1900, and before March of
//! that year its calendar is wrong; there is no NaN, no infinity, no negative zero.

use std::borrow::Cow;

use arrow_array::{
    RecordBatch,
    cast::AsArray as _,
    types::{Date32Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use arkstream_pipeline::Failure;
use arkstream_query::{Column, Value};

/// UTF-16 units that fit into a cell.
pub(crate) const MOST_UNITS: usize = 32_767;

/// Digits that Excel keeps of a number.
const DIGITS: usize = 15;

/// Days from 1899-12-30, where Excel counts from, to 1970-01-01.
const EPOCH: i64 = 25_569;
/// 1900-03-01 and the day behind 9999-12-31, since 1970.
const FIRST_DAY: i64 = -25_508;
const END_DAY: i64 = 2_932_897;

const DAY_MICROS: i64 = 86_400_000_000;

/// The content of a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    /// NULL.
    Empty,
    Bool(bool),
    Number(f64),
    /// Days since 1899-12-30.
    Date(f64),
    /// The same with the time of day; the cell gives back the very microsecond.
    Moment(f64, Zone),
    /// Text, of any length.
    Text(Cow<'a, str>),
    /// A number or a date that Excel would change, as text.
    Kept(Cow<'a, str>),
    /// Bytes whose base64 does not fit into a cell: so many.
    Bytes(usize),
}

/// Whether a moment is one of UTC or of nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    None,
    Utc,
}

/// The content of a cell for a value.
pub(crate) fn cell<'a>(
    column: &Column,
    batch: &'a RecordBatch,
    row: usize,
) -> Result<Cell<'a>, Failure> {
    let (array, row) = match column.value(batch, row) {
        Value::Null => return Ok(Cell::Empty),
        Value::Text(text) => return Ok(Cell::Kept(Cow::Borrowed(text))),
        Value::Typed(array, row) => (array, row),
    };
    let fits = match array.data_type() {
        DataType::Boolean => return Ok(Cell::Bool(array.as_boolean().value(row))),
        DataType::Utf8 if column.pg_type == "numeric" || column.pg_type.starts_with("numeric(") => {
            let text = array.as_string::<i32>().value(row);
            return Ok(number(text).map_or(Cell::Kept(Cow::Borrowed(text)), Cell::Number));
        }
        DataType::Utf8 => {
            return Ok(Cell::Text(Cow::Borrowed(
                array.as_string::<i32>().value(row),
            )));
        }
        DataType::Binary => return Ok(bytes(array.as_binary::<i32>().value(row))),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row)).map(Cell::Date),
        DataType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let zone = match zone {
                Some(_) => Zone::Utc,
                None => Zone::None,
            };
            moment(micros).map(|serial| Cell::Moment(serial, zone))
        }
        _ => None,
    };
    if let Some(fits) = fits {
        return Ok(fits);
    }
    let mut text = String::new();
    column.text(batch, row, &mut text)?;
    Ok(match array.data_type() {
        data_type if data_type.is_numeric() => {
            number(&text).map_or(Cell::Kept(Cow::Owned(text)), Cell::Number)
        }
        DataType::Date32 | DataType::Timestamp(_, _) => Cell::Kept(Cow::Owned(text)),
        _ => Cell::Text(Cow::Owned(text)),
    })
}

/// The number of a text that has at most 15 digits and is one that Excel knows.
fn number(text: &str) -> Option<f64> {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let significant = digits
        .skip_while(|digit| *digit == b'0')
        .collect::<Vec<_>>();
    // Zeros at the end of a whole number count for nothing; those behind a point neither.
    let trailing = significant
        .iter()
        .rev()
        .take_while(|digit| **digit == b'0')
        .count();
    let number: f64 = text.parse().ok()?;
    let known = number.is_finite()
        && significant.len() - trailing <= DIGITS
        && (number == 0.0 || (1e-307..1e307).contains(&number.abs()))
        && !(number == 0.0 && text.starts_with('-'));
    known.then_some(number)
}

fn date(days: i32) -> Option<f64> {
    let days = i64::from(days);
    (FIRST_DAY..END_DAY)
        .contains(&days)
        .then_some((days + EPOCH) as f64)
}

/// The serial number of a moment, if the moment can be told from it.
fn moment(micros: i64) -> Option<f64> {
    let day = micros.div_euclid(DAY_MICROS);
    if !(FIRST_DAY..END_DAY).contains(&day) {
        return None;
    }
    let since = micros + EPOCH * DAY_MICROS;
    let serial = since as f64 / DAY_MICROS as f64;
    (micros_of(serial) == since).then_some(serial)
}

/// Microseconds since 1899-12-30; the day and its part apart, for together they take more than a double.
fn micros_of(serial: f64) -> i64 {
    let day = serial.floor();
    let part = (serial - day) * DAY_MICROS as f64;
    day as i64 * DAY_MICROS + part.round() as i64
}

fn bytes<'a>(bytes: &[u8]) -> Cell<'a> {
    match bytes.len().div_ceil(3) * 4 <= MOST_UNITS {
        true => Cell::Text(Cow::Owned(STANDARD.encode(bytes))),
        false => Cell::Bytes(bytes.len()),
    }
}

/// Whether a text fits into a cell.
pub(crate) fn fits(text: &str) -> bool {
    text.len() <= MOST_UNITS || text.encode_utf16().count() <= MOST_UNITS
}

/// The start of a text, of at most so many UTF-16 units.
pub(crate) fn start(text: &str, units: usize) -> &str {
    let mut left = units;
    for (at, c) in text.char_indices() {
        match left.checked_sub(c.len_utf16()) {
            Some(rest) => left = rest,
            None => return text.get(..at).unwrap_or(text),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_more_than_fifteen_digits_is_no_number() {
        assert_eq!(number("123456789012345"), Some(123_456_789_012_345.0));
        assert_eq!(number("1234567890123456"), None);
        assert_eq!(number("1200000000000000000"), Some(1.2e18));
        assert_eq!(number("-0.30"), Some(-0.3));
        assert_eq!(number("0.30000000000000004"), None);
        assert_eq!(number("1.5e+300"), Some(1.5e300));
        for text in ["NaN", "Infinity", "-0", "-0.00", "5e-324", "1e+308", ""] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(number("0.00"), Some(0.0));
    }

    #[test]
    fn a_date_is_one_only_where_excels_calendar_is_right() {
        assert_eq!(date(0), Some(25_569.0));
        assert_eq!(date(-25_508), Some(61.0), "1900-03-01");
        assert_eq!(date(-25_509), None);
        assert_eq!(date(2_932_896), Some(2_958_465.0), "9999-12-31");
        assert_eq!(date(2_932_897), None);
    }

    #[test]
    fn a_moment_gives_back_its_microsecond_or_is_text() {
        let base = 1_714_558_272_345_678;
        for micros in base..base + 1_000 {
            let serial = moment(micros).expect("of our time");
            assert_eq!(micros_of(serial) - EPOCH * DAY_MICROS, micros);
        }
        let far = 253_402_300_799_999_999;
        let lost = (0..1_000)
            .filter(|back| moment(far - back).is_none())
            .count();
        assert!(
            lost > 500,
            "in the year 9999 a double is too coarse: {lost}"
        );
        assert_eq!(moment(-2_203_891_200_000_001), None, "before March 1900");
    }

    #[test]
    fn length_is_counted_as_excel_counts() {
        let face = "\u{1f600}";
        assert!(fits(&face.repeat(16_383)));
        assert!(!fits(&face.repeat(16_384)));
        assert!(fits(&"é".repeat(32_767)));
        assert_eq!(start(&face.repeat(3), 5), face.repeat(2));
        assert_eq!(start("abc", 9), "abc");
    }

    #[test]
    fn bytes_are_base64_as_far_as_they_fit() {
        assert_eq!(bytes(b"\0\xff"), Cell::Text("AP8=".into()));
        assert!(matches!(bytes(&[7; 24_573]), Cell::Text(text) if text.len() == 32_764));
        assert_eq!(bytes(&[7; 24_576]), Cell::Bytes(24_576));
    }
}

//! PostgreSQL's `numeric` on the wire.
//!
//! Format, all big-endian: `i16 ndigits, i16 weight, u16 sign, u16 dscale`, then `ndigits` base
//! 10000 digits; the value is `Σ digit[i] · 10000^(weight − i)`. `dscale` is the number of decimal
//! places that the text shows, so trailing zeros are part of the value. The special signs stand
//! for NaN and the infinities; the other header fields then mean nothing (an infinity carries a
//! dscale of 32).
//!
//! Limits: 131,072 digits before the point, 16,383 after it. Nothing here allocates but the
//! caller's string.

use std::fmt::Write;

use crate::error::ValueProblem;

/// Fewest bytes of a numeric.
pub(crate) const MIN_BYTES: u32 = 8;
/// Most bytes of a numeric: a header and as many digits as its unsigned 16-bit count can say.
pub(crate) const MAX_BYTES: u32 = 8 + 2 * u16::MAX as u32;
/// Longest text of a numeric: sign, 4 · 32,768 digits, point, 16,383 places.
pub(crate) const MAX_TEXT: usize = 1 + 4 * 32_768 + 1 + MAX_DSCALE as usize;

const MAX_DSCALE: u16 = 0x3fff;

/// A numeric, borrowed from the wire.
pub(crate) struct Numeric<'a> {
    weight: i32,
    sign: Sign,
    dscale: u16,
    digits: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plus,
    Minus,
    NaN,
    Infinity,
    NegativeInfinity,
}

impl<'a> Numeric<'a> {
    /// Reads the wire format; every later step relies on what is checked here.
    pub(crate) fn parse(raw: &'a [u8]) -> Result<Self, ValueProblem> {
        let short = ValueProblem::Numeric("header is cut off");
        let (head, digits) = raw.split_first_chunk::<8>().ok_or(short)?;
        let [n0, n1, w0, w1, s0, s1, d0, d1] = *head;
        let ndigits = usize::from(u16::from_be_bytes([n0, n1]));
        let dscale = u16::from_be_bytes([d0, d1]);
        let sign = match u16::from_be_bytes([s0, s1]) {
            0x0000 => Sign::Plus,
            0x4000 => Sign::Minus,
            0xc000 => Sign::NaN,
            0xd000 => Sign::Infinity,
            0xf000 => Sign::NegativeInfinity,
            _ => return Err(ValueProblem::Numeric("sign is unknown")),
        };
        if digits.len() != ndigits * 2 {
            return Err(ValueProblem::Numeric("digits do not fill the field"));
        }
        if dscale > MAX_DSCALE {
            return Err(ValueProblem::Numeric("scale is out of range"));
        }
        let numeric = Numeric {
            weight: i32::from(i16::from_be_bytes([w0, w1])),
            sign,
            dscale,
            digits,
        };
        if numeric.groups().any(|group| group > 9999) {
            return Err(ValueProblem::Numeric("digit is beyond 9999"));
        }
        Ok(numeric)
    }

    /// The unscaled value of a `numeric(precision, scale)`, or `None` when such a decimal cannot
    /// stand for exactly this value (NaN, an infinity, another scale, too many digits).
    pub(crate) fn to_decimal(&self, precision: u8, scale: u8) -> Option<i128> {
        if !matches!(self.sign, Sign::Plus | Sign::Minus) || self.dscale != u16::from(scale) {
            return None;
        }
        let mut value: i128 = 0;
        let mut exponent = 4 * self.weight + i32::from(scale);
        for group in self.groups() {
            if group != 0 {
                let group = i128::from(group);
                let part = if exponent >= 0 {
                    group.checked_mul(power_of_ten(exponent)?)?
                } else {
                    let divisor = power_of_ten(exponent.checked_neg()?)?;
                    if group % divisor != 0 {
                        return None;
                    }
                    group / divisor
                };
                value = value.checked_add(part)?;
            }
            exponent -= 4;
        }
        if value >= power_of_ten(i32::from(precision))? {
            return None;
        }
        match self.sign {
            Sign::Minus if value == 0 => None,
            Sign::Minus => Some(-value),
            _ => Some(value),
        }
    }

    /// Appends the text that PostgreSQL's output function gives.
    pub(crate) fn write_text(&self, out: &mut String) {
        match self.sign {
            Sign::NaN => return out.push_str("NaN"),
            Sign::Infinity => return out.push_str("Infinity"),
            Sign::NegativeInfinity => return out.push_str("-Infinity"),
            Sign::Minus => out.push('-'),
            Sign::Plus => {}
        }
        if self.weight < 0 {
            out.push('0');
        }
        for index in 0..=self.weight {
            let group = self.group(index);
            // Writing into a String cannot fail.
            let _ = match index {
                0 => write!(out, "{group}"),
                _ => write!(out, "{group:04}"),
            };
        }
        if self.dscale == 0 {
            return;
        }
        out.push('.');
        let end = out.len() + usize::from(self.dscale);
        let mut index = self.weight + 1;
        while out.len() < end {
            let _ = write!(out, "{:04}", self.group(index));
            index += 1;
        }
        out.truncate(end);
    }

    fn groups(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.digits
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
    }

    /// The base 10000 digit at `index` counted from the weight; zero where none is stored.
    ///
    /// For a weight below −1 the places between the point and the first digit have no index of
    /// their own: callers count from `weight + 1`, which is then negative.
    fn group(&self, index: i32) -> u16 {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.digits.as_chunks::<2>().0.get(index))
            .map_or(0, |pair| u16::from_be_bytes(*pair))
    }
}

fn power_of_ten(exponent: i32) -> Option<i128> {
    10_i128.checked_pow(u32::try_from(exponent).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, dscale: u16, digits: &[u16]) -> Vec<u8> {
        let head = [digits.len() as u16, weight.cast_unsigned(), sign, dscale];
        let words = head.iter().chain(digits);
        words.flat_map(|word| word.to_be_bytes()).collect()
    }

    fn text(raw: &[u8]) -> String {
        let mut out = String::new();
        Numeric::parse(raw).unwrap().write_text(&mut out);
        out
    }

    #[test]
    fn the_text_keeps_trailing_zeros_and_inner_zero_groups() {
        assert_eq!(text(&wire(0, 0, 0, &[])), "0");
        assert_eq!(text(&wire(0, 0, 3, &[])), "0.000");
        assert_eq!(text(&wire(0, 0x4000, 3, &[1, 5000])), "-1.500");
        assert_eq!(text(&wire(2, 0, 0, &[1])), "100000000");
        assert_eq!(text(&wire(1, 0, 5, &[1, 0, 1, 2000])), "10000.00012");
        assert_eq!(text(&wire(-3, 0, 12, &[12])), "0.000000000012");
        assert_eq!(text(&wire(-1, 0, 2, &[500])), "0.05");
    }

    #[test]
    fn special_values_ignore_the_scale_on_the_wire() {
        assert_eq!(text(&wire(0, 0xc000, 0, &[])), "NaN");
        assert_eq!(text(&wire(0, 0xd000, 32, &[])), "Infinity");
        assert_eq!(text(&wire(0, 0xf000, 32, &[])), "-Infinity");
    }

    #[test]
    fn the_longest_text_stays_within_its_bound() {
        let raw = wire(i16::MAX, 0x4000, MAX_DSCALE, &[9999]);
        assert_eq!(text(&raw).len(), MAX_TEXT);
    }

    #[test]
    fn a_decimal_is_exact_or_none() {
        let decimal = |raw: &[u8], p, s| Numeric::parse(raw).unwrap().to_decimal(p, s);
        assert_eq!(decimal(&wire(0, 0, 2, &[12, 3400]), 10, 2), Some(1234));
        assert_eq!(decimal(&wire(-1, 0x4000, 2, &[100]), 10, 2), Some(-1));
        assert_eq!(decimal(&wire(1, 0, 0, &[1]), 38, 0), Some(10_000));
        assert_eq!(decimal(&wire(0, 0, 3, &[12, 3400]), 10, 2), None, "scale");
        assert_eq!(decimal(&wire(0, 0, 2, &[12, 3450]), 10, 2), None, "places");
        assert_eq!(decimal(&wire(0, 0, 2, &[100]), 4, 2), None, "precision");
        assert_eq!(decimal(&wire(9, 0, 0, &[9999]), 38, 0), None, "38 digits");
        assert_eq!(decimal(&wire(i16::MAX, 0, 0, &[1]), 38, 0), None, "huge");
        assert_eq!(decimal(&wire(0, 0xc000, 2, &[]), 10, 2), None, "NaN");
    }

    #[test]
    fn a_broken_header_is_an_error() {
        assert!(Numeric::parse(&[0; 7]).is_err());
        assert!(Numeric::parse(&wire(0, 0x1234, 0, &[])).is_err());
        assert!(Numeric::parse(&wire(0, 0, 0x4000, &[])).is_err());
        assert!(Numeric::parse(&wire(0, 0, 0, &[10_000])).is_err());
        let mut long = wire(0, 0, 0, &[1]);
        long.push(0);
        assert!(Numeric::parse(&long).is_err());
    }
}

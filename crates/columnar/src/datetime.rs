//! PostgreSQL's dates and times: another epoch, wider ranges, infinities.
//!
//! The wire counts from 2000-01-01, Arrow from 1970-01-01. A value that Arrow's neat type cannot
//! carry has its text made here, as PostgreSQL prints it with `DateStyle = ISO` and
//! `TimeZone = UTC`.

use std::fmt::Write;

use crate::error::ValueProblem;

/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY_MICROS;
/// PostgreSQL's first date, 4714-11-24 BC, and the day after its last, in 5874897 AD.
const DATE_MIN: i32 = -2_451_545;
const DATE_END: i32 = 2_147_483_494 - 2_451_545;
/// PostgreSQL's first timestamp and the first instant after its last, 294277-01-01.
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// Days since 1970-01-01; `None` for an infinity.
pub(crate) fn date_to_arrow(days: i32) -> Result<Option<i32>, ValueProblem> {
    match days {
        i32::MIN | i32::MAX => Ok(None),
        DATE_MIN..DATE_END => Ok(days.checked_add(EPOCH_DAYS)),
        _ => Err(ValueProblem::Range("date")),
    }
}

/// Microseconds since 1970-01-01; `None` for an infinity and for the last decades before
/// 294277 AD, which 64 bits counted from 1970 do not reach.
pub(crate) fn timestamp_to_arrow(micros: i64) -> Result<Option<i64>, ValueProblem> {
    match micros {
        i64::MIN | i64::MAX => Ok(None),
        TIMESTAMP_MIN..TIMESTAMP_END => Ok(micros.checked_add(EPOCH_MICROS)),
        _ => Err(ValueProblem::Range("timestamp")),
    }
}

/// Microseconds since midnight; `None` for `24:00:00`.
pub(crate) fn time_to_arrow(micros: i64) -> Result<Option<i64>, ValueProblem> {
    match micros {
        0..DAY_MICROS => Ok(Some(micros)),
        DAY_MICROS => Ok(None),
        _ => Err(ValueProblem::Range("time")),
    }
}

/// Appends a date as PostgreSQL prints it.
pub(crate) fn write_date(days: i32, out: &mut String) {
    match days {
        i32::MIN => out.push_str("-infinity"),
        i32::MAX => out.push_str("infinity"),
        _ => {
            if write_day(i64::from(days), out) {
                out.push_str(" BC");
            }
        }
    }
}

/// Appends a timestamp as PostgreSQL prints it, with the zone `+00` for `timestamptz`.
pub(crate) fn write_timestamp(micros: i64, with_zone: bool, out: &mut String) {
    match micros {
        i64::MIN => return out.push_str("-infinity"),
        i64::MAX => return out.push_str("infinity"),
        _ => {}
    }
    let before_christ = write_day(micros.div_euclid(DAY_MICROS), out);
    out.push(' ');
    write_time(micros.rem_euclid(DAY_MICROS), out);
    if with_zone {
        out.push_str("+00");
    }
    if before_christ {
        out.push_str(" BC");
    }
}

/// Appends a time of day as PostgreSQL prints it; a whole day is `24:00:00`.
pub(crate) fn write_time(micros: i64, out: &mut String) {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    // Writing into a String cannot fail.
    let _ = write!(
        out,
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Appends `YYYY-MM-DD` for days since 2000-01-01 and tells whether the year is before Christ.
fn write_day(days: i64, out: &mut String) -> bool {
    // Gregorian calendar in eras of 400 years that begin on 1 March, so that a leap day ends one.
    let days = days + 730_425;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (shown, before_christ) = if year > 0 {
        (year, false)
    } else {
        (1 - year, true)
    };
    let _ = write!(out, "{shown:04}-{month:02}-{day_of_month:02}");
    before_christ
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(days: i32) -> String {
        let mut out = String::new();
        write_date(days, &mut out);
        out
    }

    fn timestamp(micros: i64) -> String {
        let mut out = String::new();
        write_timestamp(micros, true, &mut out);
        out
    }

    #[test]
    fn the_epoch_is_shifted_by_thirty_years() {
        assert_eq!(date_to_arrow(0), Ok(Some(10_957)));
        assert_eq!(date_to_arrow(-10_957), Ok(Some(0)));
        assert_eq!(timestamp_to_arrow(0), Ok(Some(946_684_800_000_000)));
    }

    #[test]
    fn texts_are_postgresqls() {
        assert_eq!(date(0), "2000-01-01");
        assert_eq!(date(-1), "1999-12-31");
        assert_eq!(date(59), "2000-02-29");
        assert_eq!(date(DATE_MIN), "4714-11-24 BC");
        assert_eq!(date(DATE_END - 1), "5874897-12-31");
        assert_eq!(date(i32::MAX), "infinity");
        assert_eq!(timestamp(-1), "1999-12-31 23:59:59.999999+00");
        assert_eq!(timestamp(500_000), "2000-01-01 00:00:00.5+00");
        assert_eq!(timestamp(TIMESTAMP_MIN), "4714-11-24 00:00:00+00 BC");
        assert_eq!(
            timestamp(TIMESTAMP_END - 1),
            "294276-12-31 23:59:59.999999+00"
        );
        assert_eq!(timestamp(i64::MIN), "-infinity");
    }

    #[test]
    fn values_outside_postgresqls_range_are_errors() {
        assert!(date_to_arrow(DATE_END).is_err());
        assert!(date_to_arrow(DATE_MIN - 1).is_err());
        assert!(timestamp_to_arrow(TIMESTAMP_END).is_err());
        assert!(timestamp_to_arrow(TIMESTAMP_MIN - 1).is_err());
        assert!(time_to_arrow(-1).is_err());
        assert!(time_to_arrow(DAY_MICROS + 1).is_err());
    }
}

//! Sizes, times, names and foreign text, as people are shown them.

use std::{borrow::Cow, time::Duration};

/// How much a name must look like another one to be suggested: 1 is the same.
const SIMILAR: f64 = 0.8;

/// `1.5 GiB`; below 1 KiB exact.
#[must_use]
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    for unit in ["KiB", "MiB", "GiB"] {
        // As it will be shown: 1023.95 KiB are 1.0 MiB.
        if (value * 10.0).round() < 10_240.0 {
            return format!("{value:.1} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `1h02m`, `3m05s`, `4.2s`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let rounded = |unit: u128| (time.as_millis() + unit / 2) / unit;
    let (tenths, seconds, minutes) = (rounded(100), rounded(1000), rounded(60_000));
    match (tenths, seconds) {
        (0..600, _) => format!("{}.{}s", tenths / 10, tenths % 10),
        (_, 0..3600) => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", minutes / 60, minutes % 60),
    }
}

/// Up to three of the known names that look most like this one, the best first.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(f64, &str)> = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(score, _)| *score >= SIMILAR)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, known)| known).collect()
}

/// Text that is shown as it is: control characters and those that change the direction of writing
/// become visible escapes. Names come from databases and file systems, which hold anything.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(3 << 29), "1.5 GiB");
        assert_eq!(duration(Duration::from_millis(4210)), "4.2s");
        assert_eq!(duration(Duration::from_secs(3725)), "1h02m");
    }

    #[test]
    fn what_is_rounded_up_to_the_next_unit_is_told_in_it() {
        assert_eq!(size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(size((1 << 20) - (1 << 10)), "1023.0 KiB");
        assert_eq!(size((1 << 30) - 1), "1.0 GiB");
        assert_eq!(size((1 << 40) - 1), "1.0 TiB");
        assert_eq!(duration(Duration::from_millis(59_940)), "59.9s");
        assert_eq!(duration(Duration::from_millis(59_960)), "1m00s");
        assert_eq!(duration(Duration::from_millis(119_700)), "2m00s");
        assert_eq!(duration(Duration::from_millis(3_599_700)), "1h00m");
        assert_eq!(duration(Duration::from_secs(7199)), "2h00m");
    }

    #[test]
    fn a_misspelt_name_is_near_to_what_was_meant() {
        let known = [
            "manifest.json",
            "metadata.json",
            "odoo_data/model_list.json",
        ];
        assert_eq!(nearest("metdata.json", known)[0], "metadata.json");
        assert!(nearest("xyz", known).is_empty());
    }

    #[test]
    fn names_from_elsewhere_cannot_play_with_the_terminal() {
        assert_eq!(harmless("plain ü ☃\n\ttext"), "plain ü ☃\n\ttext");
        assert_eq!(
            harmless("a\u{1b}[2Jb\u{202e}c\r"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{d}"
        );
    }
}

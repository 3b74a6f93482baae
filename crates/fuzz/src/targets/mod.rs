//! The targets, by what they take.

pub mod bundle;
pub mod chroma;
pub mod config;
pub mod connect;
pub mod copy;
pub mod dump;
pub mod format;

/// Something that nobody writes by chance. Where it stands for a secret, no message may repeat it.
const MARK: &str = "Zq7Xv9Kw";

/// Splits at the first NUL.
fn two(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

/// Text with [`MARK`] put in at a place that the first two bytes choose.
fn marked(data: &[u8]) -> Option<(String, usize)> {
    let (place, text) = data.split_first_chunk::<2>()?;
    // What the fuzzer learned of the mark must not stand elsewhere too.
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.contains(MARK))?;
    let mut at = usize::from(u16::from_be_bytes(*place)) % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    Some((format!("{}{MARK}{}", &text[..at], &text[at..]), at))
}

/// Everything that a failure shows.
fn shown(failure: &arkstream_pipeline::Failure) -> String {
    format!("{failure} {failure:?} {:?}", failure.advice())
}

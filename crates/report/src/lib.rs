//! The page that says what is in a bundle, and how it came to be: `<bundle>.report.html`.
//!
//! [`Facts::read`] takes them out of an open bundle: the manifest, `metadata.json`, the list of
//! models, and from `logs/export_log.txt` the moments at which components began and ended.
//! [`render`] turns them into one HTML file that needs nothing else: no script, no font, no image, no
//! network. Its policy (CSP) forbids all of that, so a name from a database could not bring it in
//! either; and every text from the bundle is escaped where it is written ([`page`]).
//!
//! The page tells what the writer recorded. It does not prove the bundle's bytes; `arkstream verify`
//! does, and the page says so.
//!
//! Peak memory: the manifest, the list of models, one chunk of the log, and the page, whose lists are
//! cut at [`page::LISTED`] entries and say so; what they leave out stands in the bundle.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod facts;
pub mod page;
mod run_log;

pub use facts::Facts;
pub use page::render;
pub use run_log::{RunLog, Span};

/// What the page's `generator` begins with, by which an older page is known again.
pub const GENERATOR: &str = "Arkstream report";

/// Whether a file that begins with these bytes is a page of this crate.
#[must_use]
pub fn is_report(beginning: &[u8]) -> bool {
    let beginning = &beginning[..beginning.len().min(PROLOGUE)];
    let mark = format!("<meta name=\"generator\" content=\"{GENERATOR} ");
    beginning
        .windows(mark.len())
        .any(|window| window == mark.as_bytes())
}

/// Bytes at the beginning of a page among which its generator stands.
pub const PROLOGUE: usize = 1024;

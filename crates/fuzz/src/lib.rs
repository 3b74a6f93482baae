//! Fuzz targets: what each parser of Arkstream owes, whatever the bytes.
//!
//! A target takes bytes and panics when a promise is broken. That a parser neither panics nor hangs
//! is the least of it; what is promised beyond stands at each target. Lengths are limited, so that an
//! allocation without bound shows as a panic or as memory that libFuzzer's limit ends.
//!
//! The targets run in two ways: over the corpus in `tests/fuzz` with seeded mutations of it, in
//! `make test` (see `tests/replay.rs` of this crate), and under libFuzzer in `make fuzz`. Nothing
//! here is part of the program.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

pub mod mutate;
mod scratch;
pub mod targets;

// The command line is a program without a library; its configuration is read by these files.
#[allow(dead_code, unused_imports)]
#[path = "../../cli/src/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../../cli/src/settings.rs"]
mod settings;
#[allow(dead_code, unused_imports)]
#[path = "../../cli/src/units.rs"]
mod units;

/// A parser and what it owes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folders.
    pub name: &'static str,
    /// The most bytes it takes.
    pub max_len: usize,
    /// Runs it.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident::$name:ident, $kib:literal;)*) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            max_len: $kib << 10,
            run: targets::$module::$name,
        }),*];
    };
}

targets! {
    copy::copy_decode, 16;
    copy::copy_round_trip, 16;
    copy::copy_encode, 4;
    format::journal_record, 4;
    format::journal_file, 16;
    format::format_json, 16;
    bundle::bundle_open, 32;
    bundle::bundle_sealed, 32;
    bundle::zip_survey, 32;
    bundle::resume, 32;
    chroma::hnsw_index, 16;
    chroma::pickle, 8;
    dump::dump_scan, 16;
    dump::dump_settings, 1;
    connect::connection_string, 1;
    connect::password_file, 1;
    config::odoo_conf, 4;
    config::settings_file, 4;
}

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

//! Reading a copy back: every piece against the manifest of its source.

use sha2::{Digest as _, Sha256};

use arkstream_pipeline::{Cancel, Event, Failure, Finding, Observer};

use super::{
    layout::Layout,
    output::Output,
    supply::{Origin, Supply, holds},
};
use crate::{disk::DiskFile, hashing::hex};

/// What the read-back found.
pub(super) struct Proven {
    /// SHA-256 of what is there, with what was wrong made good; of no use where it was not.
    pub(super) sha256: String,
    /// How many pieces were not what they must be.
    pub(super) wrong: u64,
    /// The first of them.
    pub(super) first: Option<Finding>,
    /// Bytes that were made good from the source.
    pub(super) transferred: u64,
    /// Bytes that were made good from an older bundle.
    pub(super) reused: u64,
}

/// Reads a whole file. What is wrong is made good where `mend` says how; the caller syncs.
pub(super) fn prove(
    file: &dyn DiskFile,
    layout: &Layout<'_>,
    mut mend: Option<(&Output<'_>, &mut Supply<'_>)>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Proven, Failure> {
    let mut sha256 = Sha256::new();
    let mut proven = Proven {
        sha256: String::new(),
        wrong: 0,
        first: None,
        transferred: 0,
        reused: 0,
    };
    for piece in layout.pieces() {
        cancel.check()?;
        if !holds(file, &piece, &mut sha256, cancel) {
            cancel.check()?;
            proven.wrong += 1;
            proven.first.get_or_insert_with(|| piece.damage());
            if let Some((out, supply)) = &mut mend {
                let mut at = piece.at;
                let origin = supply.deliver(&piece, 0, &mut |bytes| {
                    out.write_at(bytes, at)?;
                    sha256.update(bytes);
                    at += bytes.len() as u64;
                    cancel.check()
                })?;
                match origin {
                    Origin::Source => proven.transferred += piece.len,
                    Origin::Had => proven.reused += piece.len,
                }
            }
        }
        if let Some(component) = piece.component() {
            let bytes = piece.len;
            observer.event(&Event::Read { component, bytes });
        }
    }
    proven.sha256 = hex(&sha256.finalize());
    Ok(proven)
}

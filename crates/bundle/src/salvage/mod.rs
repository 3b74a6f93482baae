//! A new, valid bundle from a damaged one: all that is still proven good, and nothing else.
//!
//! ```text
//! find     manifest │ journal and index members │ index members │ local headers     (`claims`, `find`)
//! judge    every chunk against its BLAKE3; where no index is left, whole members against the CRC-32
//!          in the ZIP directory or, where none of that is left, in their local headers   (`gaps`)
//! write    whole members as they were, stored bytes verbatim; runs of good chunks of others under
//!          `salvaged/<member>/<first>-<end>`; a list of what is lost in the manifest
//! ```
//!
//! What a damaged file says is believed only as far as a hash proves it. Its names are checked before
//! they are used, its lengths before anything is allocated, and no byte of it is given out twice, so
//! the new bundle's members are never larger than the damaged file.
//!
//! Limits: what was retracted or superseded comes back where the index that says so and the ZIP
//! directory are both lost. Where no index is left either, nothing proves the name in a local header,
//! and members of an Arkstream bundle that was stored inside a member whose own header is damaged pass
//! for this one's. The list says of each member what proves it.
//!
//! Peak memory: the records of the index, and two chunks.

mod chunks;
mod claims;
mod directory;
mod find;
mod gaps;
mod headers;
mod judge;
mod scan;
mod write;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use arkstream_format::{Component, Manifest, Member, RunId, Salvage};
use arkstream_pipeline::{Cancel, Failure, FailureKind, Observer, Published};

use crate::{space::SpaceWait, writer::OutputPaths};

pub use claims::Truth;

/// What is salvaged, and where to.
#[derive(Clone)]
pub struct SalvageOptions {
    /// The damaged bundle, or an unfinished one (`….partial`, its journal beside it).
    pub source: PathBuf,
    /// The new bundle.
    pub out: OutputPaths,
    /// The run that salvages.
    pub run_id: RunId,
    /// Version of the program, for the manifest.
    pub version: String,
    /// Now.
    pub at: DateTime<Utc>,
    /// Start over if an interrupted salvage left something at `out`.
    pub fresh: bool,
    /// Folder for bytes that can be read but that nothing proves.
    pub unproven: Option<PathBuf>,
    /// What to do when the disk is full.
    pub wait: SpaceWait,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Raised when the user interrupts.
    pub cancel: Cancel,
}

/// Makes the new `metadata.json` from the old one, if that is there, for the new manifest and members.
pub type Describe<'a> =
    &'a (dyn Fn(Option<&[u8]>, &Manifest, &[Member]) -> Result<Vec<u8>, Failure> + Send + Sync);

/// A member that came back as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// The system it belongs to.
    pub component: Component,
    /// Its rows, if it has any.
    pub rows: Option<u64>,
    /// Bytes before compression.
    pub raw_len: u64,
    /// What proves it: `blake3` or `crc32`.
    pub proof: &'static str,
}

/// Bytes that decode, but that nothing proves. They are not in the new bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnprovenBytes {
    /// The member they belong to.
    pub name: String,
    /// How many, before compression, from its first byte on.
    pub raw_len: u64,
    /// In chunks, the last of which may not be whole.
    pub chunks: u64,
    /// Where they were extracted to, if they were asked for.
    pub file: Option<PathBuf>,
}

/// What came out of a salvage.
#[derive(Clone, Debug)]
pub struct Salvaged {
    /// Where the list of what to look for came from.
    pub truth: Truth,
    /// Why the damaged bundle cannot be opened, if it cannot.
    pub cause: Option<String>,
    /// Members that came back as a whole.
    pub saved: Vec<Saved>,
    /// Bytes of other members that came back in pieces, before compression.
    pub pieces_bytes: u64,
    /// What is lost; also in the new bundle's manifest.
    pub salvage: Salvage,
    /// What could be read but is not proven.
    pub unproven: Vec<UnprovenBytes>,
    /// The new bundle.
    pub published: Published,
}

/// Salvages a bundle.
///
/// # Errors
/// [`FailureKind::Damaged`] if nothing of it is proven good, [`FailureKind::Source`] if it cannot be
/// read, [`FailureKind::Incompatible`] if its format is newer, [`FailureKind::Refused`] if `out`
/// exists or somebody writes the damaged one at this moment; [`FailureKind::NoSpace`],
/// [`FailureKind::Interrupted`].
pub async fn salvage(options: SalvageOptions, describe: Describe<'_>) -> Result<Salvaged, Failure> {
    let (source, observer) = (options.source.clone(), Arc::clone(&options.observer));
    let cancel = options.cancel.clone();
    let examined =
        tokio::task::spawn_blocking(move || judge::examine(&source, observer.as_ref(), &cancel))
            .await
            .map_err(|error| Failure::new(FailureKind::Internal, "read the bundle", error))??;
    let some = examined
        .judged
        .iter()
        .any(|j| j.whole || !j.good.is_empty());
    if !some && examined.by_crc.is_empty() {
        return Err(nothing(&options.source, examined.damaged.why));
    }
    write::write(options, examined, describe).await
}

fn nothing(source: &Path, why: Option<Failure>) -> Failure {
    let attempted = format!("salvage {}", source.display());
    let because = why.map_or_else(String::new, |failure| format!(" ({})", failure.why()));
    let why = format!("nothing in it is proven good{because}");
    Failure::new(FailureKind::Damaged, attempted, why)
        .help("is it an Arkstream bundle? Look for another copy of it")
}

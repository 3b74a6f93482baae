//! What the page is made of.

use arkstream_format::{Manifest, Member, Metadata, ModelEntry, member_names};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};

use crate::run_log::{LogReader, RunLog};

/// Everything that a page says.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The bundle's name, without its folder.
    pub file_name: String,
    /// Its length in bytes.
    pub file_bytes: u64,
    /// What `<bundle>.sha256` says, 64 hexadecimal digits, where it is there and names this bundle.
    pub sha256: Option<String>,
    /// Its index.
    pub manifest: &'a Manifest,
    /// `metadata.json`, unless a salvaged bundle has lost it.
    pub metadata: Option<Metadata>,
    /// The list of models, where the bundle has one.
    pub models: Option<Vec<ModelEntry>>,
    /// What its log says of the run.
    pub run: RunLog,
    /// The program that makes the page, and its version.
    pub program: String,
}

impl<'a> Facts<'a> {
    /// Reads them from an open bundle. `version` is the program's.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] if a member that the page needs is damaged or not understood. One that
    /// is not in the bundle is no error: the page says that it is missing.
    pub fn read(
        bundle: &'a dyn BundleReader,
        file_name: &str,
        sha256: Option<String>,
        version: &str,
    ) -> Result<Self, Failure> {
        let manifest = bundle.manifest();
        let mut log = LogReader::default();
        if let Some(member) = find(manifest, member_names::LOG) {
            for index in 0..member.chunks.len() {
                log.push(&chunk(bundle, member, index)?);
            }
        }
        Ok(Self {
            file_name: file_name.to_owned(),
            file_bytes: bundle.file_len(),
            sha256,
            manifest,
            metadata: json(bundle, member_names::METADATA)?,
            models: json(bundle, member_names::MODEL_LIST)?,
            run: log.finish(),
            program: format!("Arkstream {version}"),
        })
    }
}

fn find<'a>(manifest: &'a Manifest, name: &str) -> Option<&'a Member> {
    manifest.members.iter().find(|member| member.name == name)
}

fn chunk(
    bundle: &dyn BundleReader,
    member: &Member,
    index: usize,
) -> Result<impl AsRef<[u8]> + use<>, Failure> {
    bundle
        .read_chunk(member, index)
        .map_err(|finding| damaged(&member.name, finding))
}

/// A member that holds JSON; `None` if the bundle has none of that name.
fn json<T: for<'de> serde::Deserialize<'de>>(
    bundle: &dyn BundleReader,
    name: &str,
) -> Result<Option<T>, Failure> {
    let Some(member) = find(bundle.manifest(), name) else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    for index in 0..member.chunks.len() {
        bytes.extend_from_slice(chunk(bundle, member, index)?.as_ref());
    }
    let value = serde_json::from_slice(&bytes).map_err(|error| damaged(name, error))?;
    Ok(Some(value))
}

fn damaged(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Damaged,
        format!("read {name} for the report"),
        why.to_string(),
    )
    .help("`arkstream verify` lists everything that is damaged")
}

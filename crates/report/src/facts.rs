//! What the page is made of.

use arkstream_format::{Manifest, Metadata, ModelEntry, member_names};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, read_member};

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
        if let Some(member) = manifest
            .members
            .iter()
            .find(|m| m.name == member_names::LOG)
        {
            for index in 0..member.chunks.len() {
                let chunk = bundle.read_chunk(member, index);
                log.push(chunk.map_err(|finding| damaged(&member.name, finding))?);
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

/// A member that holds JSON; `None` if the bundle has none of that name.
fn json<T: serde::de::DeserializeOwned>(
    bundle: &dyn BundleReader,
    name: &str,
) -> Result<Option<T>, Failure> {
    let bytes = read_member(bundle, name).map_err(|finding| damaged(name, finding))?;
    bytes
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(|error| damaged(name, error))
}

fn damaged(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        FailureKind::Damaged,
        format!("read {name} for the report"),
        why.to_string(),
    )
    .help("`arkstream verify` lists everything that is damaged")
}

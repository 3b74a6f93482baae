//! Versions of what a restore depends on.

use std::collections::BTreeMap;

use arkstream_format::{Metadata, member_names};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, read_member};

use super::VersionChange;

/// Those that differ. A version that one side does not tell differs, too.
pub(super) fn compare(
    first: &dyn BundleReader,
    second: &dyn BundleReader,
) -> Result<Vec<VersionChange>, Failure> {
    let (one, mut other) = (versions(first)?, versions(second)?);
    let mut changes = Vec::new();
    for (what, version) in one {
        let second = other.remove(&what);
        if second.as_ref() != Some(&version) {
            changes.push(VersionChange {
                what,
                first: Some(version),
                second,
            });
        }
    }
    changes.extend(other.into_iter().map(|(what, version)| VersionChange {
        what,
        first: None,
        second: Some(version),
    }));
    changes.sort_by(|a, b| a.what.cmp(&b.what));
    Ok(changes)
}

fn versions(bundle: &dyn BundleReader) -> Result<BTreeMap<String, String>, Failure> {
    let mut versions = BTreeMap::new();
    let damaged = |why: String| {
        let attempted = format!("compare {}", member_names::METADATA);
        Failure::new(FailureKind::Damaged, attempted, why)
            .help("`arkstream verify` lists everything that is damaged")
    };
    let metadata = read_member(bundle, member_names::METADATA)
        .map_err(|finding| damaged(finding.to_string()))?;
    if let Some(metadata) = metadata {
        let metadata: Metadata =
            serde_json::from_slice(&metadata).map_err(|error| damaged(error.to_string()))?;
        versions.insert("Odoo".into(), metadata.odoo_version);
        for (module, version) in metadata.module_versions {
            versions.insert(format!("module {module}"), version);
        }
    }
    let manifest = bundle.manifest();
    if let Some(last) = manifest.generations.last() {
        for snapshot in &last.snapshots {
            let what = format!("PostgreSQL of {}", snapshot.component);
            versions.insert(what, snapshot.server.version.clone());
        }
    }
    if let Some(version) = manifest.graph.as_ref().and_then(|g| g.age_version.clone()) {
        versions.insert("Apache AGE".into(), version);
    }
    if let Some(chroma) = &manifest.chroma {
        // The newest migration of each kind is what ChromaDB calls its schema's version.
        for migration in &chroma.migrations {
            let newest = versions
                .entry(format!("ChromaDB {}", migration.dir))
                .or_default();
            let version = format!("{:05}", migration.version);
            if version > *newest {
                *newest = version;
            }
        }
    }
    Ok(versions)
}

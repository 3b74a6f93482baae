//! Files and dumps, by the hashes in the manifests.

use std::collections::HashMap;

use arkstream_format::{Component, Digest, Manifest, Member};
use arkstream_pipeline::{BundleReader, Failure, FailureKind};

use super::{In, StoreDiff};

/// Everything that is no table and no description, and not made of the tables as the spreadsheet is.
const STORES: [Component; 4] = [
    Component::Filestore,
    Component::Graph,
    Component::Chroma,
    Component::OdooDump,
];

pub(super) fn compare(
    first: &dyn BundleReader,
    second: &dyn BundleReader,
) -> Result<Vec<StoreDiff>, Failure> {
    let mut stores = Vec::new();
    for component in STORES {
        let of = |manifest: &'_ Manifest| manifest.components.contains_key(&component);
        let found = match (of(first.manifest()), of(second.manifest())) {
            (true, true) => In::Both,
            (true, false) => In::First,
            (false, true) => In::Second,
            (false, false) => continue,
        };
        stores.push(store(first, second, component, found)?);
    }
    Ok(stores)
}

fn store(
    first: &dyn BundleReader,
    second: &dyn BundleReader,
    component: Component,
    found: In,
) -> Result<StoreDiff, Failure> {
    let mut diff = StoreDiff {
        component,
        found,
        added: Vec::new(),
        removed: Vec::new(),
        changed: Vec::new(),
        equal: 0,
    };
    let mut left: HashMap<&str, &Member> = members(first, component)
        .map(|member| (member.name.as_str(), member))
        .collect();
    for member in members(second, component) {
        match left.remove(member.name.as_str()) {
            None => diff.added.push(member.name.clone()),
            Some(other) if equal(first, other, second, member)? => diff.equal += 1,
            Some(_) => diff.changed.push(member.name.clone()),
        }
    }
    diff.removed = left.into_keys().map(str::to_owned).collect();
    for names in [&mut diff.added, &mut diff.removed, &mut diff.changed] {
        names.sort_unstable();
    }
    Ok(diff)
}

fn members(bundle: &dyn BundleReader, component: Component) -> impl Iterator<Item = &Member> {
    let members = bundle.manifest().members.iter();
    members.filter(move |member| member.component == component)
}

/// A member's digest is over its chunks, which another writer may have cut otherwise. So where only the
/// digests differ, the bytes decide.
fn equal(
    first: &dyn BundleReader,
    one: &Member,
    second: &dyn BundleReader,
    other: &Member,
) -> Result<bool, Failure> {
    if one.digest == other.digest {
        return Ok(true);
    }
    if one.raw_len != other.raw_len || one.crc32 != other.crc32 {
        return Ok(false);
    }
    Ok(content(first, one)? == content(second, other)?)
}

fn content(bundle: &dyn BundleReader, member: &Member) -> Result<Digest, Failure> {
    let mut hasher = blake3::Hasher::new();
    for index in 0..member.chunks.len() {
        let chunk = bundle.read_chunk(member, index).map_err(|finding| {
            Failure::new(
                FailureKind::Damaged,
                format!("compare {}", member.name),
                finding,
            )
            .help("`arkstream verify` lists everything that is damaged")
        })?;
        hasher.update(&chunk);
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

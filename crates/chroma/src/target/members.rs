//! The files that a bundle holds for the directory, and whether a file on disk is one of them.
//!
//! Memory: one chunk (4 MiB) while a file is read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use arkstream_format::{Component, Digest, Manifest, Member, member_names};

use arkstream_pipeline::os;

use crate::{DATABASE, directory::is_alien};

/// One file of the bundle's Chroma directory.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// Relative to the directory, `/`-separated.
    pub(super) path: String,
    /// The member that holds it.
    pub(super) member: Arc<Member>,
}

/// All files of the bundle's Chroma directory; [`faults`] says whether they may be written.
pub(super) fn wanted(manifest: &Manifest) -> Vec<Wanted> {
    let members = manifest.members.iter();
    members
        .filter(|member| member.component == Component::Chroma)
        .map(|member| Wanted {
            path: member
                .name
                .strip_prefix(member_names::CHROMA_DIR)
                .unwrap_or_default()
                .to_owned(),
            member: Arc::new(member.clone()),
        })
        .collect()
}

/// What is wrong with the names: nothing may be written outside the directory, or twice.
pub(super) fn faults(wanted: &[Wanted]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for Wanted { path, member } in wanted {
        if !is_safe(path) {
            faults.push(format!(
                "the member {:?} does not name a file below {}",
                member.name,
                member_names::CHROMA_DIR
            ));
        } else if !seen.insert(path.as_str()) {
            faults.push(format!("the member {:?} is there twice", member.name));
        }
    }
    for path in &seen {
        if folders_of(path).any(|folder| seen.contains(folder)) {
            faults.push(format!("{path:?} lies below what is a file itself"));
        }
    }
    if !seen.contains(DATABASE) {
        faults.push(format!("the bundle holds no {DATABASE}"));
    }
    faults
}

fn is_safe(path: &str) -> bool {
    !path.contains('\0')
        && os::check_nameable(path).is_ok()
        && !path
            .split('/')
            .next()
            .is_some_and(|first| is_alien(first.as_ref()))
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Every folder that a path lies in, the innermost last.
pub(super) fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// What a file on disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadBack {
    /// BLAKE3 of all its bytes.
    pub(super) digest: Digest,
    /// Whether size and every chunk are the member's.
    pub(super) matches: bool,
}

/// Reads a file and holds it against its member, chunk by chunk.
pub(super) fn read_back(path: &Path, member: &Member) -> io::Result<ReadBack> {
    let mut file = os::open_to_read(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut matches = true;
    let mut buffer = Vec::new();
    for chunk in &member.chunks {
        buffer.clear();
        let wanted = u64::from(chunk.raw_len);
        (&mut file).take(wanted).read_to_end(&mut buffer)?;
        matches &= buffer.len() as u64 == wanted && Digest::of(&buffer) == chunk.blake3;
        hasher.update(&buffer);
    }
    let more = hash_rest(&mut file, &mut hasher)?;
    Ok(ReadBack {
        digest: Digest(*hasher.finalize().as_bytes()),
        matches: matches && more == 0,
    })
}

/// BLAKE3 of all bytes of a file.
pub(super) fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hash_rest(&mut os::open_to_read(path)?, &mut hasher)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn hash_rest(file: &mut File, hasher: &mut blake3::Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            read => {
                hasher.update(buffer.get(..read).unwrap_or_default());
                total += read as u64;
            }
        }
    }
}

/// Everything in a directory: files with their sizes (links and the like with none), and folders.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// By path relative to the directory.
    pub(super) files: BTreeMap<String, Option<u64>>,
    /// Relative to the directory; a folder stands before what it holds.
    pub(super) folders: Vec<String>,
}

/// Walks a directory without following links. What is not Chroma's at its top is passed over. A
/// name that is not UTF-8 is told with replacement characters: no member has it.
pub(super) fn tree(directory: &Path) -> io::Result<Tree> {
    let mut tree = Tree::default();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(directory.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if folder.is_empty() && is_alien(&name) {
                continue;
            }
            let name = name.to_string_lossy();
            let relative = if folder.is_empty() {
                name.into_owned()
            } else {
                format!("{folder}/{name}")
            };
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_dir() {
                tree.folders.push(relative.clone());
                folders.push(relative);
            } else {
                let size = metadata.is_file().then_some(metadata.len());
                tree.files.insert(relative, size);
            }
        }
    }
    tree.folders.sort();
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_outside_is_not_safe() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "./a",
            "a/.",
            "a/",
            "a\0b",
            ".arkstream_0123456789abcdef/journal",
        ] {
            assert!(!is_safe(path), "{path:?}");
        }
        for path in [DATABASE, "seg/header.bin", "a..b", "..a", "ü \n/x"] {
            assert!(is_safe(path), "{path:?}");
        }
    }
}

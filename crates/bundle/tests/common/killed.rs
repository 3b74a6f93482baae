//! Runs that end as a kill ends them, and what has to be in the bundle afterwards.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use arkstream_bundle::{BundleFile, OutputPaths, read_journal};
use arkstream_pipeline::{BundleReader as _, Published};

use super::{Random, noise};

/// Members by name: some are put whole, some come in a stream.
pub(crate) type Contents = BTreeMap<String, (Bytes, bool)>;

/// Ends a run as a kill does: the journal up to any byte, the file at least as long as it says, with
/// whatever behind. Now and then the disk has lied, and the file is shorter.
pub(crate) fn kill(paths: &OutputPaths, random: &mut Random) {
    let journal = fs::read(&paths.journal).unwrap();
    let begin = journal.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    let keep = begin + random.below(journal.len() as u64 - begin + 1);
    // Other files, as the writer that was killed may still hold the old ones.
    replace(&paths.journal, &journal[..keep as usize]);
    let durable = read_journal(&paths.journal).unwrap().durable_len as usize;
    let mut file = fs::read(&paths.partial).unwrap();
    // A journal without its last lines may also speak of what was cut off since.
    if random.below(6) == 0 || durable > file.len() {
        file.truncate(random.below(durable as u64 + 1) as usize);
        replace(&paths.partial, &file);
        return;
    }
    let len = durable + random.below((file.len() - durable) as u64 + 1) as usize;
    file.truncate(len);
    match random.below(3) {
        0 => file[durable..].fill(0),
        1 => file.extend_from_slice(&noise(9, 100_000)),
        _ => {}
    }
    replace(&paths.partial, &file);
}

pub(crate) fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

pub(crate) fn check(published: &Published, contents: &Contents) {
    let bytes = fs::read(&published.path).unwrap();
    let sum: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(published.sha256, sum);
    let bundle = BundleFile::open(&published.path).unwrap();
    assert_eq!(bundle.check_framing(), Vec::new());
    let written = bundle.manifest().members.iter().filter(|m| !m.is_index());
    let names: Vec<&String> = written.map(|m| &m.name).collect();
    assert_eq!(names.len(), contents.len(), "{names:?}");
    for (name, (expected, _)) in contents {
        let member = bundle
            .member(name)
            .unwrap_or_else(|| panic!("{name} is lost"));
        let mut found = Vec::new();
        for index in 0..member.chunks.len() {
            found.extend_from_slice(&bundle.read_chunk(member, index).unwrap());
        }
        assert!(found == *expected, "{name} is not what was written");
    }
}

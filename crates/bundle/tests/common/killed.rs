//! Runs that end as a kill ends them, and what has to be in the bundle afterwards.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods)]

use std::{collections::BTreeMap, fs};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use arkstream_bundle::{BundleFile, OutputPaths, read_journal};
use arkstream_pipeline::{BundleReader as _, Published};

use super::noise;

/// Members by name: some are put whole, some come in a stream.
pub(crate) type Contents = BTreeMap<String, (Bytes, bool)>;

/// A small random generator, so that a failing seed can be run again.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit.max(1)
    }
}

/// Ends a run as a kill does: the journal up to any byte, the file at least as long as it says, with
/// whatever behind. Now and then the disk has lied, and the file is shorter.
pub(crate) fn kill(paths: &OutputPaths, random: &mut Random) {
    let journal = fs::read(&paths.journal).unwrap();
    let begin = journal.iter().position(|byte| *byte == b'\n').unwrap() as u64 + 1;
    let keep = begin + random.below(journal.len() as u64 - begin + 1);
    fs::write(&paths.journal, &journal[..keep as usize]).unwrap();
    let durable = read_journal(&paths.journal).unwrap().durable_len as usize;
    let mut file = fs::read(&paths.partial).unwrap();
    // A journal without its last lines may also speak of what was cut off since.
    if random.below(6) == 0 || durable > file.len() {
        file.truncate(random.below(durable as u64 + 1) as usize);
        fs::remove_file(&paths.partial).unwrap();
        fs::write(&paths.partial, file).unwrap();
        return;
    }
    let len = durable + random.below((file.len() - durable) as u64 + 1) as usize;
    file.truncate(len);
    match random.below(3) {
        0 => file[durable..].fill(0),
        1 => file.extend_from_slice(&noise(9, 100_000)),
        _ => {}
    }
    // Another file, as the writer that was killed may still hold the old one.
    fs::remove_file(&paths.partial).unwrap();
    fs::write(&paths.partial, file).unwrap();
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
    let names: Vec<&String> = bundle.manifest().members.iter().map(|m| &m.name).collect();
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

//! The SHA-256 of the whole file, kept up while it is written, and across an interruption.

use std::io::{self, Write};

use sha2::{
    Digest as _, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};

use arkstream_pipeline::fault;

use crate::{disk::DiskFile, space::SpaceWait};

const WHAT: &str = "the bundle";

/// The file, with the SHA-256 of everything before the place where the next byte goes.
pub(crate) struct HashingFile {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) at: u64,
    pub(crate) sha256: Sha256,
    pub(crate) wait: SpaceWait,
}

impl HashingFile {
    pub(crate) fn sync(&self) -> io::Result<()> {
        // Never again after it failed: the system has dropped what it could not write, and says so once.
        fault::point("bundle.sync")?;
        self.file.sync_data()
    }
}

impl Write for HashingFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.wait.patiently(WHAT, || {
            fault::point("bundle.write")?;
            self.file.write_at(buffer, self.at)
        })?;
        self.at += written as u64;
        self.sha256.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where to begin: at a state that the journal kept, or at the first byte.
pub(crate) fn start(known: Option<&(u64, String)>) -> (u64, Sha256) {
    known
        .and_then(|(offset, state)| Some((*offset, sha256_from(state)?)))
        .unwrap_or_else(|| (0, Sha256::new()))
}

/// SHA-256 of the first `len` bytes.
pub(crate) fn hash_up_to(
    file: &dyn DiskFile,
    (mut at, mut sha256): (u64, Sha256),
    len: u64,
) -> io::Result<Sha256> {
    let mut buffer = vec![0; 1 << 20];
    while at < len {
        let piece = (len - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..piece], at)?;
        sha256.update(&buffer[..piece]);
        at += piece as u64;
    }
    Ok(sha256)
}

/// The state of the hash as the journal keeps it.
pub(crate) fn sha256_state(sha256: &Sha256) -> String {
    hex(&sha256.serialize())
}

fn sha256_from(state: &str) -> Option<Sha256> {
    let mut bytes = SerializedState::<Sha256>::default();
    if state.len() != 2 * bytes.len() || !state.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(state.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Sha256::deserialize(&bytes).ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_hash_survives_the_journal() {
        let mut whole = Sha256::new();
        let mut first = Sha256::new();
        for part in [&b"some bytes"[..], &[7; 300]] {
            whole.update(part);
        }
        first.update(b"some bytes");
        let mut second = sha256_from(&sha256_state(&first)).unwrap();
        second.update([7; 300]);
        assert_eq!(second.finalize(), whole.finalize());
        assert!(sha256_from("zz").is_none());
    }
}

//! The filestore: files named by the SHA-1 of their bytes, as Odoo names them.
//!
//! The files cover what matters to a backup: empty, tiny, compressible, incompressible, several
//! megabytes. Beside them lie files that no attachment refers to, and Odoo's `checklist` folder.

use std::fs;
use std::path::Path;

use sha1::{Digest, Sha1};

use crate::error::SampleError;
use crate::files;

/// A file of the filestore.
pub(super) struct StoredFile {
    /// `ab/ab12…`, relative to the filestore.
    pub(super) name: String,
    pub(super) size: usize,
    pub(super) checksum: String,
    pub(super) mimetype: &'static str,
}

/// What lies in the filestore.
pub(super) struct Filestore {
    /// Those that attachments refer to.
    pub(super) files: Vec<StoredFile>,
    /// Names of those that nothing refers to.
    pub(super) orphans: Vec<String>,
}

const LARGE: usize = 5 * 1024 * 1024 + 17;

/// Writes `count` files and three orphans.
pub(super) fn write(root: &Path, seed: u64, count: usize) -> Result<Filestore, SampleError> {
    let mut files = Vec::new();
    for number in 0..count {
        let (bytes, mimetype) = contents(seed, number);
        files.push(store(root, &bytes, mimetype)?);
    }
    let mut orphans = Vec::new();
    for number in 0..3 {
        let text = format!("orphan {number} of seed {seed}");
        orphans.push(store(root, text.as_bytes(), "text/plain")?.name);
    }
    // Odoo's list of candidates for its collector: an empty file per name.
    if let Some(first) = orphans.first() {
        let path = root.join("checklist").join(first);
        write_file(&path, b"")?;
    }
    Ok(Filestore { files, orphans })
}

fn contents(seed: u64, number: usize) -> (Vec<u8>, &'static str) {
    let mut random = Random::new(seed, number);
    match number {
        0 => (Vec::new(), "application/octet-stream"),
        1 => (b"x".to_vec(), "text/plain"),
        2 => (random.bytes(LARGE), "application/zip"),
        _ => {
            let size = 100 + (random.next() % 30_000) as usize;
            match number % 3 {
                0 => (random.bytes(size), "image/png"),
                1 => {
                    let line = format!("Line of file {number}: {:x}\r\n", random.next());
                    (
                        line.into_bytes().into_iter().cycle().take(size).collect(),
                        "text/plain",
                    )
                }
                _ => {
                    let mut bytes = b"%PDF-1.7\n".to_vec();
                    bytes.extend(random.bytes(size / 2));
                    bytes.resize(size, 0);
                    (bytes, "application/pdf")
                }
            }
        }
    }
}

fn store(root: &Path, bytes: &[u8], mimetype: &'static str) -> Result<StoredFile, SampleError> {
    let checksum: String = Sha1::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let name = format!("{}/{checksum}", checksum.get(..2).unwrap_or_default());
    write_file(&root.join(&name), bytes)?;
    Ok(StoredFile {
        name,
        size: bytes.len(),
        checksum,
        mimetype,
    })
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), SampleError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(SampleError::io("create", parent))?;
    }
    files::write(path, bytes)
}

/// xorshift64*: small, and equal everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64, number: usize) -> Self {
        let mixed =
            seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D;
        let mut random = Self(mixed.max(1));
        // The first numbers of close seeds resemble each other.
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}

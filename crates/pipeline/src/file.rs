//! Files that are backed up, and files that are restored.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
};

use arkstream_format::{Digest, FileProof, Member};
use chrono::Utc;

use crate::os::FileState;

/// What can prove the file unchanged later, as it is at this moment; `None` where the system does not tell
/// when something changed.
#[must_use]
pub fn file_proof(state: &FileState) -> Option<FileProof> {
    Some(FileProof {
        inode: state.id.inode,
        size: state.size,
        mtime_ns: i64::try_from(state.mtime_ns).ok()?,
        ctime_ns: i64::try_from(state.ctime_ns?).ok()?,
        seen_ns: Utc::now().timestamp_nanos_opt()?,
    })
}

/// How many chunks of a member a file begins with. What follows them is cut off, and the cursor stands
/// behind them. `each` sees the bytes of each chunk that is kept.
///
/// Memory: one chunk.
///
/// # Errors
/// As the operating system says.
pub fn whole_chunks(
    file: &mut File,
    member: &Member,
    mut each: impl FnMut(&[u8]),
) -> io::Result<usize> {
    let (mut kept, mut end) = (0, 0);
    let mut buffer = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    for chunk in &member.chunks {
        buffer.clear();
        file.take(chunk.raw_len.into()).read_to_end(&mut buffer)?;
        if buffer.len() as u64 != u64::from(chunk.raw_len) || Digest::of(&buffer) != chunk.blake3 {
            break;
        }
        each(&buffer);
        kept += 1;
        end += u64::from(chunk.raw_len);
    }
    if file.metadata()?.len() != end {
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use arkstream_format::{Chunk, Component, Compression, Crc32};

    use super::*;

    fn member(chunks: &[&[u8]]) -> Member {
        let chunk = |bytes: &&[u8]| Chunk {
            offset: 0,
            raw_len: u32::try_from(bytes.len()).unwrap(),
            stored_len: 0,
            crc32: Crc32::of(bytes),
            blake3: Digest::of(bytes),
            stored_blake3: None,
        };
        Member {
            name: "a".into(),
            component: Component::Chroma,
            compression: Compression::Stored,
            header_offset: 0,
            data_offset: 0,
            raw_len: chunks.iter().map(|bytes| bytes.len() as u64).sum(),
            stored_len: 0,
            crc32: Crc32::default(),
            digest: Digest::of(&[]),
            descriptor: false,
            modified_at: Utc::now(),
            mode: 0o600,
            rows: None,
            proof: None,
            copied: None,
            chunks: chunks.iter().map(chunk).collect(),
        }
    }

    #[test]
    fn a_file_goes_on_behind_its_last_whole_chunk() {
        let member = member(&[b"first", b"second", b"last"]);
        for (there, kept) in [
            ("", 0),
            ("fir", 0),
            ("firstsec", 1),
            ("firstXecondlast", 1),
            ("firstsecondlast", 3),
            ("firstsecondlast and more", 3),
            ("another", 0),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(there.as_bytes()).unwrap();
            let mut seen = Vec::new();
            let found = whole_chunks(&mut file, &member, |bytes| seen.extend_from_slice(bytes));
            assert_eq!(found.unwrap(), kept, "{there}");
            let rest = ["first", "second", "last"][kept..].concat();
            file.write_all(rest.as_bytes()).unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut whole = String::new();
            file.read_to_string(&mut whole).unwrap();
            assert_eq!(whole, "firstsecondlast", "{there}");
            assert_eq!(seen, &whole.as_bytes()[..seen.len()]);
        }
    }
}

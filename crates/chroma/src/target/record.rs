//! The record of what was staged: a small file beside the directories, never inside the live one.
//!
//! ```text
//! arkstream chroma restore 1
//! staged <inode>
//! former <inode>                 absent when there was no directory
//! collections <n>
//! embeddings <n>
//! queued <n>
//! last <n>                       the last operation of Chroma's write-ahead log
//! content <BLAKE3>               of the collections and records, see `content`
//! (an empty line)
//! <bytes> <BLAKE3> <path>\0      one a file
//! ```
//!
//! An inode tells the staged directory from the former one under any name, which names alone
//! cannot: between the exchange and the last rename both stand under each other's.
//!
//! Durability: it MUST be synced before the first rename of a switch. Where it is missing, nothing
//! was switched. It is replaced as a whole, so a reader never sees half of it.
//!
//! Memory: about 150 bytes a file.

use std::{collections::BTreeMap, fs, io, path::Path};

use arkstream_format::Digest;
use arkstream_pipeline::{Failure, FailureKind};

use super::{content::Content, durable};

const TITLE: &str = "arkstream chroma restore 1";

/// What was staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Inode of the staged directory.
    pub(super) staged: u64,
    /// Inode of the directory that was live before.
    pub(super) former: Option<u64>,
    /// What SQLite said of the staged directory.
    pub(super) content: Content,
    /// Size and BLAKE3 of every file, by path.
    pub(super) files: BTreeMap<String, (u64, Digest)>,
}

impl Record {
    /// Reads the record; `None` when there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let attempted = || format!("read {}", path.display());
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(durable::refused(attempted(), error)),
        };
        let record = String::from_utf8(bytes).ok().as_deref().and_then(decode);
        record.map(Some).ok_or_else(|| {
            Failure::new(
                FailureKind::Refused,
                attempted(),
                "it is not the record of a restore, or one of another version",
            )
            .help("put the file back as it was; it says which directory is the former one")
        })
    }

    /// Writes it, durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        durable::replace(path, self.encode().as_bytes())
    }

    fn encode(&self) -> String {
        let mut text = format!("{TITLE}\nstaged {}\n", self.staged);
        if let Some(former) = self.former {
            text.push_str(&format!("former {former}\n"));
        }
        let Content {
            collections,
            embeddings,
            queued,
            last,
            digest,
        } = &self.content;
        text.push_str(&format!(
            "collections {collections}\nembeddings {embeddings}\nqueued {queued}\n\
             last {last}\ncontent {digest}\n\n"
        ));
        for (path, (size, digest)) in &self.files {
            text.push_str(&format!("{size} {digest} {path}\0"));
        }
        text
    }
}

fn decode(text: &str) -> Option<Record> {
    let (head, files) = text.split_once("\n\n")?;
    let mut lines = head.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let fields: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(' ')).collect();
    let number = |name: &str| fields.get(name)?.parse().ok();
    let former = match fields.get("former") {
        Some(inode) => Some(inode.parse().ok()?),
        None => None,
    };
    let files = files
        .split_terminator('\0')
        .map(|line| {
            let (size, rest) = line.split_once(' ')?;
            let (digest, path) = rest.split_once(' ')?;
            Some((path.to_owned(), (size.parse().ok()?, digest.parse().ok()?)))
        })
        .collect::<Option<_>>()?;
    Some(Record {
        staged: number("staged")?,
        former,
        content: Content {
            collections: number("collections")?,
            embeddings: number("embeddings")?,
            queued: number("queued")?,
            last: fields.get("last")?.parse().ok()?,
            digest: fields.get("content")?.parse().ok()?,
        },
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            staged: 7,
            former: Some(9),
            content: Content {
                collections: 1,
                embeddings: 2,
                queued: 3,
                last: -1,
                digest: Digest::of(b"content"),
            },
            files: BTreeMap::from([
                ("chroma.sqlite3".into(), (4096, Digest::of(b"a"))),
                ("odd \n\n name/ü".into(), (0, Digest::of(b""))),
            ]),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        assert_eq!(Record::read(&path).unwrap(), None);
        for former in [Some(9), None] {
            let record = Record { former, ..record() };
            record.write(&path).unwrap();
            assert_eq!(Record::read(&path).unwrap(), Some(record));
        }
    }

    #[test]
    fn a_damaged_record_is_no_record_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        durable::replace(&path, b"something else").unwrap();
        let failure = Record::read(&path).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
    }
}

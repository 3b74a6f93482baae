//! Reading a bundle: one read at the end finds the manifest, everything else follows from it.
//!
//! No byte is given out before its hash was checked: stored bytes before they are decompressed,
//! raw bytes afterwards. Lengths are checked against their limits before anything is allocated.
//!
//! Peak memory: the manifest, four bytes a member, and one chunk raw and stored for every reader.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use flate2::read::DeflateDecoder;

use arkstream_format::{
    CHUNK_SIZE, Chunk, Compression, Crc32, Digest, FORMAT_MAJOR, Manifest, Member, major_of,
};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, Finding, Place};

use crate::{
    check,
    codec::{MAX_STORED, inflate},
    disk::{Disk, DiskFile, FileRange},
    durable::LocalDisk,
    framing::{END, END_LEN},
    names::ByName,
    trailer::Trailer,
};

/// An open bundle.
#[derive(Debug)]
pub struct BundleFile {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) len: u64,
    pub(crate) manifest: Manifest,
    /// The entry of `manifest.json` itself, which the manifest cannot list.
    pub(crate) manifest_entry: Member,
    pub(crate) trailer: Trailer,
    path: PathBuf,
    by_name: ByName,
}

impl BundleFile {
    /// Opens a bundle and checks its manifest.
    ///
    /// # Errors
    /// [`FailureKind::Source`] if the file cannot be read, [`FailureKind::Damaged`] if it is no
    /// bundle or its manifest is damaged, [`FailureKind::Incompatible`] if its format is newer.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_on(&LocalDisk, path)
    }

    /// The same, on any disk.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(disk: &dyn Disk, path: &Path) -> Result<Self, Failure> {
        let attempted = || format!("open the bundle {}", path.display());
        let (file, len) = disk
            .open_to_read(path)
            .and_then(|file| file.size().map(|len| (file, len)))
            .map_err(|error| Failure::io(FailureKind::Source, attempted(), error))?;
        let damaged = |why: String| {
            Failure::new(FailureKind::Damaged, attempted(), why).help(
                "`arkstream verify` lists the members that are still good, and `arkstream \
                     salvage` makes a new bundle of them",
            )
        };

        let comment = read_comment(file.as_ref(), len)
            .map_err(|error| Failure::io(FailureKind::Source, attempted(), error))?
            .ok_or_else(|| {
                damaged("it does not end like a ZIP file: it is cut off, or no bundle".into())
            })?;
        let trailer = Trailer::parse(&comment).ok_or_else(|| {
            damaged("the archive comment is not Arkstream's: it is damaged, or no bundle".into())
        })?;
        let range = stored_range(file.as_ref(), len, &trailer).map_err(damaged)?;
        let version = read_version(&range, &trailer).map_err(damaged)?;
        if major_of(&version) != Some(FORMAT_MAJOR) {
            return Err(Failure::new(
                FailureKind::Incompatible,
                attempted(),
                format!("its format is {version}, this program reads {FORMAT_MAJOR}.x"),
            )
            .help("use the version of Arkstream that wrote it, or a newer one"));
        }
        let (manifest, crc32) = read_manifest(&range, &trailer).map_err(damaged)?;
        let manifest_entry = trailer.entry(crc32, manifest.started_at);
        Ok(Self {
            file,
            len,
            manifest,
            manifest_entry,
            trailer,
            path: path.to_owned(),
            by_name: ByName::default(),
        })
    }

    /// The file that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listed member of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.find(&self.manifest.members, name)
    }

    /// The bytes of `manifest.json`, hash checked, piece by piece.
    ///
    /// # Errors
    /// When the file cannot be read or was changed since it was opened.
    pub fn manifest_bytes(&self) -> io::Result<impl Read + '_> {
        let stored = FileRange {
            file: self.file.as_ref(),
            at: self.trailer.data_offset,
            end: self.trailer.data_offset + self.trailer.stored_len,
        };
        Ok(DeflateDecoder::new(stored).take(self.trailer.raw_len))
    }
}

impl BundleReader for BundleFile {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn member(&self, name: &str) -> Option<&Member> {
        BundleFile::member(self, name)
    }

    fn manifest_digest(&self) -> Digest {
        self.trailer.blake3
    }

    fn file_len(&self) -> u64 {
        self.len
    }

    fn check_framing(&self) -> Vec<Finding> {
        check::check_framing(self)
    }

    fn read_chunk(&self, member: &Member, index: usize) -> Result<Bytes, Finding> {
        read_chunk(self.file.as_ref(), member, index)
    }
}

/// The raw bytes of a member's chunk, hashes checked.
pub(crate) fn read_chunk(
    file: &dyn DiskFile,
    member: &Member,
    index: usize,
) -> Result<Bytes, Finding> {
    let place = |bytes| Place {
        member: Some(member.name.clone()),
        chunk: Some(index),
        bytes,
    };
    let chunk = member
        .chunks
        .get(index)
        .ok_or_else(|| Finding::damage(place(None), "there is no such chunk"))?;
    let end = chunk.offset.saturating_add(chunk.stored_len.into());
    let damage = |what: String| Finding::damage(place(Some((chunk.offset, end))), what);
    let proven = read_proven(file, member.compression, chunk).map_err(damage)?;
    Ok(proven.raw)
}

/// A chunk's bytes that have all their hashes.
pub(crate) struct ProvenChunk {
    pub(crate) raw: Bytes,
    /// As they stand in the file.
    pub(crate) stored: Bytes,
}

/// Reads one chunk, its hashes checked before and after decompression. The error says what is wrong
/// with it.
pub(crate) fn read_proven(
    file: &dyn DiskFile,
    compression: Compression,
    chunk: &Chunk,
) -> Result<ProvenChunk, String> {
    let (raw_len, stored_len) = (chunk.raw_len as usize, chunk.stored_len as usize);
    let as_it_is = compression == Compression::Stored;
    if raw_len > CHUNK_SIZE || stored_len > MAX_STORED || (as_it_is && raw_len != stored_len) {
        return Err("the manifest gives it an impossible length".into());
    }
    let mut stored = vec![0; stored_len];
    file.read_exact_at(&mut stored, chunk.offset)
        .map_err(|error| format!("it cannot be read: {error}"))?;
    let stored = Bytes::from(stored);
    let raw = match compression {
        Compression::Stored => stored.clone(),
        Compression::Deflate => {
            if chunk.stored_blake3 != Some(Digest::of(&stored)) {
                return Err("its stored bytes do not have their BLAKE3".into());
            }
            Bytes::from(inflate(&stored, raw_len).map_err(|error| error.to_string())?)
        }
    };
    if Digest::of(&raw) != chunk.blake3 {
        return Err("its bytes do not have their BLAKE3".into());
    }
    if Crc32::of(&raw) != chunk.crc32 {
        return Err("its bytes do not have their CRC-32".into());
    }
    Ok(ProvenChunk { raw, stored })
}

/// Finds the end record and returns the archive comment, or `None` if there is no end record.
fn read_comment(file: &dyn DiskFile, len: u64) -> io::Result<Option<Vec<u8>>> {
    let tail_len = len.min((END_LEN + usize::from(u16::MAX)) as u64) as usize;
    let mut tail = vec![0; tail_len];
    file.read_exact_at(&mut tail, len - tail_len as u64)?;
    let Some(last) = tail_len.checked_sub(END_LEN) else {
        return Ok(None);
    };
    for start in (0..=last).rev() {
        let record = &tail[start..];
        let comment_len = usize::from(u16::from_le_bytes([record[20], record[21]]));
        if record.starts_with(&END.to_le_bytes()) && record.len() == END_LEN + comment_len {
            return Ok(Some(record[END_LEN..].to_vec()));
        }
    }
    Ok(None)
}

/// Proves the manifest and the comment by each other, and returns the format version on which both
/// agree. The error says what is wrong.
fn read_version(range: &FileRange<'_>, trailer: &Trailer) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format_version: String,
    }
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut range.clone(), &mut hasher)
        .map_err(|error| format!("the manifest cannot be read: {error}"))?;
    if Digest(*hasher.finalize().as_bytes()) != trailer.blake3 {
        return Err(
            "the manifest does not have the BLAKE3 that the archive comment gives; one of the two \
             is damaged"
                .into(),
        );
    }
    let json = DeflateDecoder::new(range.clone()).take(trailer.raw_len);
    let Versioned { format_version } = serde_json::from_reader(io::BufReader::new(json))
        .map_err(|error| format!("the manifest is not understood: {error}"))?;
    if format_version != trailer.format_version {
        return Err(format!(
            "the archive comment says format {}, the manifest {format_version}; the comment is \
             damaged",
            trailer.format_version
        ));
    }
    Ok(format_version)
}

/// Reads the manifest and the CRC-32 of its bytes. The error says what is wrong with it.
fn read_manifest(range: &FileRange<'_>, trailer: &Trailer) -> Result<(Manifest, Crc32), String> {
    let mut decoder = CrcReader {
        inner: DeflateDecoder::new(range.clone()).take(trailer.raw_len),
        hasher: crc32fast::Hasher::new(),
        len: 0,
    };
    let manifest = serde_json::from_reader(io::BufReader::with_capacity(1 << 16, &mut decoder))
        .map_err(|error| format!("the manifest is not understood: {error}"))?;
    if decoder.len != trailer.raw_len {
        return Err("the manifest does not have the length that the archive comment gives".into());
    }
    Ok((manifest, Crc32(decoder.hasher.finalize())))
}

/// Where the comment says that the manifest is.
fn stored_range<'a>(
    file: &'a dyn DiskFile,
    len: u64,
    trailer: &Trailer,
) -> Result<FileRange<'a>, String> {
    let end = trailer
        .data_offset
        .checked_add(trailer.stored_len)
        .filter(|end| *end <= len)
        .ok_or("the archive comment points behind the end of the file")?;
    Ok(FileRange {
        file,
        at: trailer.data_offset,
        end,
    })
}

struct CrcReader<R> {
    inner: R,
    hasher: crc32fast::Hasher,
    len: u64,
}

impl<R: Read> Read for CrcReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        self.len += len as u64;
        Ok(len)
    }
}

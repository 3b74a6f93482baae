//! Where a copy's bytes come from: what the destination has already, and the source for the rest.
//!
//! Nothing is handed on before it was proven, but for bytes that are covered by one hash in any length
//! (dead bytes, the manifest): these are proven while they pass, and a piece that fails is told before
//! the next one begins.
//!
//! Memory: about 100 bytes a chunk of the source, one manifest at a time, and one chunk.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use arkstream_format::Digest;
use arkstream_pipeline::{Cancel, Event, Failure, FailureKind, Finding, Observer};

use super::layout::{Layout, Piece, What, stored_digest};
use crate::{
    disk::{Disk, DiskFile},
    durable,
    reader::BundleFile,
};

/// What is read at once of a piece of any length.
const STEP: u64 = 1 << 20;

/// What the system is asked to read ahead while the copy is synced.
const AHEAD: u64 = 32 << 20;

/// From where a piece was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Source,
    Had,
}

/// An older bundle, or a torn copy.
struct Had {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// A torn copy has no manifest: its bytes are tried where the source has them.
    torn: bool,
    told: bool,
}

pub(super) struct Supply<'a> {
    source: &'a BundleFile,
    had: Vec<Had>,
    /// Number of the file and offset in it, by BLAKE3 and length of the stored bytes.
    places: HashMap<(Digest, u64), (usize, u64)>,
    observer: &'a dyn Observer,
}

impl<'a> Supply<'a> {
    pub(super) fn new(source: &'a BundleFile, observer: &'a dyn Observer) -> Self {
        Self {
            source,
            had: Vec::new(),
            places: HashMap::new(),
            observer,
        }
    }

    /// Takes up older bundles and torn copies. Only places of what the source has are remembered.
    pub(super) fn add(
        &mut self,
        disk: &dyn Disk,
        layout: &Layout<'_>,
        older: Option<BundleFile>,
        named: &[PathBuf],
    ) -> Result<(), Failure> {
        let mut wanted: HashMap<(Digest, u64), Option<(usize, u64)>> = HashMap::new();
        if older.is_some() || !named.is_empty() {
            for piece in layout.pieces() {
                if let What::Chunk(_, digest) | What::Bulk(digest, _) = piece.what {
                    wanted.insert((digest, piece.len), None);
                }
            }
        }
        if let Some(older) = older {
            self.add_bundle(older, &mut wanted);
        }
        for path in named {
            match BundleFile::open_on(disk, path) {
                Ok(bundle) => self.add_bundle(bundle, &mut wanted),
                Err(failure) if failure.kind == FailureKind::Damaged => {
                    let file = disk
                        .open_to_read(path)
                        .map_err(|error| cannot_open(path, error))?;
                    self.had.push(Had {
                        path: path.clone(),
                        file,
                        torn: true,
                        told: false,
                    });
                }
                Err(failure) => return Err(failure),
            }
        }
        self.places = wanted
            .into_iter()
            .filter_map(|(key, place)| Some((key, place?)))
            .collect();
        Ok(())
    }

    fn add_bundle(
        &mut self,
        bundle: BundleFile,
        wanted: &mut HashMap<(Digest, u64), Option<(usize, u64)>>,
    ) {
        // Read from the source, it would be counted as spared.
        if is_same_file(bundle.file.as_ref(), self.source.file.as_ref()) {
            return;
        }
        let number = self.had.len();
        let mut offer = |digest: Option<Digest>, len: u64, at: u64| {
            if let Some(place @ None) = digest.and_then(|digest| wanted.get_mut(&(digest, len))) {
                *place = Some((number, at));
            }
        };
        for member in &bundle.manifest.members {
            for chunk in &member.chunks {
                let digest = stored_digest(member, chunk);
                offer(digest, chunk.stored_len.into(), chunk.offset);
            }
        }
        for range in &bundle.manifest.dead_ranges {
            offer(Some(range.blake3), range.len, range.offset);
        }
        self.had.push(Had {
            path: bundle.path().to_owned(),
            file: bundle.file,
            torn: false,
            told: false,
        });
    }

    /// Hands a piece on, without its first `skip` bytes; only where nothing is skipped is it proven.
    ///
    /// # Errors
    /// [`FailureKind::Damaged`] where the source is not what its manifest says, and nothing else has
    /// the piece; what `out` says.
    pub(super) fn deliver(
        &mut self,
        piece: &Piece<'_>,
        skip: u64,
        out: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Origin, Failure> {
        let digest = match &piece.what {
            What::Frame(bytes, _) => {
                let mut found = vec![0; bytes.len()];
                self.read_source(piece, piece.at, &mut found)?;
                if found != *bytes {
                    return Err(self.damaged(piece.damage()));
                }
                out(bytes)?;
                return Ok(Origin::Source);
            }
            What::Chunk(_, digest) | What::Bulk(digest, _) => *digest,
        };
        let chunk = matches!(piece.what, What::Chunk(..));
        if skip == 0
            && let Some((number, at, bytes)) = self.find(piece, digest)
        {
            match bytes {
                Some(bytes) => out(&bytes)?,
                None => self.pass_on(piece, digest, Some((number, at)), 0, out)?,
            }
            return Ok(Origin::Had);
        }
        if chunk {
            let mut stored = vec![0; piece.len as usize];
            self.read_source(piece, piece.at, &mut stored)?;
            if Digest::of(&stored) != digest {
                return Err(self.damaged(piece.damage()));
            }
            out(&stored)?;
        } else {
            self.pass_on(piece, digest, None, skip, out)?;
        }
        Ok(Origin::Source)
    }

    /// Hands on a piece of any length, proving it on the way.
    fn pass_on(
        &self,
        piece: &Piece<'_>,
        digest: Digest,
        had: Option<(usize, u64)>,
        skip: u64,
        out: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; piece.len.min(STEP) as usize];
        let mut done = skip;
        while done < piece.len {
            let buffer = &mut buffer[..(piece.len - done).min(STEP) as usize];
            match had {
                Some((number, at)) => {
                    let had = &self.had[number];
                    had.file
                        .read_exact_at(buffer, at + done)
                        .map_err(|error| had.cannot_read(error))?;
                }
                None => self.read_source(piece, piece.at + done, buffer)?,
            }
            hasher.update(buffer);
            out(buffer)?;
            done += buffer.len() as u64;
        }
        if skip > 0 || Digest(*hasher.finalize().as_bytes()) == digest {
            return Ok(());
        }
        Err(match had {
            Some((number, _)) => {
                self.had[number].cannot_read(io::Error::other("it changed while it was read"))
            }
            None => self.damaged(piece.damage()),
        })
    }

    /// A file that holds a piece, and where; and its bytes, if they are a chunk.
    fn find(&mut self, piece: &Piece<'_>, digest: Digest) -> Option<(usize, u64, Option<Vec<u8>>)> {
        let key = (digest, piece.len);
        if let Some((number, at)) = self.places.get(&key).copied() {
            let had = &mut self.had[number];
            if let Some(bytes) = had.holds(piece, digest, at) {
                return Some((number, at, bytes));
            }
            self.places.remove(&key);
            if !had.told {
                had.told = true;
                self.observer.event(&Event::Warning(format!(
                    "{} is damaged at bytes {at}..{}: what it lacks comes from the source",
                    had.path.display(),
                    at.saturating_add(piece.len)
                )));
            }
        }
        let torn = self.had.iter().enumerate().filter(|(_, had)| had.torn);
        torn.into_iter().find_map(|(number, had)| {
            let bytes = had.holds(piece, digest, piece.at)?;
            Some((number, piece.at, bytes))
        })
    }

    /// Tells the system that the source is soon read from an offset on.
    pub(super) fn announce(&self, at: u64) {
        self.source.file.read_ahead(at, AHEAD);
    }

    /// The one place where the source is read.
    fn read_source(&self, piece: &Piece<'_>, at: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        self.source.file.read_exact_at(buffer, at).map_err(|error| {
            let attempted = format!("copy {}", self.source.path().display());
            let mut place = piece.damage().place;
            place.bytes = Some((at, at + buffer.len() as u64));
            let error = io::Error::new(error.kind(), format!("{place}: {error}"));
            Failure::io(FailureKind::Source, attempted, error)
        })
    }

    fn damaged(&self, finding: Finding) -> Failure {
        damaged(self.source, finding)
    }
}

/// Whether two open files are one. Where the system does not tell, they are not.
pub(super) fn is_same_file(a: &dyn DiskFile, b: &dyn DiskFile) -> bool {
    match (a.id(), b.id()) {
        (Ok(a), Ok(b)) => cfg!(unix) && a == b,
        _ => false,
    }
}

/// The source is not what its manifest says.
pub(super) fn damaged(source: &BundleFile, finding: Finding) -> Failure {
    let attempted = format!("copy {}", source.path().display());
    Failure::new(FailureKind::Damaged, attempted, format!("it is damaged: {finding}")).help(
        "`arkstream verify` lists what else is damaged; an older copy that is named with --have supplies what \
         it holds of it",
    )
}

fn cannot_open(path: &Path, error: io::Error) -> Failure {
    Failure::io(
        FailureKind::Source,
        format!("open {}", path.display()),
        error,
    )
}

impl Had {
    /// Whether it holds a piece at an offset; with the bytes, if they are a chunk.
    fn holds(&self, piece: &Piece<'_>, digest: Digest, at: u64) -> Option<Option<Vec<u8>>> {
        let end = at.checked_add(piece.len)?;
        if let What::Chunk(..) = piece.what {
            let mut bytes = vec![0; piece.len as usize];
            self.file.read_exact_at(&mut bytes, at).ok()?;
            return (Digest::of(&bytes) == digest).then_some(Some(bytes));
        }
        let found = durable::hash_range(self.file.as_ref(), at, end).ok()?;
        (found == digest).then_some(None)
    }

    fn cannot_read(&self, error: io::Error) -> Failure {
        let attempted = format!("read {}", self.path.display());
        Failure::io(FailureKind::Source, attempted, error)
    }
}

/// Whether a file holds a piece at its place. Only then are its bytes added to the SHA-256. Once the user
/// interrupts, nothing long is looked at any more.
pub(super) fn holds(
    file: &dyn DiskFile,
    piece: &Piece<'_>,
    sha256: &mut Sha256,
    cancel: &Cancel,
) -> bool {
    let outcome = (|| -> io::Result<bool> {
        match &piece.what {
            What::Frame(bytes, _) => {
                let mut found = vec![0; bytes.len()];
                file.read_exact_at(&mut found, piece.at)?;
                if found != *bytes {
                    return Ok(false);
                }
                sha256.update(&found);
            }
            What::Chunk(_, digest) => {
                let mut found = vec![0; piece.len as usize];
                file.read_exact_at(&mut found, piece.at)?;
                if Digest::of(&found) != *digest {
                    return Ok(false);
                }
                sha256.update(&found);
            }
            What::Bulk(digest, _) => {
                let mut with = sha256.clone();
                let mut hasher = blake3::Hasher::new();
                let mut buffer = vec![0; piece.len.min(STEP) as usize];
                let mut at = piece.at;
                while at < piece.end() {
                    if cancel.is_raised() {
                        return Ok(false);
                    }
                    let len = (piece.end() - at).min(STEP) as usize;
                    file.read_exact_at(&mut buffer[..len], at)?;
                    hasher.update(&buffer[..len]);
                    with.update(&buffer[..len]);
                    at += len as u64;
                }
                if Digest(*hasher.finalize().as_bytes()) != *digest {
                    return Ok(false);
                }
                *sha256 = with;
            }
        }
        Ok(true)
    })();
    // What cannot be read is not there.
    outcome.unwrap_or(false)
}

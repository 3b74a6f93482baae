//! What an interrupted run left, looked at before anything is built upon it.
//!
//! The journal says what was durable. A file system, a disk or a person may disagree, so the last
//! [`RECHECKED`] bytes are read again and compared with their hashes, or all of them on request. Where
//! one is wrong, everything is read. A damaged member becomes dead bytes; what follows the last sound
//! byte is cut off.
//!
//! Memory: one chunk, and the journal's members.

use std::io;

use sha2::Sha256;

use arkstream_format::{Chunk, Compression, DeadRange, Digest, Member};

use crate::{
    check::check_sums,
    codec::{MAX_STORED, STREAM_END},
    disk::DiskFile,
    durable,
    earlier::TornTail,
    framing::Entry,
    hashing,
    journal::{JournalState, Torn, chunk_end},
    opening::Totals,
    tiles,
};

/// What was written last is what a crash may have torn: a group of 64 MiB, twice.
const RECHECKED: u64 = 128 << 20;

/// An unfinished bundle that can be continued.
pub(crate) struct Recovered {
    /// Sound members.
    pub(crate) members: Vec<Member>,
    /// Dead bytes, damaged members among them.
    pub(crate) dead: Vec<DeadRange>,
    /// The dead bytes that the journal does not know.
    pub(crate) buried: Vec<DeadRange>,
    /// What the journal speaks of and the file does not have, for people.
    pub(crate) missing: Vec<String>,
    /// The member at the end of the file that is not finished.
    pub(crate) torn: Option<TornTail>,
    /// Length of what is sound; what follows is cut off.
    pub(crate) len: u64,
    /// SHA-256 of these bytes.
    pub(crate) sha256: Sha256,
}

/// Looks at the file. `all` reads every byte of it.
pub(crate) fn recover(
    file: &dyn DiskFile,
    state: JournalState,
    all: bool,
) -> io::Result<Recovered> {
    let JournalState {
        mut members,
        mut dead,
        mut torn,
        synced,
        before_torn,
        durable_len,
        ..
    } = state;
    let there = file.size()?.min(durable_len);
    members.sort_by_key(|member| member.header_offset);
    let mut missing = Vec::new();
    members.retain(|member| {
        let whole = end_of(member) <= there;
        if !whole {
            missing.push(format!("{}: the file ends before it does", member.name));
        }
        whole
    });
    dead.retain(|range| range.end() <= there);
    let tiled = tiles::keep_tiles(&mut members, &mut dead, &mut missing);
    torn = torn.filter(|torn| torn.data_offset <= there && tiles::follows(torn, tiled));
    if let Some(torn) = &mut torn {
        torn.chunks.retain(|chunk| chunk_end(chunk) <= there);
    }

    let lower = if all {
        0
    } else {
        there.saturating_sub(RECHECKED)
    };
    let mut damaged = find_damaged(file, &members, lower, there)?;
    if !damaged.is_empty() && lower > 0 {
        damaged = find_damaged(file, &members, 0, there)?;
    }
    let mut buried = changed_dead(file, &mut dead, lower)?;
    for index in damaged.iter().rev() {
        let member = members.remove(*index);
        let end = end_of(&member);
        let range = DeadRange {
            offset: member.header_offset,
            len: end - member.header_offset,
            blake3: durable::hash_range(file, member.header_offset, end)?,
            reason: format!("{}: damaged before it was resumed", member.name),
        };
        dead.push(range.clone());
        buried.push(range);
    }
    if let Some(kept) = &mut torn {
        let header = kept
            .opening
            .entry(kept.header_offset, Totals::UNKNOWN)
            .local_header();
        if !equals(file, kept.header_offset, &header)? {
            torn = None;
        } else {
            kept.chunks.truncate(tiles::contiguous(kept));
            let sound = sound_chunks(file, kept.opening.compression, &kept.chunks)?;
            kept.chunks.truncate(sound);
        }
    }
    let len = members
        .iter()
        .map(end_of)
        .chain(dead.iter().map(DeadRange::end))
        .chain(torn.iter().map(Torn::end))
        .max()
        .unwrap_or(0);
    // A state that covers damaged bytes would not be that of the file.
    let trusted = |known: &(u64, String), end: u64| known.0 <= end && !all && buried.is_empty();
    let torn = match torn {
        None => None,
        Some(torn) => {
            let known = before_torn.filter(|known| trusted(known, torn.header_offset));
            let before =
                hashing::hash_up_to(file, hashing::start(known.as_ref()), torn.header_offset)?;
            Some(TornTail::new(torn, before, "interrupted"))
        }
    };
    let start = match (synced.filter(|known| trusted(known, len)), &torn) {
        (None, Some(torn)) => (torn.torn.header_offset, torn.before.clone()),
        (known, _) => hashing::start(known.as_ref()),
    };
    let sha256 = hashing::hash_up_to(file, start, len)?;
    Ok(Recovered {
        members,
        dead,
        buried,
        missing,
        torn,
        len,
        sha256,
    })
}

/// Offset behind a member's last byte.
pub(crate) fn end_of(member: &Member) -> u64 {
    let descriptor = Entry::from(member).data_descriptor().len() as u64;
    let data_end = member.data_offset.saturating_add(member.stored_len);
    data_end.saturating_add(descriptor)
}

/// Dead bytes that reach behind `lower` and are not what their hashes say get the hashes they have:
/// nobody reads them, but they are guarded. Returns those.
fn changed_dead(
    file: &dyn DiskFile,
    dead: &mut [DeadRange],
    lower: u64,
) -> io::Result<Vec<DeadRange>> {
    let mut changed = Vec::new();
    for range in dead.iter_mut().filter(|range| range.end() > lower) {
        let blake3 = durable::hash_range(file, range.offset, range.end())?;
        if blake3 != range.blake3 {
            range.blake3 = blake3;
            range.reason.push_str("; its bytes have changed");
            changed.push(range.clone());
        }
    }
    Ok(changed)
}

/// Indices of members that reach behind `lower` and are not what their hashes say.
fn find_damaged(
    file: &dyn DiskFile,
    members: &[Member],
    lower: u64,
    end: u64,
) -> io::Result<Vec<usize>> {
    let mut damaged = Vec::new();
    for (index, member) in members.iter().enumerate() {
        if end_of(member) > lower && (end_of(member) > end || !is_sound(file, member)?) {
            damaged.push(index);
        }
    }
    Ok(damaged)
}

fn is_sound(file: &dyn DiskFile, member: &Member) -> io::Result<bool> {
    let entry = Entry::from(member);
    let data_end = member.data_offset + member.stored_len;
    let mut sound = check_sums(member).is_ok()
        && equals(file, member.header_offset, &entry.local_header())?
        && sound_chunks(file, member.compression, &member.chunks)? == member.chunks.len()
        && equals(file, data_end, &entry.data_descriptor())?;
    if sound && member.compression == Compression::Deflate {
        sound = equals(file, data_end - STREAM_END.len() as u64, &STREAM_END)?;
    }
    Ok(sound)
}

/// How many of the chunks, from the first on, have their hashes.
fn sound_chunks(
    file: &dyn DiskFile,
    compression: Compression,
    chunks: &[Chunk],
) -> io::Result<usize> {
    for (index, chunk) in chunks.iter().enumerate() {
        if read_stored(file, compression, chunk)?.is_none() {
            return Ok(index);
        }
    }
    Ok(chunks.len())
}

/// The stored bytes of a chunk; `None` when they do not have their hash.
pub(crate) fn read_stored(
    file: &dyn DiskFile,
    compression: Compression,
    chunk: &Chunk,
) -> io::Result<Option<Vec<u8>>> {
    let len = chunk.stored_len as usize;
    let expected = match compression {
        Compression::Stored => Some(chunk.blake3),
        Compression::Deflate => chunk.stored_blake3,
    };
    if len > MAX_STORED {
        return Ok(None);
    }
    let mut stored = vec![0; len];
    file.read_exact_at(&mut stored, chunk.offset)?;
    Ok((expected == Some(Digest::of(&stored))).then_some(stored))
}

fn equals(file: &dyn DiskFile, at: u64, expected: &[u8]) -> io::Result<bool> {
    let mut found = vec![0; expected.len()];
    file.read_exact_at(&mut found, at)?;
    Ok(found == expected)
}

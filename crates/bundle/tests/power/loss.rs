//! What a power cut leaves of what was not synced: nothing, everything, or anything between.
//!
//! - Bytes: every write since the last sync of the file may be there, lost, torn at any byte, or there
//!   in some of its sectors; so may every change of the length, and the length by itself. What was lost
//!   reads as what was there before, as zeros, or as what lay on the platter.
//! - Names: every change since the last sync of the folder may be there or not. A rename may leave both
//!   names. No synced name or byte is ever lost.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    common::Random,
    disk::{Image, Node, Op, ROOT, write},
};

/// What of that which was not synced is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    Nothing,
    Everything,
    /// As a seed decides.
    Some(u64),
}

const SECTOR: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Pending,
    /// A sync of it failed.
    Doubtful,
    /// Synced, but behind something doubtful.
    Sure,
}

/// What is on the platters after a power cut.
pub(crate) fn power_cut(base: &Image, log: &[Op], survival: Survival) -> Image {
    let mut image = base.clone();
    let mut bytes: BTreeMap<usize, Vec<(&Op, Fate)>> = BTreeMap::new();
    let mut names: BTreeMap<PathBuf, Vec<&Op>> = BTreeMap::new();
    let folder = |path: &Path| path.parent().unwrap().to_owned();
    for op in log {
        match op {
            Op::Create { path, inode } => {
                image
                    .files
                    .resize(image.files.len().max(inode + 1), Vec::new());
                names.entry(folder(path)).or_default().push(op);
            }
            Op::Folder { path } | Op::Unlink { path, .. } | Op::Rename { from: path, .. } => {
                names.entry(folder(path)).or_default().push(op);
            }
            Op::SyncFolder { folder } => {
                for op in names.remove(folder).unwrap_or_default() {
                    image.apply(op);
                }
            }
            Op::Write { inode, .. } | Op::Resize { inode, .. } => {
                bytes.entry(*inode).or_default().push((op, Fate::Pending));
            }
            Op::SyncFailed { inode } => turn(bytes.entry(*inode).or_default(), Fate::Doubtful),
            Op::Sync { inode } => {
                let pending = bytes.entry(*inode).or_default();
                turn(pending, Fate::Sure);
                if pending.iter().all(|(_, fate)| *fate == Fate::Sure) {
                    for (op, _) in pending.drain(..) {
                        image.apply(op);
                    }
                }
            }
        }
    }
    match survival {
        Survival::Nothing => {
            for (op, fate) in bytes.values().flatten() {
                if *fate == Fate::Sure {
                    image.apply(op);
                }
            }
        }
        Survival::Everything => {
            for (op, _) in bytes.values().flatten() {
                image.apply(op);
            }
            for op in names.values().flatten() {
                image.apply(op);
            }
        }
        Survival::Some(seed) => {
            let mut random = Random::new(seed);
            for (inode, pending) in &bytes {
                lose_bytes(&mut image.files[*inode], pending, &mut random);
            }
            for pending in names.values() {
                lose_names(&mut image, pending, &mut random);
            }
        }
    }
    // What stands in a folder whose name is lost is lost.
    let all = image.names.clone();
    let is_there = |above: &Path| !above.starts_with(ROOT) || all.get(above) == Some(&Node::Folder);
    image
        .names
        .retain(|path, _| path.ancestors().skip(1).all(is_there));
    image
}

fn turn(pending: &mut [(&Op, Fate)], into: Fate) {
    for (_, fate) in pending {
        if *fate == Fate::Pending {
            *fate = into;
        }
    }
}

fn lose_bytes(content: &mut Vec<u8>, pending: &[(&Op, Fate)], random: &mut Random) {
    let mut sizes = vec![content.len()];
    let mut size = content.len();
    let mut bound = content.len();
    // In order up to some point, or each by itself.
    let upto = match random.below(3) {
        0 => Some(random.below(pending.len() as u64 + 1) as usize),
        _ => None,
    };
    for (index, (op, fate)) in pending.iter().enumerate() {
        let whole = match (*fate, upto) {
            (Fate::Sure, _) => true,
            (_, Some(upto)) => index < upto,
            (_, None) => random.below(2) == 0,
        };
        match op {
            Op::Resize { size: to, .. } => {
                size = *to;
                if whole {
                    content.resize(*to, 0);
                }
            }
            Op::Write { offset, bytes, .. } => {
                size = size.max(offset + bytes.len());
                let torn = !whole && (upto.is_none() || upto == Some(index));
                if whole {
                    write(content, *offset, bytes);
                } else if torn && random.below(2) == 0 {
                    let len = random.below(bytes.len() as u64 + 1) as usize;
                    write(content, *offset, &bytes[..len]);
                } else if torn {
                    some_sectors(content, *offset, bytes, random);
                }
            }
            _ => {}
        }
        sizes.push(size);
        bound = bound.max(size);
    }
    let sure = pending.iter().any(|(_, fate)| *fate == Fate::Sure);
    if !sure && random.below(3) == 0 {
        let there = content.len();
        content.resize(sizes[random.below(sizes.len() as u64) as usize], 0);
        if content.len() > there && random.below(2) == 0 {
            // What another file left there.
            random.fill(&mut content[there..]);
        }
    }
}

fn some_sectors(content: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut Random) {
    let mut at = offset;
    while at < offset + bytes.len() {
        let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
        if random.below(2) == 0 {
            write(content, at, &bytes[at - offset..end - offset]);
        }
        at = end;
    }
}

fn lose_names(image: &mut Image, pending: &[&Op], random: &mut Random) {
    let upto = match random.below(2) {
        0 => Some(random.below(pending.len() as u64 + 1) as usize),
        _ => None,
    };
    for (index, op) in pending.iter().enumerate() {
        let there = match upto {
            Some(upto) => index < upto,
            None => random.below(2) == 0,
        };
        if !there {
            continue;
        }
        let before = image.names.clone();
        image.apply(op);
        match op {
            // Both names, for a moment.
            Op::Rename { from, inode, .. }
                if upto.is_none()
                    && before.get(from) == Some(&Node::File(*inode))
                    && random.below(3) == 0 =>
            {
                image.names.insert(from.clone(), Node::File(*inode));
            }
            // The name was given to another file whose creation is lost, or to none.
            Op::Unlink { path, inode }
            | Op::Rename {
                from: path, inode, ..
            } => {
                if let Some(other) = before.get(path).filter(|node| **node != Node::File(*inode)) {
                    image.names.insert(path.clone(), *other);
                }
            }
            _ => {}
        }
    }
}

//! An older bundle, so that what did not change since is copied and not made again.
//!
//! Two ways lead out of it:
//!
//! - A member that a source proves unchanged is *kept*: its chunks are copied as they are stored (see
//!   `offers`).
//! - A member that has to be read anyway (a dump, a database, a file that moved) is hashed chunk by chunk.
//!   A chunk that equals the one at its place in the older bundle is taken from there, compressed already.
//!
//! Nothing is copied whose hash was not checked on the way. What is damaged there, or cannot be read, is
//! made anew as if the older bundle did not have it. What an interrupted run of *this* bundle left comes
//! before what the older one holds.
//!
//! Memory: the older bundle's list of members, and one chunk.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use arkstream_format::{
    BaseBundle, Chunk, Component, Compression, Digest, Generation, Manifest, Member, Proof,
};
use arkstream_pipeline::{BundleReader as _, Event, Observer};

use crate::{
    check::check_sums,
    codec::EncodedChunk,
    disk::DiskFile,
    framing::check_name,
    reader::{BundleFile, ProvenChunk},
    resume::read_stored,
};

/// Members whose damage is told, at most. Each one that is made anew is logged besides.
const WARNINGS: usize = 8;

/// An older bundle that members are copied out of.
pub(crate) struct Older {
    pub(crate) base: BaseBundle,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    members: BTreeMap<String, Member>,
    observer: Arc<dyn Observer>,
    /// Names of members that are not what the manifest says.
    damaged: Mutex<BTreeSet<String>>,
}

/// Where a chunk of a stream may be found.
pub(crate) struct Origin {
    older: Arc<Older>,
    name: String,
    index: usize,
}

/// What a bundle that is opened upon an older one learns of it.
pub(crate) struct Adopted {
    pub(crate) older: Older,
    /// Generations that its members were read in and that are new here, with their numbers here.
    pub(crate) generations: Vec<Generation>,
}

/// What says which bundle it is. The number is given by whoever builds upon it.
pub(crate) fn identify(bundle: &BundleFile) -> BaseBundle {
    let manifest = bundle.manifest();
    let name = bundle.path().file_name().unwrap_or_default();
    BaseBundle {
        number: 0,
        manifest: bundle.manifest_digest(),
        run_id: manifest.run_id.clone(),
        taken_at: manifest
            .generations
            .last()
            .map_or(manifest.started_at, |last| last.taken_at),
        name: name.to_string_lossy().into_owned(),
        copied: BTreeMap::new(),
    }
}

impl Older {
    /// The members of `bundle` under the generations of the bundle that is built upon it: `known` are
    /// those that it has already.
    pub(crate) fn adopt(
        bundle: BundleFile,
        base: BaseBundle,
        known: &[Generation],
        observer: Arc<dyn Observer>,
    ) -> Adopted {
        let path = bundle.path().to_owned();
        let BundleFile { file, manifest, .. } = bundle;
        let Manifest {
            members,
            generations,
            ..
        } = manifest;
        let mut members: BTreeMap<String, Member> = members
            .into_iter()
            .filter(is_offered)
            .map(|member| (member.name.clone(), member))
            .collect();
        let needed: BTreeSet<u32> = members.values().filter_map(generation_of).collect();
        let (generations, numbers) = renumber(known, generations, &needed);
        for member in members.values_mut() {
            member.copied = None;
            if let Some(Proof::Rows(proof)) = &mut member.proof {
                match numbers.get(&proof.generation) {
                    Some(number) => proof.generation = *number,
                    // Nobody knows when it was read.
                    None => member.proof = None,
                }
            }
        }
        let older = Self {
            base,
            path,
            file,
            members,
            observer,
            damaged: Mutex::default(),
        };
        Adopted { older, generations }
    }

    /// Members of a component that are not known to be damaged.
    pub(crate) fn members(&self, component: Component) -> impl Iterator<Item = &Member> {
        let damaged = self.damaged().clone();
        let members = self.members.values();
        members
            .filter(move |member| member.component == component && !damaged.contains(&member.name))
    }

    /// The member of that name, unless it is known to be damaged.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        let member = self.members.get(name);
        member.filter(|_| !self.damaged().contains(name))
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stored bytes of a chunk; `None` when they are not what the manifest says, which is told.
    pub(crate) fn read(&self, member: &Member, chunk: &Chunk) -> Option<Vec<u8>> {
        let why = match read_stored(self.file.as_ref(), member.compression, chunk) {
            Ok(Some(stored)) => return Some(stored),
            Ok(None) => format!("the bytes at {} do not have their BLAKE3", chunk.offset),
            Err(error) => format!("the bytes at {} cannot be read: {error}", chunk.offset),
        };
        let name = &member.name;
        let (is_new, count) = {
            let mut damaged = self.damaged();
            (damaged.insert(name.clone()), damaged.len())
        };
        if is_new && count <= WARNINGS {
            let path = self.path.display();
            let more = match count {
                WARNINGS => "; more of this is not told",
                _ => "",
            };
            self.observer.event(&Event::Warning(format!(
                "{path} is damaged in {name}: {why}; it is made anew{more}"
            )));
        }
        None
    }

    /// Where chunk `index` of a stream of that name may be.
    pub(crate) fn origin(self: &Arc<Self>, name: &str, index: usize) -> Option<Origin> {
        self.members.contains_key(name).then(|| Origin {
            older: Arc::clone(self),
            name: name.to_owned(),
            index,
        })
    }
}

impl Origin {
    /// `raw` as the older bundle has it compressed, if it is the same chunk. Blocks.
    pub(crate) fn encoded(&self, raw: &Bytes) -> Option<EncodedChunk> {
        let member = self.older.members.get(&self.name)?;
        let chunk = member.chunks.get(self.index)?;
        // What did not shrink there is not worth reading; it is written as it is.
        let shrank = chunk.stored_len < chunk.raw_len;
        let same = member.compression == Compression::Deflate
            && shrank
            && chunk.raw_len as usize == raw.len()
            && chunk.blake3 == Digest::of(raw);
        if !same {
            return None;
        }
        let deflated = self.older.read(member, chunk)?;
        let bytes = ProvenChunk {
            raw: raw.clone(),
            stored: deflated.into(),
        };
        Some(EncodedChunk::proven(chunk, member.compression, bytes))
    }
}

fn is_offered(member: &Member) -> bool {
    member.component != Component::Description
        && !member.is_index()
        && check_name(&member.name).is_ok()
        && check_sums(member).is_ok()
}

fn generation_of(member: &Member) -> Option<u32> {
    match &member.proof {
        Some(Proof::Rows(proof)) => Some(proof.generation),
        _ => None,
    }
}

/// Gives the generations of an older bundle numbers that mean nothing else here. Those that no member
/// was read in are left out, or a chain of bundles would carry them all for ever. Returns what is new,
/// and the number here of each number there.
fn renumber(
    known: &[Generation],
    theirs: Vec<Generation>,
    needed: &BTreeSet<u32>,
) -> (Vec<Generation>, BTreeMap<u32, u32>) {
    let mut taken: BTreeSet<u32> = known.iter().map(|generation| generation.number).collect();
    let (mut new, mut numbers) = (Vec::new(), BTreeMap::new());
    for mut generation in theirs {
        let there = generation.number;
        if !needed.contains(&there) || numbers.contains_key(&there) {
            continue;
        }
        let same = known.iter().find(|known| {
            known.run_id == generation.run_id
                && known.taken_at == generation.taken_at
                && known.snapshots == generation.snapshots
        });
        let here = match same {
            Some(same) => same.number,
            None if taken.contains(&there) => taken.last().map_or(1, |last| last + 1),
            None => there,
        };
        numbers.insert(there, here);
        if same.is_none() {
            taken.insert(here);
            generation.number = here;
            new.push(generation);
        }
    }
    (new, numbers)
}

#[cfg(test)]
mod tests {
    use arkstream_format::RunId;
    use chrono::{DateTime, TimeDelta};

    use super::*;

    fn generation(number: u32, run: &str) -> Generation {
        Generation {
            number,
            run_id: RunId(run.into()),
            taken_at: DateTime::UNIX_EPOCH + TimeDelta::seconds(number.into()),
            barrier_skew_ms: 0,
            chroma_hold_ms: None,
            snapshots: Vec::new(),
        }
    }

    #[test]
    fn a_new_bundle_takes_over_the_numbers_of_generations_that_matter() {
        let theirs = vec![generation(1, "a"), generation(2, "b"), generation(3, "c")];
        let (new, numbers) = renumber(&[], theirs.clone(), &[1, 3].into());
        assert_eq!(new, [theirs[0].clone(), theirs[2].clone()]);
        assert_eq!(numbers, [(1, 1), (3, 3)].into());
    }

    #[test]
    fn a_number_never_means_two_generations() {
        // Begun without the older bundle, continued with it.
        let known = [generation(1, "own"), generation(2, "own")];
        let theirs = vec![generation(1, "a"), generation(4, "b")];
        let (new, numbers) = renumber(&known, theirs, &[1, 4].into());
        assert_eq!(numbers, [(1, 3), (4, 4)].into());
        assert_eq!(new.iter().map(|g| g.number).collect::<Vec<_>>(), [3, 4]);
        // Begun with it: they are known.
        let theirs = vec![generation(1, "own")];
        let (new, numbers) = renumber(&known, theirs, &[1].into());
        assert_eq!((new.len(), numbers), (0, [(1, 1)].into()));
    }
}

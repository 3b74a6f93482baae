//! What an interrupted run left in the file, and how this run builds upon it.
//!
//! A finished member is *earlier* until somebody keeps it, writes another one of its name, or the
//! bundle is published without it; then it is dead bytes. The member at which the run was interrupted
//! is *torn*: as long as nothing was appended behind it, it can be taken up after any of its chunks.
//! Members of an older bundle are earlier as well, where the interrupted run left none of their name (see
//! `offers`).

use std::io::Write as _;

use sha2::Sha256;

use arkstream_format::{
    CHUNK_SIZE, Chunk, Component, Compression, Digest, Member, Proof, journal::Record,
};
use arkstream_pipeline::{Failure, FailureKind, Kept};

use crate::{
    appender::Appender,
    hashing::{self, sha256_state},
    journal::Torn,
    opening::{OpenMember, Opening},
    resume::{end_of, read_stored},
};

/// The torn member at the end of the file.
pub(crate) struct TornTail {
    pub(crate) torn: Torn,
    /// SHA-256 of the file before its header.
    pub(crate) before: Sha256,
    /// Whether it was closed as dead bytes, because something else was appended.
    closed: bool,
    /// Why it is not finished.
    reason: String,
}

impl TornTail {
    pub(crate) fn new(torn: Torn, before: Sha256, reason: &str) -> Self {
        Self {
            torn,
            before,
            closed: false,
            reason: reason.to_owned(),
        }
    }
}

/// What there is under a name, to compare a stream with.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// As in its local header.
    pub(crate) opening: Opening,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) kind: CandidateKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CandidateKind {
    /// A finished member.
    Whole,
    /// Torn, at the end of the file.
    Torn,
    /// Torn, and dead bytes by now.
    Dead,
}

impl Appender {
    /// What sources wrote, in the order of the file: not the copies of the index.
    pub(crate) fn written(&self) -> Vec<&Member> {
        let members = self.members.iter();
        let mut written: Vec<_> = members.filter(|member| !member.is_index()).collect();
        written.sort_by_key(|member| member.header_offset);
        written
    }

    pub(crate) fn written_members(&self) -> Vec<Member> {
        self.written().into_iter().cloned().collect()
    }

    pub(crate) fn earlier_of(&self, component: Component) -> Vec<Member> {
        let members = self.earlier.values();
        members
            .filter(|member| member.component == component)
            .chain(self.offered_of(component))
            .cloned()
            .collect()
    }

    pub(crate) fn candidate(&self, name: &str) -> Option<Candidate> {
        if let Some(member) = self.earlier.get(name) {
            return Some(Candidate {
                opening: Opening {
                    name: member.name.clone(),
                    component: member.component,
                    compression: member.compression,
                    modified_at: member.modified_at,
                    mode: member.mode,
                    totals: None,
                },
                chunks: member.chunks.clone(),
                kind: CandidateKind::Whole,
            });
        }
        let tail = self.torn.as_ref()?;
        (tail.torn.opening.name == name).then(|| Candidate {
            opening: tail.torn.opening.clone(),
            chunks: tail.torn.chunks.clone(),
            kind: if tail.closed {
                CandidateKind::Dead
            } else {
                CandidateKind::Torn
            },
        })
    }

    /// Makes an earlier member one of this run; `None` where it is damaged in an older bundle.
    pub(crate) fn keep(
        &mut self,
        name: &str,
        proof: Option<Proof>,
    ) -> Result<Option<Member>, Failure> {
        let Some(mut member) = self.earlier.remove(name) else {
            return self.copy_offered(name, proof);
        };
        if proof.is_some() && proof != member.proof {
            member.proof = proof;
            self.note_again(&member)?;
        }
        self.list(member.clone());
        Ok(Some(member))
    }

    /// Gives a finished member another proof.
    pub(crate) fn prove(&mut self, name: &str, proof: Proof) -> Result<(), Failure> {
        // It was finished not long ago.
        let mut members = self.members.iter_mut().rev();
        let Some(member) = members.find(|member| member.name == name) else {
            let attempted = format!("prove member {name}");
            let why = "there is none of that name";
            return Err(Failure::new(FailureKind::Internal, attempted, why));
        };
        member.proof = Some(proof);
        let member = member.clone();
        self.note_again(&member)
    }

    /// Tells the journal what else is known of a member that it knows.
    fn note_again(&mut self, member: &Member) -> Result<(), Failure> {
        self.note(&Record::Member {
            end_offset: end_of(member),
            member: Box::new(member.clone()),
        })
    }

    /// What has the name of a member that is about to be written is superseded.
    pub(crate) fn replace(&mut self, name: &str) -> Result<(), Failure> {
        match self.earlier.remove(name) {
            Some(member) => self.bury_member(&member, "superseded by a resumed run"),
            None => Ok(()),
        }
    }

    /// Appends the first `count` chunks of a candidate to the open member.
    pub(crate) fn reuse(&mut self, candidate: &Candidate, count: usize) -> Result<(), Failure> {
        for chunk in candidate.chunks.iter().take(count) {
            let file = self.out.get_ref().file.as_ref();
            let stored = read_stored(file, candidate.opening.compression, chunk)
                .map_err(|error| self.failure(error))?
                .ok_or_else(|| self.damaged(chunk))?;
            self.append_stored(&stored, chunk.clone())?;
        }
        Ok(())
    }

    fn damaged(&self, chunk: &Chunk) -> Failure {
        Failure::new(
            FailureKind::Damaged,
            format!("read back {}", self.paths.partial.display()),
            format!("the bytes at {} do not have their BLAKE3", chunk.offset),
        )
        .help("run again with --recheck, which reads all of it, or with --fresh")
    }

    /// Opens the torn member again behind the first `count` of its chunks. What follows is cut off.
    pub(crate) fn continue_torn(&mut self, count: usize) -> Result<(), Failure> {
        let Some(mut tail) = self.torn.take().filter(|tail| !tail.closed) else {
            let why = "it is not at the end of the file any more";
            return Err(Failure::new(
                FailureKind::Internal,
                "continue a member",
                why,
            ));
        };
        let cut = tail.torn.chunks.len() > count;
        tail.torn.chunks.truncate(count);
        if cut {
            self.cut_off(&tail)?;
        }
        self.open = Some(OpenMember::of_torn(tail.torn, tail.before));
        Ok(())
    }

    fn cut_off(&mut self, tail: &TornTail) -> Result<(), Failure> {
        self.out.flush().map_err(|error| self.failure(error))?;
        let end = tail.torn.end();
        let start = (tail.torn.header_offset, tail.before.clone());
        let sha256 = hashing::hash_up_to(self.out.get_ref().file.as_ref(), start, end)
            .map_err(|error| self.failure(error))?;
        self.cut_at(end, sha256)
    }

    /// Cuts off what stands behind `end`; `sha256` is that of the bytes before it.
    pub(crate) fn cut_at(&mut self, end: u64, sha256: Sha256) -> Result<(), Failure> {
        self.sync()?;
        // The journal must not speak of what is about to go.
        self.note(&Record::Cut {
            len: end,
            sha256: sha256_state(&sha256),
        })?;
        self.sync()?;
        let outcome = (|| {
            let out = self.out.get_mut();
            out.sha256 = sha256;
            out.file.set_size(end)?;
            out.at = end;
            Ok(())
        })();
        outcome.map_err(|error| self.failure(error))?;
        self.offset = end;
        self.base = self.base.min(end);
        Ok(())
    }

    /// Closes the torn member as a valid entry that the directory does not list: something else is
    /// about to be appended.
    pub(crate) fn close_torn(&mut self) -> Result<(), Failure> {
        let Some(mut tail) = self.torn.take() else {
            return Ok(());
        };
        if !tail.closed {
            self.open = Some(OpenMember::of_torn(tail.torn.clone(), tail.before.clone()));
            self.close_as_dead(&tail.reason)?;
            tail.closed = true;
        }
        self.torn = Some(tail);
        Ok(())
    }

    /// What of the interrupted run is among these members. A torn member counts as far as it was
    /// taken over.
    pub(crate) fn kept(&self, members: &[Member]) -> Kept {
        let earlier = members.iter().filter(|m| m.header_offset < self.base);
        earlier.fold(Kept::default(), |kept, member| Kept {
            members: kept.members + u64::from(!member.is_index()),
            bytes: kept.bytes + end_of(member).min(self.base) - member.header_offset,
        })
    }

    /// Gives the open member up. As long as nothing is appended behind it, it can be taken up again.
    pub(crate) fn abandon(&mut self, reason: &str) -> Result<(), Failure> {
        let Some(mut open) = self.open.take() else {
            return Ok(());
        };
        let Some(before) = open.before.take() else {
            // It is written whole, so nothing is won by keeping a part of it.
            self.open = Some(open);
            return self.close_as_dead(reason);
        };
        self.torn = Some(TornTail::new(open.into_torn(), before, reason));
        Ok(())
    }

    /// Everything of this generation has to be proven or streamed again.
    pub(crate) fn set_aside(&mut self) -> Result<(), Failure> {
        self.abandon("the generation was given up")?;
        self.names.clear();
        let members = std::mem::take(&mut self.members);
        self.take_over(members);
        self.sync()
    }

    /// Members that have to be proven again. Copies of the index describe bytes, which stay where
    /// they are, so these are kept.
    pub(crate) fn take_over(&mut self, members: Vec<Member>) {
        for member in members {
            if member.is_index() {
                self.list(member);
            } else {
                self.earlier.insert(member.name.clone(), member);
            }
        }
    }

    /// What nobody kept is not in the bundle.
    pub(crate) fn sweep(&mut self) -> Result<(), Failure> {
        self.abandon("given up")?;
        self.close_torn()?;
        for member in std::mem::take(&mut self.earlier).into_values() {
            self.bury_member(&member, "not part of the resumed backup")?;
        }
        self.out.flush().map_err(|error| self.failure(error))
    }
}

impl OpenMember {
    fn of_torn(torn: Torn, before: Sha256) -> Self {
        let mut open = Self {
            opening: torn.opening,
            before: Some(before),
            header_offset: torn.header_offset,
            data_offset: torn.data_offset,
            crc32: Default::default(),
            raw_len: 0,
            chunks: Vec::new(),
            copied: None,
        };
        for chunk in torn.chunks {
            open.take_chunk(chunk);
        }
        open
    }
}

impl OpenMember {
    fn into_torn(self) -> Torn {
        Torn {
            opening: self.opening,
            header_offset: self.header_offset,
            data_offset: self.data_offset,
            chunks: self.chunks,
        }
    }
}

impl Candidate {
    /// Whether a member of these properties would have the same header.
    pub(crate) fn looks_like(&self, mode: u32, modified_at: chrono::DateTime<chrono::Utc>) -> bool {
        self.opening.mode == mode && self.opening.modified_at.timestamp() == modified_at.timestamp()
    }

    /// How its chunks are stored.
    pub(crate) fn compression(&self) -> Compression {
        self.opening.compression
    }

    /// Whether its bytes are these.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let pieces = bytes.chunks(CHUNK_SIZE);
        pieces.len() == self.chunks.len()
            && pieces
                .zip(&self.chunks)
                .all(|(piece, chunk)| chunk.blake3 == Digest::of(piece))
    }
}

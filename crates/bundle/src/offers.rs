//! Members of an older bundle, offered beside what an interrupted run left, and copied when they are kept.
//!
//! A member that turns out to be damaged in the middle of its copy is cut off again: nothing of it was
//! journaled, so the bundle is as if it had never been begun.

use std::sync::Arc;

use arkstream_format::{BaseBundle, Component, Generation, Member, Proof, journal::Record};
use arkstream_pipeline::{Failure, FailureKind, MemberFacts};

use crate::{
    appender::Appender,
    older::{Adopted, Older, identify},
    opening::{Opening, Totals},
    reader::BundleFile,
};

impl Appender {
    /// Offers the members of an older bundle. The journal learns of it, and of the generations that read
    /// them, before anything is copied.
    pub(crate) fn build_upon(
        &mut self,
        bundle: BundleFile,
        generations: &mut Vec<Generation>,
        bases: &mut Vec<BaseBundle>,
    ) -> Result<Arc<Older>, Failure> {
        let mut base = identify(&bundle);
        let known = bases.iter().find(|known| known.manifest == base.manifest);
        base.number = match known {
            Some(known) => known.number,
            None => bases.len() as u32 + 1,
        };
        if known.is_none() {
            self.note(&Record::Base { base: base.clone() })?;
            bases.push(base.clone());
        }
        let observer = Arc::clone(&self.out.get_ref().wait.observer);
        let Adopted {
            older,
            generations: new,
        } = Older::adopt(bundle, base, generations, observer);
        for generation in new {
            self.note(&Record::Generation {
                generation: generation.clone(),
            })?;
            generations.push(generation);
        }
        self.sync()?;
        let older = Arc::new(older);
        self.older = Some(Arc::clone(&older));
        Ok(older)
    }

    /// Members of an older bundle in whose place there is nothing yet.
    pub(crate) fn offered_of(&self, component: Component) -> impl Iterator<Item = &Member> {
        let older = self.older.iter();
        let members = older.flat_map(move |older| older.members(component));
        members.filter(|member| {
            !self.earlier.contains_key(&member.name) && !self.names.contains(&member.name)
        })
    }

    /// Copies a member out of the older bundle; `None` where it is damaged there.
    pub(crate) fn copy_offered(
        &mut self,
        name: &str,
        proof: Option<Proof>,
    ) -> Result<Option<Member>, Failure> {
        let offered = self.older.as_ref().and_then(|older| {
            let member = older.member(name)?;
            Some((Arc::clone(older), member.clone()))
        });
        let Some((older, there)) = offered else {
            let attempted = format!("keep member {name}");
            let why = "neither an interrupted run nor an older bundle left one of that name";
            return Err(Failure::new(FailureKind::Internal, attempted, why));
        };
        let mut first = None;
        if let Some(chunk) = there.chunks.first() {
            first = older.read(&there, chunk);
            if first.is_none() {
                return Ok(None);
            }
        }
        self.abandon("given up")?;
        self.close_torn()?;
        let start = self.offset;
        // Most members have one chunk, which is known to be good.
        let before = match there.chunks.len() {
            0 | 1 => None,
            _ => Some(self.sha256()?),
        };
        self.open(Opening {
            name: there.name.clone(),
            component: there.component,
            compression: there.compression,
            modified_at: there.modified_at,
            mode: there.mode,
            totals: Some(Totals {
                crc32: there.crc32,
                raw_len: there.raw_len,
                stored_len: there.stored_len,
            }),
        })?;
        for chunk in &there.chunks {
            let Some(stored) = first.take().or_else(|| older.read(&there, chunk)) else {
                self.open = None;
                if let Some(before) = before {
                    self.cut_at(start, before)?;
                }
                return Ok(None);
            };
            self.append_stored(&stored, chunk.clone())?;
            self.count_copied(chunk.stored_len);
        }
        self.count_copied(0);
        let member = self.end_data(MemberFacts {
            rows: there.rows,
            proof: proof.or(there.proof),
        })?;
        self.take(member.clone())?;
        Ok(Some(member))
    }

    /// Counts bytes of the open member that were copied out of the older bundle.
    pub(crate) fn count_copied(&mut self, bytes: u32) {
        if let (Some(open), Some(older)) = (&mut self.open, &self.older) {
            open.count_copied(older.base.number, bytes);
        }
    }
}

//! Parts of an interrupted run or an older bundle: which of them are proven unchanged under the new
//! snapshot.
//!
//! 1. Equal row versions, `(ctid, xmin)`, prove equal rows within **one uninterrupted history** of the
//!    server. A restarted server may stand on a data directory that was reverted and written again:
//!    then count, hash, relfilenode, timeline and transaction ids can all be equal for other rows.
//! 2. Where that proves nothing, the rows are read again and the COPY streams compared; what is equal
//!    is neither encoded nor written.
//!
//! A part is kept together with the members that belong to it (further files, large values), or not at all.
//! They are known by their digests: an interrupted run may have replaced one of them and not the part.
//!
//! What no earlier part covers is exported: new blocks, ranges whose rows changed or moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use std::cmp::Reverse;

use arkstream_format::{
    Attached, Component, Digest, KeptBy, Member, Proof, RowVersions, RowsProof, ServerInfo,
};
use arkstream_pipeline::{Event, Failure, Run};
use futures::{Stream, StreamExt};

use super::Setting;
use super::ranges::{File, Kept, Parts, Range, Relation, Work};
use super::versions::VersionsQuery;
use crate::task::TableTask;

/// Why a part that is proven unchanged is made anew.
pub(super) const DAMAGED: &str = "it is damaged in the older bundle";

/// Half of the 32 bits that row versions carry of a transaction id: beyond, they repeat.
const XID_HALF: u64 = 1 << 31;

/// Parts of earlier generations, by the folder of their members.
pub(super) struct Earlier {
    parts: HashMap<String, Vec<Member>>,
    /// Digest and rows of the members that have no proof of their own.
    attached: HashMap<String, (Digest, u64)>,
    /// Why row versions of a generation prove nothing; `None` when they do.
    histories: BTreeMap<u32, Option<&'static str>>,
}

impl Earlier {
    pub(super) async fn of(setting: &Setting<'_>) -> Result<Self, Failure> {
        let mut parts: HashMap<String, Vec<Member>> = HashMap::new();
        let mut attached = HashMap::new();
        for member in setting.run.sink.earlier(Component::Models).await? {
            if member.proof.is_none() {
                let known = (member.digest, member.rows.unwrap_or_default());
                attached.insert(member.name.clone(), known);
            }
            if let Some((folder, _)) = member.name.rsplit_once('/') {
                parts.entry(format!("{folder}/")).or_default().push(member);
            }
        }
        let histories = setting.run.generations.iter().map(|generation| {
            let then = generation
                .snapshots
                .iter()
                .find(|snapshot| snapshot.component == Component::Models);
            let broken = then.map_or(Some("the server is not known"), |then| {
                break_between(&then.server, setting.server)
            });
            (generation.number, broken)
        });
        let histories: BTreeMap<_, _> = histories.collect();
        if !parts.is_empty() {
            for (generation, broken) in &histories {
                if let Some(why) = broken {
                    setting.run.tell(Event::Note(format!(
                        "rows of generation {generation} are read again and compared: {why}"
                    )));
                }
            }
        }
        Ok(Self {
            parts,
            attached,
            histories,
        })
    }

    /// Names that members of a folder have: none of them is given to a new part, or a part that is kept
    /// later would meet its own name.
    pub(super) fn names(&self, member_dir: &str) -> BTreeSet<String> {
        let members = self.parts.get(member_dir).into_iter().flatten();
        members.map(|member| member.name.clone()).collect()
    }

    /// What may be unchanged of a relation, in the order of its blocks.
    pub(super) fn candidates(&self, task: &TableTask, relation: &Relation) -> Vec<Candidate> {
        let members = self.parts.get(&task.member_dir).into_iter().flatten();
        let of_relation = members.filter_map(|member| match &member.proof {
            Some(Proof::Rows(proof)) if proof.relation_oid == relation.oid() => {
                Some((member, proof))
            }
            _ => None,
        });
        let mut found: Vec<_> = of_relation.collect();
        // Of two that begin alike, the newer one knows more of the table.
        found.sort_by_key(|(_, proof)| (proof.first_block, Reverse(proof.generation)));
        found
            .into_iter()
            .map(|(member, proof)| {
                let files = self.files(member, proof);
                let question = match files {
                    Some(_) => self.question(relation, proof),
                    None => Question::None("members that belong to it are gone or were replaced"),
                };
                Candidate {
                    member: member.name.clone(),
                    kept: Kept {
                        files: files.unwrap_or_default(),
                        with: proof.with.clone(),
                        generation: proof.generation,
                    },
                    question,
                }
            })
            .collect()
    }

    /// The files of a part; `None` where a member that belongs to it is not there as it was.
    fn files(&self, member: &Member, proof: &RowsProof) -> Option<Vec<File>> {
        let mut files = Vec::new();
        let mut large = Vec::new();
        for Attached { member, digest } in &proof.with {
            let (_, rows) = self
                .attached
                .get(member)
                .filter(|(found, _)| found == digest)?;
            if member.ends_with(".parquet") {
                files.push(File {
                    member: member.clone(),
                    rows: *rows,
                    large: std::mem::take(&mut large),
                });
            } else {
                large.push(member.clone());
            }
        }
        files.push(File {
            member: member.name.clone(),
            rows: member.rows.unwrap_or_default(),
            large,
        });
        Some(files)
    }

    fn question(&self, relation: &Relation, proof: &RowsProof) -> Question {
        let Some(range) = relation.whole.of_proof(proof) else {
            return Question::None("the table was rewritten or redefined");
        };
        // What has come behind the last part, whose end is open, is another part.
        let grown = range.end_block.is_none() && range.heap_blocks > proof.heap_blocks;
        let closed = proof.heap_blocks > range.first_block;
        let range = match grown && closed {
            true => range.between(range.first_block, Some(proof.heap_blocks)),
            false => range,
        };
        let unbroken = matches!(self.histories.get(&proof.generation), Some(None));
        match &proof.versions {
            Some(before) if unbroken => Question::Versions(range, before.clone()),
            // All that has come since would be one part, however much it is.
            _ if grown && !closed => Question::None("the table has grown"),
            _ => Question::Content(range, proof.content),
        }
    }
}

/// A part of an earlier generation.
pub(super) struct Candidate {
    member: String,
    kept: Kept,
    question: Question,
}

/// What proves a part unchanged.
enum Question {
    /// Nothing does, for this reason.
    None(&'static str),
    /// Equal row versions of this range.
    Versions(Range, RowVersions),
    /// An equal COPY stream of this range.
    Content(Range, Digest),
}

impl Candidate {
    /// What has to be asked of the server, if anything.
    pub(super) fn query(&self, task: &TableTask) -> Option<VersionsQuery> {
        match &self.question {
            Question::Versions(range, _) => Some(VersionsQuery::of(task, range)),
            Question::None(_) | Question::Content(..) => None,
        }
    }
}

/// Takes over what is proven, and plans to compare what may be unchanged. `answers` has what
/// the server said to the candidates' queries, in their order.
pub(super) async fn reuse(
    setting: &Setting<'_>,
    task: &TableTask,
    candidates: Vec<Candidate>,
    answers: &mut (impl Stream<Item = RowVersions> + Unpin),
    parts: &mut Parts<'_>,
) -> Result<(), Failure> {
    let run = setting.run;
    let mut covered = Some(0);
    for Candidate {
        member,
        kept,
        question,
    } in candidates
    {
        let now = match &question {
            Question::Versions(..) => answers.next().await,
            Question::None(_) | Question::Content(..) => None,
        };
        let (range, work) = match question {
            Question::None(reason) => {
                run.redo(Component::Models, &member, reason);
                continue;
            }
            // Of two that overlap, one is superseded.
            Question::Versions(range, _) | Question::Content(range, _)
                if covered.is_none_or(|end| range.first_block < end) =>
            {
                run.redo(Component::Models, &member, "another part covers its rows");
                continue;
            }
            Question::Content(range, content) => (range, Work::Compare(kept, content)),
            Question::Versions(range, before) => {
                if now != Some(before) {
                    run.redo(Component::Models, &member, "its rows changed");
                    continue;
                }
                if !keep_all(run, &member, None, &kept.with).await? {
                    run.redo(Component::Models, &member, DAMAGED);
                    continue;
                }
                let by = Some(KeptBy::RowVersions);
                let entries = range.entries(task, &kept.files, kept.generation, by);
                (range, Work::Keep(entries))
            }
        };
        covered = range.end_block;
        parts.add(&member, range, work);
    }
    Ok(())
}

/// Keeps a part with everything that belongs to it; false, and nothing is kept, where a part of it is
/// damaged in an older bundle.
///
/// # Errors
/// When the sink fails.
pub(super) async fn keep_all(
    run: &Run,
    member: &str,
    proof: Option<Proof>,
    with: &[Attached],
) -> Result<bool, Failure> {
    let mut kept = Vec::with_capacity(with.len() + 1);
    for name in with.iter().map(|attached| attached.member.as_str()) {
        kept.push(run.sink.keep(name, None).await?);
        if let Some(None) = kept.last() {
            break;
        }
    }
    if kept.iter().all(Option::is_some) {
        kept.push(run.sink.keep(member, proof).await?);
    }
    if kept.iter().all(Option::is_some) {
        kept.iter().flatten().for_each(|member| run.kept(member));
        return Ok(true);
    }
    for member in kept.iter().flatten() {
        run.sink.retract(&member.name, DAMAGED).await?;
    }
    Ok(false)
}

/// Why equal row versions prove nothing between two moments; `None` when they do.
fn break_between(then: &ServerInfo, now: &ServerInfo) -> Option<&'static str> {
    let known = |info: &ServerInfo| {
        info.system_identifier.is_some()
            && info.timeline.is_some()
            && info.postmaster_started_at.is_some()
            && info.wal_lsn.is_some()
            && info.next_xid.is_some()
    };
    if !known(then) || !known(now) {
        return Some("the role may not ask for the server's history");
    }
    if then.system_identifier != now.system_identifier || then.database_oid != now.database_oid {
        return Some("it is another server or database");
    }
    if then.timeline != now.timeline || then.postmaster_started_at != now.postmaster_started_at {
        return Some("the server was restarted");
    }
    if lsn(then) > lsn(now) || xid(then) > xid(now) || lsn(now).is_none() || xid(now).is_none() {
        return Some("the server went back in its history");
    }
    let transactions = xid(now)?.saturating_sub(xid(then)?);
    (transactions >= XID_HALF).then_some("transaction ids may have repeated")
}

fn lsn(info: &ServerInfo) -> Option<u64> {
    let (high, low) = info.wal_lsn.as_ref()?.split_once('/')?;
    let high = u64::from_str_radix(high, 16).ok()?;
    Some(high << 32 | u64::from_str_radix(low, 16).ok()?)
}

fn xid(info: &ServerInfo) -> Option<u64> {
    info.next_xid.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> ServerInfo {
        ServerInfo {
            database_oid: 5,
            system_identifier: Some("7".into()),
            timeline: Some(1),
            postmaster_started_at: Some("2026-01-01T00:00:00Z".into()),
            wal_lsn: Some("1/FF000000".into()),
            next_xid: Some("900".into()),
            ..ServerInfo::default()
        }
    }

    #[test]
    fn only_one_uninterrupted_history_of_the_server_proves_row_versions() {
        let then = server();
        let later = ServerInfo {
            wal_lsn: Some("2/00000000".into()),
            next_xid: Some("901".into()),
            ..server()
        };
        assert_eq!(break_between(&then, &then), None);
        assert_eq!(break_between(&then, &later), None);
        assert!(break_between(&later, &then).is_some(), "it went back");
        let some = |text: &str| Some(text.to_owned());
        for other in [
            ServerInfo {
                database_oid: 6,
                ..server()
            },
            ServerInfo {
                system_identifier: some("8"),
                ..server()
            },
            ServerInfo {
                timeline: Some(2),
                ..server()
            },
            ServerInfo {
                postmaster_started_at: some("2026-01-01T00:00:01Z"),
                ..server()
            },
            ServerInfo {
                wal_lsn: some("0/FF000001"),
                ..server()
            },
            ServerInfo {
                next_xid: some("899"),
                ..server()
            },
            ServerInfo {
                next_xid: some("2147484548"),
                ..server()
            },
            ServerInfo {
                next_xid: None,
                ..server()
            },
            ServerInfo {
                timeline: None,
                ..server()
            },
            ServerInfo {
                system_identifier: None,
                ..server()
            },
            ServerInfo {
                wal_lsn: some("x"),
                ..server()
            },
        ] {
            assert!(break_between(&then, &other).is_some(), "{other:?}");
        }
    }
}

//! Ranges of heap blocks, and the parts they are read in.

use std::collections::BTreeSet;

use arkstream_columnar::TableLayout;
use arkstream_format::{Attached, Digest, KeptBy, LargeEntry, PartEntry, RowsProof};

use super::definition::Definition;
use super::plan::Stored;
use crate::catalog::TableRef;
use crate::task::TableTask;

/// The first version that scans a range of blocks without reading the others.
const TID_RANGE_SCAN: i32 = 140_000;

/// A part, and what has to be done for it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The name of its member.
    pub(super) member: String,
    pub(super) range: Range,
    pub(super) work: Work,
}

/// What has to be done for a part.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Read and write it.
    Export,
    /// Read it, and write it only if its content is not what an earlier generation wrote.
    Compare(Kept, Digest),
    /// Nothing: it is proven unchanged.
    Keep(Vec<PartEntry>),
}

/// A part of an earlier generation.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) files: Vec<File>,
    /// The members that belong to it, as its proof lists them.
    pub(super) with: Vec<Attached>,
    pub(super) generation: u32,
}

/// A file of a part. Most have one.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) member: String,
    pub(super) rows: u64,
    /// Members that hold large values of it.
    pub(super) large: Vec<String>,
}

impl File {
    pub(super) fn new(member: &str, rows: u64, large: &[LargeEntry]) -> Self {
        Self {
            member: member.to_owned(),
            rows,
            large: large.iter().map(|value| value.member.clone()).collect(),
        }
    }
}

/// A range of blocks of one relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The table, or one of its leaves; `None` for the rows of a query.
    pub(super) relation: Option<TableRef>,
    pub(super) relfilenode: Option<u32>,
    /// Whether the range is read by its blocks, or is all there is.
    pub(super) by_blocks: bool,
    pub(super) first_block: u32,
    pub(super) end_block: Option<u32>,
    /// Blocks of the relation under the snapshot.
    pub(super) heap_blocks: u32,
    /// What decides how a row is read and written.
    pub(super) definition: Digest,
    /// Whether equal row versions have equal values.
    pub(super) versioned: bool,
}

/// A relation, ready to be cut into ranges.
pub(super) struct Relation {
    /// All of it.
    pub(super) whole: Range,
    bytes_per_block: u64,
}

/// What of a task is read one after the other: a table, its leaves, or a query (`None`).
pub(super) fn relations_of(task: &TableTask) -> Vec<Option<&TableRef>> {
    let table = &task.table;
    if task.virtual_query.is_some() {
        vec![None]
    } else if table.kind == 'p' && !table.leaves.is_empty() {
        table.leaves.iter().map(Some).collect()
    } else {
        vec![Some(&table.table)]
    }
}

/// The SELECT without its FROM.
pub(super) fn select(layout: &TableLayout) -> String {
    format!("SELECT {}", layout.select_list())
}

impl Relation {
    /// The rows of a query.
    pub(super) fn of_query(task: &TableTask, layout: &TableLayout) -> Self {
        Self {
            whole: Range {
                relation: None,
                relfilenode: None,
                by_blocks: false,
                first_block: 0,
                end_block: None,
                heap_blocks: 0,
                definition: define(task, layout, ""),
                versioned: false,
            },
            bytes_per_block: 1,
        }
    }

    /// A relation with a file, or a view.
    pub(super) fn stored(
        task: &TableTask,
        layout: &TableLayout,
        relation: &TableRef,
        stored: &Stored,
        definition: Option<&Definition>,
        version: i32,
    ) -> Self {
        let by_blocks = stored.in_blocks && version >= TID_RANGE_SCAN;
        let columns = definition.map_or("", |definition| &definition.columns);
        let versioned = definition.is_some_and(|definition| definition.versioned);
        Self {
            whole: Range {
                relation: Some(relation.clone()),
                relfilenode: stored.relfilenode,
                by_blocks,
                first_block: 0,
                end_block: None,
                heap_blocks: stored.blocks,
                definition: define(task, layout, columns),
                versioned: by_blocks && versioned,
            },
            bytes_per_block: (stored.bytes / u64::from(stored.blocks.max(1))).max(1),
        }
    }

    /// OID of the relation; 0 for a query.
    pub(super) fn oid(&self) -> u32 {
        self.whole.relation.as_ref().map_or(0, |table| table.oid)
    }

    fn blocks_per_part(&self, part_bytes: u64) -> u32 {
        if !self.whole.by_blocks {
            return u32::MAX;
        }
        u32::try_from(part_bytes / self.bytes_per_block)
            .unwrap_or(u32::MAX)
            .max(1)
    }
}

/// Everything that decides how a row becomes bytes in Parquet, and which rows there are.
fn define(task: &TableTask, layout: &TableLayout, columns: &str) -> Digest {
    let text = format!(
        "{}\n{}\n{}\n{:?}\n{:?}\n{:?}\n{columns}",
        task.member_dir,
        task.table.table.qualified(),
        select(layout),
        task.filter,
        task.virtual_query,
        layout.columns(),
    );
    Digest::of(text.as_bytes())
}

impl Range {
    /// A part of it.
    pub(super) fn between(&self, first_block: u32, end_block: Option<u32>) -> Self {
        Self {
            first_block,
            end_block,
            ..self.clone()
        }
    }

    /// FROM and WHERE of its rows.
    pub(super) fn from(&self, task: &TableTask) -> String {
        let mut conditions = Vec::new();
        let source = match (&task.virtual_query, &self.relation) {
            (Some(query), _) => format!("({}) AS t", query.sql),
            (None, Some(relation)) => format!("ONLY {} AS t", relation.sql()),
            (None, None) => format!("ONLY {} AS t", task.table.table.sql()),
        };
        if self.by_blocks {
            if self.first_block > 0 {
                conditions.push(format!("t.ctid >= '({},0)'", self.first_block));
            }
            if let Some(end) = self.end_block {
                conditions.push(format!("t.ctid < '({end},0)'"));
            }
        }
        if let Some(filter) = task.cheaper_filter.as_ref().or(task.filter.as_ref()) {
            conditions.push(format!("({filter})"));
        }
        match conditions.is_empty() {
            true => format!("FROM {source}"),
            false => format!("FROM {source} WHERE {}", conditions.join(" AND ")),
        }
    }

    /// What the manifest says of its files.
    pub(super) fn entries(
        &self,
        task: &TableTask,
        files: &[File],
        generation: u32,
        kept_by: Option<KeptBy>,
    ) -> Vec<PartEntry> {
        let relation = self.relation.as_ref().unwrap_or(&task.table.table);
        let entries = files.iter().map(|file| PartEntry {
            member: file.member.clone(),
            rows: file.rows,
            relation: relation.qualified(),
            relfilenode: self.relfilenode,
            first_block: self.first_block,
            end_block: self.end_block,
            generation,
            kept_by,
            large: file.large.clone(),
        });
        entries.collect()
    }

    /// The range that a part of an earlier generation was read in, if it was one of this relation as
    /// it is now.
    pub(super) fn of_proof(&self, proof: &RowsProof) -> Option<Self> {
        let same = proof.relfilenode == self.relfilenode && proof.definition == self.definition;
        let whole = proof.first_block == 0 && proof.end_block.is_none();
        (same && (self.by_blocks || whole))
            .then(|| self.between(proof.first_block, proof.end_block))
    }
}

/// The parts of a table, as they are found and planned.
pub(super) struct Parts<'a> {
    member_dir: &'a str,
    /// Parts with the position of their relation.
    parts: Vec<(usize, Part)>,
    relation: usize,
    names: BTreeSet<String>,
    next: usize,
}

impl<'a> Parts<'a> {
    /// `names` are taken.
    pub(super) fn new(member_dir: &'a str, names: BTreeSet<String>) -> Self {
        Self {
            member_dir,
            parts: Vec::new(),
            relation: 0,
            names,
            next: 0,
        }
    }

    /// Takes over a part of an earlier generation.
    pub(super) fn add(&mut self, member: &str, range: Range, work: Work) {
        self.push(member.to_owned(), range, work);
    }

    fn push(&mut self, member: String, range: Range, work: Work) {
        let part = Part {
            member,
            range,
            work,
        };
        self.parts.push((self.relation, part));
    }

    /// Plans what no part of the relation covers yet, and goes on to the next relation.
    pub(super) fn fill_gaps(&mut self, relation: &Relation, part_bytes: u64) {
        let mut taken: Vec<(u32, Option<u32>)> = self
            .parts
            .iter()
            .filter(|(index, _)| *index == self.relation)
            .map(|(_, part)| (part.range.first_block, part.range.end_block))
            .collect();
        taken.sort_unstable();
        let step = relation.blocks_per_part(part_bytes);
        let mut at = Some(0);
        for (first, end) in taken {
            if let Some(from) = at.filter(|from| *from < first) {
                self.cut(relation, step, from, Some(first));
            }
            at = end;
        }
        if let Some(from) = at {
            self.cut(relation, step, from, None);
        }
        self.relation += 1;
    }

    fn cut(&mut self, relation: &Relation, step: u32, from: u32, to: Option<u32>) {
        let last = to.unwrap_or(relation.whole.heap_blocks);
        let mut first = from;
        loop {
            let next = first.checked_add(step).filter(|next| *next < last);
            let member = self.next_member();
            let range = relation.whole.between(first, next.or(to));
            self.push(member, range, Work::Export);
            match next {
                Some(next) => first = next,
                None => return,
            }
        }
    }

    fn next_member(&mut self) -> String {
        loop {
            let name = format!("{}part-{:05}.parquet", self.member_dir, self.next);
            self.next += 1;
            if !self.names.contains(&name) {
                return name;
            }
        }
    }

    /// The parts in the order of their relations and blocks.
    pub(super) fn in_order(mut self) -> Vec<Part> {
        self.parts
            .sort_by_key(|(relation, part)| (*relation, part.range.first_block));
        let mut parts: Vec<Part> = self.parts.into_iter().map(|(_, part)| part).collect();
        // Most tables have one part; the room that was made for four is most of what is known of them.
        parts.shrink_to_fit();
        parts
    }
}

//! What the manifest says is in the bundle must be there, once.

use std::collections::BTreeMap;

use arkstream_format::{Component, Manifest, Member, Salvage};
use arkstream_pipeline::{Finding, Place};

/// Compares the manifest's tables and summaries with its members.
pub(crate) fn check(manifest: &Manifest) -> Vec<Finding> {
    let members: BTreeMap<&str, &Member> = manifest
        .members
        .iter()
        .map(|m| (m.name.as_str(), m))
        .collect();
    let lost = |name: &str| {
        let salvage = manifest.salvage.as_ref();
        salvage.is_some_and(|salvage| salvage.lost_member(name) || hides(salvage))
    };
    let mut wrong = Vec::new();
    for table in &manifest.tables {
        let mut rows = 0;
        for part in &table.parts {
            rows += part.rows;
            match members.get(part.member.as_str()) {
                // It is told below.
                None if lost(&part.member) => {}
                None => wrong.push(format!(
                    "{}: its part {} is not in the bundle",
                    table.table, part.member
                )),
                Some(member) if member.rows != Some(part.rows) => wrong.push(format!(
                    "{}: its part {} has {} rows, the member {:?}",
                    table.table, part.member, part.rows, member.rows
                )),
                Some(_) => {}
            }
            for value in &part.large {
                if !members.contains_key(value.as_str()) && !lost(value) {
                    wrong.push(format!(
                        "{}: {value}, a large value of {}, is not in the bundle",
                        table.table, part.member
                    ));
                }
            }
        }
        if rows != table.rows {
            wrong.push(format!(
                "{}: it has {} rows, its parts have {rows}",
                table.table, table.rows
            ));
        }
        if table.parts.is_empty() && !table.columns.is_empty() {
            wrong.push(format!("{}: it has no part", table.table));
        }
    }
    for (component, described) in [
        (Component::Graph, manifest.graph.is_some()),
        (Component::Chroma, manifest.chroma.is_some()),
    ] {
        let present = manifest.members.iter().any(|m| m.component == component);
        let hurt = manifest
            .salvage
            .as_ref()
            .is_some_and(|s| s.hurts(component));
        if described != present && !hurt {
            wrong.push(format!(
                "the manifest {} the {component}, members of it are {}",
                if described {
                    "describes"
                } else {
                    "does not describe"
                },
                if present { "there" } else { "not there" }
            ));
        }
    }
    let wrong = wrong.into_iter();
    let damage = wrong.map(|what| Finding::damage(Place::default(), what));
    damage.chain(lost_in_salvage(manifest)).collect()
}

/// Whether something is lost of which not even the name is known.
fn hides(salvage: &Salvage) -> bool {
    salvage.lost.iter().any(|lost| lost.member.is_none())
}

/// What a salvaged bundle says that it does not have.
fn lost_in_salvage(manifest: &Manifest) -> Vec<Finding> {
    let Some(salvage) = &manifest.salvage else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for lost in &salvage.lost {
        let name = lost.member.as_deref().unwrap_or("a part without a name");
        let reason = lost.ranges.first().map_or("", |range| &range.reason);
        notes.push(Finding::note(format!(
            "lost when it was salvaged from {}: {name}: {reason}",
            salvage.source
        )));
    }
    if !salvage.described {
        notes.push(Finding::note(format!(
            "{} had lost what a manifest says beside members, such as the tables",
            salvage.source
        )));
    }
    if !salvage.proven_by_crc.is_empty() {
        notes.push(Finding::note(format!(
            "{} of its members were proven by nothing but their CRC-32 when they were salvaged",
            salvage.proven_by_crc.len()
        )));
    }
    notes
}

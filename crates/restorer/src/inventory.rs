//! What the manifest says is in the bundle must be there, once.

use std::collections::BTreeMap;

use arkstream_format::{Component, Manifest, Member};
use arkstream_pipeline::{Finding, Place};

/// Compares the manifest's tables and summaries with its members.
pub(crate) fn check(manifest: &Manifest) -> Vec<Finding> {
    let members: BTreeMap<&str, &Member> = manifest
        .members
        .iter()
        .map(|m| (m.name.as_str(), m))
        .collect();
    let mut wrong = Vec::new();
    for table in &manifest.tables {
        let mut rows = 0;
        for part in &table.parts {
            rows += part.rows;
            match members.get(part.member.as_str()) {
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
        if described != present {
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
    wrong
        .into_iter()
        .map(|what| Finding::damage(Place::default(), what))
        .collect()
}

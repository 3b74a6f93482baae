//! Generations, older bundles, what was kept and what was made again.

use std::collections::BTreeMap;

use maud::{Markup, html};

use arkstream_format::{BaseBundle, KeptBy};
use arkstream_pipeline::words;

use super::{LISTED, count, counted, cut, moment, table, text, title};
use crate::Facts;

pub(super) fn section(facts: &Facts<'_>) -> Markup {
    let manifest = facts.manifest;
    let alone = manifest.generations.len() <= 1 && manifest.bases.is_empty();
    html! {
        section id="history" {
            h2 { "History" }
            @if alone {
                p { "One run, one set of snapshots: nothing was interrupted, and nothing was taken over." }
            } @else {
                p {
                    (counted(manifest.generations.len() as u64, "set of snapshots", "sets of snapshots"))
                    ". What an earlier one had read is in the bundle only where it was proven unchanged \
                     under the last, so all of it is of one moment."
                }
            }
            @if let Some(resumed) = &facts.run.resumed { p { "The last run began by " (text(resumed)) "." } }
            @if !manifest.generations.is_empty() {
                (table(
                    "Sets of snapshots (generations)",
                    &["No.", "UTC", ">Skew", ">Chroma held", ">Parts", ">Rows", "Run"],
                    &generations(facts),
                ))
                (cut(manifest.generations.len(), "arkstream show --json"))
            }
            (kept_by(facts))
            (remade(facts))
            @if !manifest.bases.is_empty() {
                (table(
                    "Copied out of older bundles, which are not needed any more",
                    &["Bundle", "As of (UTC)", ">Members", ">Bytes", "Of which"],
                    &manifest.bases.iter().take(LISTED).map(base).collect::<Vec<_>>(),
                ))
            }
        }
    }
}

/// Parts of tables and their rows by the generation in which they were read.
fn generations(facts: &Facts<'_>) -> Vec<Markup> {
    let mut read: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for part in facts.manifest.tables.iter().flat_map(|table| &table.parts) {
        let sums = read.entry(part.generation).or_default();
        sums.0 += 1;
        sums.1 += part.rows;
    }
    let listed = facts.manifest.generations.iter().take(LISTED);
    listed
        .map(|generation| {
            let (parts, rows) = read.get(&generation.number).copied().unwrap_or_default();
            let run = &generation.run_id.0;
            html! {
                th scope="row" { (generation.number) }
                td { (moment(generation.taken_at)) }
                td class="number" { (generation.barrier_skew_ms) " ms" }
                td class="number" {
                    @match generation.chroma_hold_ms {
                        Some(ms) => { (ms) " ms" }
                        None => "–",
                    }
                }
                td class="number" { (count(parts)) }
                td class="number" { (count(rows)) }
                td { code { (text(run).chars().take(8).collect::<String>()) } }
            }
        })
        .collect()
}

/// By which proofs parts of tables were kept.
fn kept_by(facts: &Facts<'_>) -> Markup {
    let parts = || facts.manifest.tables.iter().flat_map(|table| &table.parts);
    let kept = |by| parts().filter(|part| part.kept_by == Some(by)).count() as u64;
    let (versions, content) = (kept(KeptBy::RowVersions), kept(KeptBy::Content));
    html! {
        @if versions + content > 0 {
            p {
                (counted(versions + content, "part of a table was", "parts of tables were")) " kept: "
                (count(versions)) " by equal row versions within one history of the server, "
                (count(content)) " by their content, which was read again."
            }
        }
    }
}

fn remade(facts: &Facts<'_>) -> Markup {
    let rows: Vec<Markup> = facts
        .run
        .remade
        .iter()
        .take(LISTED)
        .map(|((component, reason), members)| {
            html! {
                th scope="row" { (title(*component)) }
                td class="number" { (count(*members)) }
                td { (text(reason)) }
            }
        })
        .collect();
    html! {
        @if !rows.is_empty() {
            (table("Made again in the last run", &["Component", ">Members", "Why"], &rows))
            (cut(facts.run.remade.len(), "logs/export_log.txt"))
        }
    }
}

fn base(base: &BaseBundle) -> Markup {
    let sum = base.copied_sum();
    let of: Vec<String> = base
        .copied
        .iter()
        .map(|(component, sum)| format!("{component} {}", words::size(sum.bytes)))
        .collect();
    html! {
        th scope="row" { code { (text(&base.name)) } }
        td { (moment(base.taken_at)) }
        td class="number" { (count(sum.members)) }
        td class="number" { (words::size(sum.bytes)) }
        td { (of.join(", ")) }
    }
}

//! What is in the bundle, and what is not.

use maud::{Markup, html};

use arkstream_format::{Component, ComponentSummary, LostMember, LostRange, TableRole};
use arkstream_pipeline::words;

use super::{
    LISTED, count, counted, cut,
    plots::{self, Bar, Piece},
    table, text, title, verdict,
};
use crate::Facts;

pub(super) fn section(facts: &Facts<'_>) -> Markup {
    let manifest = facts.manifest;
    let sums: Vec<(Component, &ComponentSummary)> = Component::ALL
        .into_iter()
        .filter_map(|component| Some((component, manifest.components.get(&component)?)))
        .collect();
    let rows: Vec<Markup> = sums
        .iter()
        .map(|(component, sum)| {
            html! {
                th scope="row" { (title(*component)) }
                td class="number" { (count(sum.members)) }
                td class="number" { @if sum.rows > 0 { (count(sum.rows)) } @else { "–" } }
                td class="number" { (words::size(sum.raw_bytes)) }
                td class="number" { (words::size(sum.stored_bytes)) }
                td class="number" { (share(sum.stored_bytes, sum.raw_bytes)) }
            }
        })
        .collect();
    html! {
        section id="contents" {
            h2 { "What is in it" }
            (made_of(facts, &sums))
            (sizes(&sums))
            (table(
                "Components",
                &["Component", ">Members", ">Rows", ">Size", ">In the file", ">Ratio"],
                &rows,
            ))
            (around(facts))
        }
    }
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "–".into(),
        whole => format!("{:.0} %", part as f64 * 100.0 / whole as f64),
    }
}

/// The bytes of the file by component.
fn made_of(facts: &Facts<'_>, sums: &[(Component, &ComponentSummary)]) -> Markup {
    let mut pieces: Vec<Piece> = sums
        .iter()
        .map(|(component, sum)| Piece {
            class: plots::class(*component),
            label: title(*component).into(),
            value: words::size(sum.stored_bytes),
            weight: sum.stored_bytes,
        })
        .collect();
    let dead: u64 = facts
        .manifest
        .dead_ranges
        .iter()
        .map(|range| range.len)
        .sum();
    let listed: u64 = pieces.iter().map(|piece| piece.weight).sum();
    for (label, class, weight) in [
        (
            "Index and framing",
            "c-framing",
            facts.file_bytes.saturating_sub(listed).saturating_sub(dead),
        ),
        ("Given up by interrupted runs", "c-dead", dead),
    ] {
        if weight > 0 {
            pieces.push(Piece {
                class,
                label: label.into(),
                value: words::size(weight),
                weight,
            });
        }
    }
    plots::stacked("made-of", "What the file is made of", &pieces)
}

/// Sizes before and behind compression.
fn sizes(sums: &[(Component, &ComponentSummary)]) -> Markup {
    let largest = sums
        .iter()
        .map(|(_, s)| s.raw_bytes.max(s.stored_bytes))
        .max();
    let largest = largest.unwrap_or(1).max(1) as f64;
    let bars: Vec<Bar> = sums
        .iter()
        .map(|(component, sum)| Bar {
            component: *component,
            label: title(*component).into(),
            value: format!(
                "{} → {}",
                words::size(sum.raw_bytes),
                words::size(sum.stored_bytes)
            ),
            outer: sum.raw_bytes as f64 / largest,
            inner: sum.stored_bytes as f64 / largest,
        })
        .collect();
    plots::bars(
        "sizes",
        "Size before compression, and in the file",
        "One bar for each component; the table below has the same figures.",
        &bars,
    )
}

/// What travels with the models.
fn around(facts: &Facts<'_>) -> Markup {
    let of = |role| facts.manifest.tables.iter().filter(move |t| t.role == role);
    let relations: u64 = of(TableRole::Relation).map(|table| table.rows).sum();
    let mut support: Vec<_> = of(TableRole::Support).collect();
    support.sort_by(|a, b| a.table.cmp(&b.table));
    let rows: Vec<Markup> = support
        .iter()
        .take(LISTED)
        .map(|table| {
            html! {
                th scope="row" { code { (text(&table.table)) } }
                td class="number" { (count(table.rows)) }
                td {
                    @if table.columns_left_out.is_empty() { "all columns" }
                    @else { "what identifies a row" }
                }
            }
        })
        .collect();
    html! {
        @if !facts.manifest.tables.is_empty() {
            p {
                (counted(of(TableRole::Model).count() as u64, "model table", "model tables")) ", "
                (counted(of(TableRole::Relation).count() as u64, "many2many table", "many2many tables"))
                " with " (counted(relations, "row", "rows")) ", and "
                (counted(support.len() as u64, "table that travels", "tables that travel"))
                " with them: attachments, external ids, chatter, numbering, and what \
                 identifies the users, companies and partners that rows refer to."
            }
            @if !support.is_empty() {
                details {
                    summary { "Tables that travel with the models" }
                    (table("Tables that travel with the models", &["Table", ">Rows", "Columns"], &rows))
                    (cut(support.len(), "arkstream show --json"))
                }
            }
        }
    }
}

/// Everything that somebody might look for in vain.
pub(super) fn missing(facts: &Facts<'_>) -> Markup {
    let manifest = facts.manifest;
    let without = verdict::without(facts);
    let nowhere: Vec<_> = manifest
        .references
        .iter()
        .filter(|r| r.dangling > 0)
        .collect();
    let nothing = without.is_empty() && manifest.omissions.is_empty() && manifest.salvage.is_none();
    html! {
        section id="missing" {
            h2 { "What is not in it" }
            @if nothing { p { "Nothing that was asked for was left out." } }
            @if !without.is_empty() {
                p {
                    "Systems of the stack that were not asked for: "
                    b { (without.iter().map(|c| title(*c)).collect::<Vec<_>>().join(", ")) } "."
                }
            }
            (salvaged(facts))
            @if !manifest.omissions.is_empty() {
                (table("Left out", &["Component", "What", "Why"], &omitted(facts)))
                (cut(manifest.omissions.len(), "arkstream show"))
            }
            @if !nowhere.is_empty() {
                details {
                    summary {
                        (counted(nowhere.len() as u64, "kind of reference points", "kinds of references point"))
                        " nowhere, in the source as in the bundle"
                    }
                    (table(
                        "References without a foreign key that point nowhere",
                        &["From", "To", ">Nowhere", ">Of"],
                        &nowhere.iter().take(LISTED).map(|reference| html! {
                            th scope="row" { code { (text(&reference.from)) } }
                            td { code { (text(&reference.to)) } }
                            td class="number" { (count(reference.dangling)) }
                            td class="number" { (count(reference.total)) }
                        }).collect::<Vec<_>>(),
                    ))
                    (cut(nowhere.len(), "arkstream show --json"))
                }
            }
        }
    }
}

fn omitted(facts: &Facts<'_>) -> Vec<Markup> {
    let listed = facts.manifest.omissions.iter().take(LISTED);
    listed
        .map(|omission| {
            html! {
                th scope="row" { (omission.component) }
                td { (text(&omission.what)) }
                td { (text(&omission.reason)) }
            }
        })
        .collect()
}

/// Where a salvaged bundle came from, and what was lost.
fn salvaged(facts: &Facts<'_>) -> Markup {
    let Some(salvage) = &facts.manifest.salvage else {
        return html! {};
    };
    let rows: Vec<Markup> = salvage.lost.iter().take(LISTED).map(lost).collect();
    html! {
        p {
            "Salvaged " (super::moment(salvage.at)) " from " code { (text(&salvage.source)) } " ("
            (words::size(salvage.source_bytes)) "). "
            @if !salvage.described {
                "What its index says beside members was lost, so no component of it can be restored as a \
                 whole. "
            }
            @if !salvage.proven_by_crc.is_empty() {
                (counted(salvage.proven_by_crc.len() as u64, "member is", "members are"))
                " proven by CRC-32 only."
            }
        }
        @if !salvage.lost.is_empty() {
            (table("Lost", &["Member", ">Rows", "What is lost", "Why"], &rows))
            (cut(salvage.lost.len(), "arkstream show --json"))
        }
    }
}

fn lost(member: &LostMember) -> Markup {
    let reason = member.ranges.first().map(|range| range.reason.as_str());
    html! {
        th scope="row" {
            @match &member.member {
                Some(name) => code { (text(name)) },
                None => "a member whose name is lost too",
            }
        }
        td class="number" { @if let Some(rows) = member.rows { (count(rows)) } @else { "–" } }
        td {
            @match member.pieces.len() as u64 {
                0 => "all of it",
                pieces => {
                    (range(member.ranges.first())) "; what is left stands in "
                    (counted(pieces, "piece", "pieces")) " below " code { "salvaged/" }
                }
            }
        }
        td { (text(reason.unwrap_or("not known"))) }
    }
}

fn range(range: Option<&LostRange>) -> String {
    match range.map(|range| (range.raw_start, range.raw_end)) {
        Some((Some(start), Some(end))) => format!("bytes {} to {}", count(start), count(end)),
        Some((Some(start), None)) => format!("bytes from {}", count(start)),
        _ => "a part".into(),
    }
}

//! The verdict in one line, and the figures that everybody asks for first.

use std::time::Duration;

use maud::{Markup, html};

use arkstream_format::{Component, ExportStatus, ModelStatus};
use arkstream_pipeline::words;

use super::{count, counted, moment, text};
use crate::Facts;

/// The systems of a whole stack.
pub(super) const STACK: [Component; 4] = [
    Component::Models,
    Component::Filestore,
    Component::Graph,
    Component::Chroma,
];

/// What a glance must tell.
pub(super) struct Verdict {
    level: Level,
    line: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    /// Everything that was asked for is there.
    Good,
    /// Something was left out, or is not as it was written.
    Look,
    /// Something was lost.
    Lost,
}

/// Systems of the stack that the bundle does not have.
pub(super) fn without(facts: &Facts<'_>) -> Vec<Component> {
    let there = &facts.manifest.components;
    let absent = STACK.into_iter().filter(|of| !there.contains_key(of));
    absent.collect()
}

pub(super) fn of(facts: &Facts<'_>) -> Verdict {
    let left_out = facts.manifest.omissions.len() as u64;
    if let Some(salvage) = &facts.manifest.salvage {
        return match salvage.lost.len() as u64 {
            0 if left_out == 0 => Verdict {
                level: Level::Look,
                line: "Salvaged from a damaged bundle, of which nothing but framing was lost"
                    .into(),
            },
            0 => Verdict {
                level: Level::Look,
                line: format!(
                    "Salvaged from a damaged bundle without a loss, but its backup had left out {}",
                    counted(left_out, "thing", "things")
                ),
            },
            lost => Verdict {
                level: Level::Lost,
                line: format!(
                    "Salvaged from a damaged bundle: {} lost or in pieces",
                    counted(lost, "member is", "members are")
                ),
            },
        };
    }
    let partial =
        |metadata: &arkstream_format::Metadata| metadata.export_status == ExportStatus::Partial;
    if left_out > 0 {
        return Verdict {
            level: Level::Look,
            line: format!(
                "Finished, but {} left out",
                counted(left_out, "thing was", "things were")
            ),
        };
    }
    match &facts.metadata {
        None => Verdict {
            level: Level::Look,
            line: "The bundle has no description of its own".into(),
        },
        Some(metadata) if partial(metadata) => Verdict {
            level: Level::Look,
            line: "Its own description says that something was left out".into(),
        },
        Some(_) => Verdict {
            level: Level::Good,
            line: complete(facts),
        },
    }
}

fn complete(facts: &Facts<'_>) -> String {
    let without = without(facts);
    let names: Vec<_> = without.iter().map(|component| component.name()).collect();
    match names.as_slice() {
        [] => "Complete: the whole stack, nothing left out".into(),
        names => format!(
            "Complete as it was asked for, which is without {}",
            names.join(", ")
        ),
    }
}

impl Verdict {
    /// One word, for the title of the window.
    pub(super) fn word(&self) -> &'static str {
        match self.level {
            Level::Good => "Good",
            Level::Look => "Look at it",
            Level::Lost => "Incomplete",
        }
    }

    pub(super) fn section(&self, facts: &Facts<'_>) -> Markup {
        let (class, mark) = match self.level {
            Level::Good => ("verdict good", "M5 12.5l4.5 4.5L19 7.5"),
            Level::Look => ("verdict look", "M12 5.5v8M12 17v1.8"),
            Level::Lost => ("verdict lost", "M6.5 6.5l11 11M17.5 6.5l-11 11"),
        };
        html! {
            section id="verdict" aria-labelledby="verdict-line" {
                div class=(class) {
                    svg class="mark" viewBox="0 0 24 24" width="40" height="40" aria-hidden="true" {
                        circle cx="12" cy="12" r="11" {}
                        path d=(mark) {}
                    }
                    div {
                        h2 id="verdict-line" { (self.line) }
                        p { (as_of(facts)) }
                    }
                }
                (figures(facts))
                p class="note" {
                    "This is what was recorded when the bundle was written. "
                    code { "arkstream verify" } " reads every byte of it and proves it."
                }
            }
        }
    }
}

/// One sentence on what the bundle holds, and as of when.
fn as_of(facts: &Facts<'_>) -> Markup {
    let last = facts.manifest.generations.last();
    let database = facts
        .metadata
        .as_ref()
        .map(|m| &m.database_info.odoo_database);
    html! {
        @match last {
            Some(generation) => {
                "Everything as of " (moment(generation.taken_at)) " UTC"
                @if generation.snapshots.len() > 1 {
                    ", all snapshots within " (generation.barrier_skew_ms) " ms"
                }
            }
            None => { "The moment of its snapshots is not known" }
        }
        @if let Some(database) = database.filter(|name| !name.is_empty()) {
            "; Odoo database " code { (text(database)) }
        }
        "."
    }
}

/// The figures in front.
fn figures(facts: &Facts<'_>) -> Markup {
    let manifest = facts.manifest;
    let sum = |of: fn(&arkstream_format::ComponentSummary) -> u64| -> u64 {
        manifest.components.values().map(of).sum()
    };
    let with_rows = facts.models.as_ref().map(|models| {
        let exported = models.iter().filter(|m| m.status == ModelStatus::Exported);
        exported.count() as u64
    });
    let files = manifest.components.get(&Component::Filestore);
    let took = facts.metadata.as_ref().map(|m| m.export_duration_seconds);
    let held = manifest
        .generations
        .last()
        .and_then(|last| last.chroma_hold_ms);
    let figure = |value: String, what: &str| {
        html! { div { dt { (what) } dd { (value) } } }
    };
    html! {
        dl class="figures" {
            (figure(words::size(facts.file_bytes), "the file"))
            (figure(words::size(sum(|s| s.raw_bytes)), "uncompressed"))
            (figure(count(sum(|s| s.rows)), "rows"))
            @if let Some(models) = with_rows { (figure(count(models), "models with rows")) }
            @if let Some(files) = files { (figure(count(files.members), "filestore files")) }
            @if let Some(seconds) = took {
                (figure(words::duration(Duration::from_secs(seconds)), "time taken"))
            }
            @if let Some(ms) = held {
                (figure(
                    words::duration(Duration::from_millis(ms)),
                    "Chroma held",
                ))
            }
        }
    }
}

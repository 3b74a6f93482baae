//! The page: its frame, and a file for each of its sections.
//!
//! Everything is written by `maud`, which escapes each text where it is written. Texts from the bundle go
//! through `text` besides, which makes control characters visible. There are no `style` attributes, no
//! scripts and no addresses: the policy forbids them, so nothing could be smuggled in by one that was
//! forgotten. Plots are SVG with coordinates in percent, so they fill any width and their letters stay as
//! large as all others.

mod contents;
mod history;
mod models;
mod plots;
mod restore;
mod timeline;
mod verdict;
mod versions;

use std::{borrow::Cow, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use arkstream_format::Component;
use arkstream_pipeline::words;

use crate::{Facts, GENERATOR};

/// Entries of one list that the page shows; it says how many more there are, and where.
pub const LISTED: usize = 500;

const STYLE: &str = include_str!("style.css");

/// A mark of its own, so that no browser asks a server for one: a case with a tick.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
%3Crect width='16' height='16' rx='4' fill='%232a6fdb'/%3E%3Cpath d='M4 8.5l3 3 5-6' fill='none' \
stroke='%23fff' stroke-width='2'/%3E%3C/svg%3E";

/// What the page may load: nothing but its own style and its own icon.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; \
         form-action 'none'"
    )
});

/// The whole page, as one HTML file.
#[must_use]
pub fn render(facts: &Facts<'_>) -> String {
    let verdict = verdict::of(facts);
    let name = text(&facts.file_name);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(*POLICY);
                meta name="generator" content={ (GENERATOR) " " (facts.program) };
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                title { (verdict.word()) ": " (name) }
                link rel="icon" href=(PreEscaped(ICON));
                style { (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#verdict" { "Skip to the verdict" }
                header {
                    p class="brand" { "Arkstream bundle report" }
                    h1 { (name) }
                }
                (navigation(facts))
                main {
                    (verdict.section(facts))
                    (contents::section(facts))
                    @if let Some(list) = &facts.models {
                        (models::section(list, facts))
                    }
                    (contents::missing(facts))
                    (timeline::section(facts))
                    (history::section(facts))
                    (versions::section(facts))
                    (restore::section(facts))
                }
                footer {
                    p {
                        "Made by " (text(&facts.program)) " from the bundle's own index. Times are UTC. "
                        "This page loads nothing and sends nothing."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn navigation(facts: &Facts<'_>) -> Markup {
    html! {
        nav aria-label="Sections" {
            a href="#contents" { "Contents" }
            @if facts.models.is_some() { a href="#models" { "Models" } }
            a href="#missing" { "Not in it" }
            a href="#run" { "The run" }
            a href="#history" { "History" }
            a href="#versions" { "Versions" }
            a href="#restore" { "Restore it" }
        }
    }
}

/// Text from the bundle, with control characters made visible.
fn text(foreign: &str) -> Cow<'_, str> {
    words::harmless(foreign)
}

/// What people call a component.
fn title(component: Component) -> &'static str {
    match component {
        Component::Models => "Odoo models",
        Component::Filestore => "Odoo filestore",
        Component::Graph => "Apache AGE graph",
        Component::Chroma => "ChromaDB",
        Component::OdooDump => "Odoo dump",
        Component::Xlsx => "Spreadsheet",
        Component::Description => "Description and log",
    }
}

/// `1 234 567`, with thin spaces that do not break.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 row`, `2 rows`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A moment, to the second.
fn moment(at: chrono::DateTime<chrono::Utc>) -> Markup {
    html! {
        time datetime=(at.format("%Y-%m-%dT%H:%M:%SZ")) { (at.format("%Y-%m-%d %H:%M:%S")) }
    }
}

/// A table that scrolls by itself where the screen is narrower.
fn table(caption: &str, head: &[&str], rows: &[Markup]) -> Markup {
    html! {
        div class="scroll" role="region" tabindex="0" aria-label=(caption) {
            table {
                caption { (caption) }
                thead {
                    tr {
                        @for title in head {
                            th scope="col" class=[title.starts_with('>').then_some("number")] {
                                (title.trim_start_matches('>'))
                            }
                        }
                    }
                }
                tbody { @for row in rows { tr { (row) } } }
            }
        }
    }
}

/// What is said below a list that was cut.
fn cut(all: usize, elsewhere: &str) -> Markup {
    html! {
        @if all > LISTED {
            p class="note" { "… and " (count((all - LISTED) as u64)) " more: " code { (elsewhere) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let plain = |number| count(number).replace('\u{202f}', " ");
        assert_eq!(plain(0), "0");
        assert_eq!(plain(999), "999");
        assert_eq!(plain(1_234_567), "1 234 567");
        assert_eq!(counted(1, "row", "rows"), "1 row");
    }

    #[test]
    fn the_style_needs_nothing_from_elsewhere() {
        for word in ["url(", "@import", "</", "http"] {
            assert!(!STYLE.contains(word), "{word}");
        }
    }
}

//! How to restore this very bundle: the exact commands.

use maud::{Markup, html};

use arkstream_format::{Component, member_names};

use super::{text, verdict::STACK};
use crate::Facts;

pub(super) fn section(facts: &Facts<'_>) -> Markup {
    let file = quote(&facts.file_name);
    let whole = whole(facts);
    let partly = STACK.iter().any(|c| has(facts, *c) && !whole.contains(c));
    html! {
        section id="restore" {
            h2 { "How to restore it" }
            p { "In the folder of the bundle. Words in capitals are yours to fill in." }
            h3 { "1. Is it good?" }
            (commands("Commands that check it", &[
                format!("arkstream verify {file}"),
                format!("sha256sum -c {}", quote(&format!("{}.sha256", facts.file_name))),
            ]))
            @if partly {
                p {
                    "A component that has lost something is not restored. What is left of it can be unpacked \
                     by hand, see below."
                }
            }
            @if whole.is_empty() {
                p { "It has no component that a restore could take as a whole." }
            } @else {
                h3 { "2. What would happen?" }
                p { "Stop Odoo first. Nothing is changed by this." }
                (commands("Command that says what would happen", &[restore(facts, &whole, partly, true)]))
                h3 { "3. Do it" }
                p {
                    "It is loaded beside what is live, proven, and switched as a whole: killed anywhere, \
                     everything is old or everything is new."
                }
                (commands("Command that restores it", &[restore(facts, &whole, partly, false)]))
                h3 { "4. Take it back" }
                p { "The former state is kept until you drop it. The restore prints its ID." }
                (commands("Commands that take it back", &[
                    "arkstream restores".into(),
                    "arkstream undo ID".into(),
                    "arkstream forget ID".into(),
                ]))
            }
            h3 { "Without Arkstream" }
            p {
                "Any unzip program opens it. " code { (member_names::INSTRUCTIONS) }
                " inside says the rest, step by step."
            }
            (commands("Commands of other programs", &by_hand(facts)))
        }
    }
}

fn has(facts: &Facts<'_>, component: Component) -> bool {
    facts.manifest.components.contains_key(&component)
}

/// Components that a restore takes.
fn whole(facts: &Facts<'_>) -> Vec<Component> {
    let salvage = facts.manifest.salvage.as_ref();
    let hurt = |component| salvage.is_some_and(|salvage| salvage.hurts(component));
    let there = STACK.into_iter().filter(|c| has(facts, *c) && !hurt(*c));
    there.collect()
}

fn restore(facts: &Facts<'_>, whole: &[Component], partly: bool, dry_run: bool) -> String {
    let mut lines = vec![format!("arkstream restore {}", quote(&facts.file_name))];
    if partly {
        let names: Vec<_> = whole.iter().map(|component| component.name()).collect();
        lines.push(format!("--components {}", names.join(",")));
    }
    let info = facts.metadata.as_ref().map(|m| &m.database_info);
    if whole.contains(&Component::Models) || whole.contains(&Component::Filestore) {
        lines.push("--odoo-conf /etc/odoo/odoo.conf".into());
    }
    if whole.contains(&Component::Chroma) {
        let configured = info.and_then(|info| info.chroma_persist_directory.as_deref());
        let folder = configured.filter(|path| path.starts_with('/'));
        lines.push(format!(
            "--chroma {}",
            quote(folder.unwrap_or("CHROMA_DIR"))
        ));
    }
    if whole.contains(&Component::Graph) {
        let graph = facts
            .manifest
            .graph
            .as_ref()
            .map(|graph| graph.database.as_str());
        let database = graph
            .filter(|name| !name.is_empty())
            .unwrap_or("GRAPH_DATABASE");
        let url = format!("postgresql://postgres@HOST/{}", url_part(database));
        lines.push(format!("--graph-admin-db {}", quote(&url)));
    }
    if dry_run {
        lines.push("--dry-run".into());
    }
    lines.join(" \\\n    ")
}

fn by_hand(facts: &Facts<'_>) -> Vec<String> {
    let file = quote(&facts.file_name);
    let mut lines = vec![
        format!("unzip -p {file} {}", member_names::INSTRUCTIONS),
        format!("unzip {file} -d restored"),
    ];
    if has(facts, Component::OdooDump) {
        lines.push("createdb restored_odoo".into());
        lines.push(format!(
            "psql -X -v ON_ERROR_STOP=1 -1 -d restored_odoo -f restored/{}",
            member_names::ODOO_DUMP
        ));
    }
    lines
}

/// Commands to copy, one below the other.
fn commands(label: &str, lines: &[String]) -> Markup {
    let all = lines.join("\n");
    html! { pre tabindex="0" aria-label=(label) role="region" { code { (text(&all)) } } }
}

/// A word as a shell takes it.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    // A name that begins with a hyphen would be taken for an option.
    let word = match word.starts_with('-') {
        true => format!("./{word}"),
        false => word.to_owned(),
    };
    match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A name within a URL.
fn url_part(name: &str) -> String {
    let mut part = String::new();
    for byte in name.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => part.push(char::from(b)),
            b => part.push_str(&format!("%{b:02X}")),
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        assert_eq!(quote("bundle.zip"), "bundle.zip");
        assert_eq!(quote("a b.zip"), "'a b.zip'");
        assert_eq!(quote("a'b; rm -rf"), "'a'\\''b; rm -rf'");
        assert_eq!(quote("-rf"), "./-rf");
        assert_eq!(quote(""), "''");
        assert_eq!(url_part("my graph/ü"), "my%20graph%2F%C3%BC");
    }
}

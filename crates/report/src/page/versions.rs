//! Versions of everything that a restore depends on.

use maud::{Markup, html};

use super::{LISTED, counted, cut, table, text};
use crate::Facts;

pub(super) fn section(facts: &Facts<'_>) -> Markup {
    let modules = facts.metadata.as_ref().map(|m| &m.module_versions);
    html! {
        section id="versions" {
            h2 { "Versions" }
            (table("What a restore depends on", &["What", "Version"], &rows(facts)))
            @if let Some(modules) = modules.filter(|modules| !modules.is_empty()) {
                details {
                    summary {
                        "Odoo modules "
                        span class="aside" { (counted(modules.len() as u64, "module", "modules")) }
                    }
                    (table(
                        "Installed modules",
                        &["Module", "Version"],
                        &modules.iter().take(LISTED).map(|(name, version)| html! {
                            th scope="row" { code { (text(name)) } }
                            td { (text(version)) }
                        }).collect::<Vec<_>>(),
                    ))
                    (cut(modules.len(), "metadata.json"))
                }
            }
        }
    }
}

fn rows(facts: &Facts<'_>) -> Vec<Markup> {
    let manifest = facts.manifest;
    let mut rows = Vec::new();
    let mut cell = |what: &str, version: &str, value: Markup| {
        if !version.is_empty() {
            rows.push(html! { th scope="row" { (text(what)) } td { (value) } });
        }
    };
    let mut row = |what: &str, version: &str| cell(what, version, html! { (text(version)) });
    row("Bundle format", &manifest.format_version);
    let generator = &manifest.generator;
    row(
        "Written by",
        &format!("{} {}", generator.name, generator.version),
    );
    if let Some(metadata) = &facts.metadata {
        row("Odoo", &metadata.odoo_version);
    }
    if let Some(last) = manifest.generations.last() {
        for snapshot in &last.snapshots {
            let server = &snapshot.server;
            row(
                &format!(
                    "PostgreSQL of the {} database {}",
                    snapshot.component, server.database
                ),
                &format!(
                    "{} ({}, collation {})",
                    server.version, server.encoding, server.collation
                ),
            );
        }
    }
    if let Some(graph) = &manifest.graph {
        row(
            "Apache AGE",
            graph.age_version.as_deref().unwrap_or_default(),
        );
        row("Graphs", &graph.graphs.join(", "));
        row("pg_dump", &graph.pg_dump_version);
    }
    if let Some(chroma) = &manifest.chroma {
        row(
            "ChromaDB",
            &format!(
                "{}, {}; {}",
                counted(chroma.collections, "collection", "collections"),
                counted(chroma.embeddings, "embedding", "embeddings"),
                counted(chroma.migrations.len() as u64, "migration", "migrations"),
            ),
        );
    }
    let mut hash = |what: &str, value: &str| cell(what, value, html! { code { (text(value)) } });
    hash("Run", &manifest.run_id.0);
    if let Some(metadata) = &facts.metadata {
        hash("Checksum of the contents", &metadata.checksum);
    }
    hash(
        "SHA-256 of the file",
        facts.sha256.as_deref().unwrap_or_default(),
    );
    rows
}

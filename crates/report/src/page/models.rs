//! Every model of the inventory accounted for, and those that were found besides.

use std::collections::BTreeMap;

use maud::{Markup, html};

use arkstream_format::{ModelEntry, ModelStatus};

use super::{
    LISTED, count, counted, cut,
    plots::{self, Piece},
    table, text,
};
use crate::Facts;

/// The category of models that the inventory does not name.
const OTHER: &str = "Other";

const STATUSES: [ModelStatus; 7] = [
    ModelStatus::Exported,
    ModelStatus::Empty,
    ModelStatus::Abstract,
    ModelStatus::View,
    ModelStatus::Transient,
    ModelStatus::Excluded,
    ModelStatus::Absent,
];

pub(super) fn section(models: &[ModelEntry], facts: &Facts<'_>) -> Markup {
    let (named, others): (Vec<_>, Vec<_>) =
        models.iter().partition(|model| model.category != OTHER);
    let absent: Vec<_> = named
        .iter()
        .filter(|model| !has_rows_here(model.status))
        .copied()
        .collect();
    html! {
        section id="models" {
            h2 { "Models" }
            p {
                b { (counted(named.len() as u64, "named model", "named models")) }
                ", all accounted for"
                @if !others.is_empty() {
                    ", and " (counted(others.len() as u64, "other", "others"))
                    " that the database has besides"
                }
                "."
            }
            @if !named.is_empty() {
                (plots::stacked("named", "What became of the named models", &pieces(&named)))
            }
            @if !others.is_empty() {
                (plots::stacked("others", "What became of the others", &pieces(&others)))
            }
            @if !absent.is_empty() {
                (table(
                    "Named models without rows of their own here, and why",
                    &["Model", "It is", "Why"],
                    &rows(&absent, |model| html! {
                        td class="word" { (word(model.status)) }
                        td { (text(&model.reason)) }
                    }),
                ))
                (cut(absent.len(), "odoo_data/model_list.json"))
            }
            (by_category(models))
            @if facts.manifest.salvage.is_some() {
                p class="note" { "Of a salvaged bundle, this is the list as its backup wrote it." }
            }
        }
    }
}

fn has_rows_here(status: ModelStatus) -> bool {
    matches!(status, ModelStatus::Exported | ModelStatus::Empty)
}

fn word(status: ModelStatus) -> &'static str {
    match status {
        ModelStatus::Exported => "in it, with rows",
        ModelStatus::Empty => "in it, without rows",
        ModelStatus::Abstract => "abstract",
        ModelStatus::View => "a view",
        ModelStatus::Transient => "a wizard",
        ModelStatus::Excluded => "excluded",
        ModelStatus::Absent => "absent",
    }
}

fn pieces(models: &[&ModelEntry]) -> Vec<Piece> {
    let class = |status| match status {
        ModelStatus::Exported => "s-exported",
        ModelStatus::Empty => "s-empty",
        ModelStatus::Abstract => "s-abstract",
        ModelStatus::View => "s-view",
        ModelStatus::Transient => "s-transient",
        ModelStatus::Excluded => "s-excluded",
        ModelStatus::Absent => "s-absent",
    };
    STATUSES
        .into_iter()
        .filter_map(|status| {
            let number = models.iter().filter(|m| m.status == status).count() as u64;
            (number > 0).then(|| Piece {
                class: class(status),
                label: word(status).into(),
                value: count(number),
                weight: number,
            })
        })
        .collect()
}

/// Rows of a table of models; `rest` are the cells behind the name.
fn rows(models: &[&ModelEntry], rest: impl Fn(&ModelEntry) -> Markup) -> Vec<Markup> {
    let listed = models.iter().take(LISTED);
    listed
        .map(|model| {
            html! {
                th scope="row" {
                    code { (text(&model.model)) }
                    @if let Some(name) = &model.inventory_name {
                        " (the inventory: " code { (text(name)) } ")"
                    }
                }
                (rest(model))
            }
        })
        .collect()
}

fn by_category(models: &[ModelEntry]) -> Markup {
    let mut categories: BTreeMap<(bool, &str), Vec<&ModelEntry>> = BTreeMap::new();
    for model in models {
        let key = (model.category == OTHER, model.category.as_str());
        categories.entry(key).or_default().push(model);
    }
    html! {
        h3 { "By category" }
        @for ((other, category), of_it) in &categories {
            @let caption = if *other { "Others that the database has" } else { category };
            details {
                summary {
                    (text(caption)) " "
                    span class="aside" {
                        (counted(of_it.len() as u64, "model", "models")) ", "
                        (counted(of_it.iter().map(|m| m.rows).sum(), "row", "rows"))
                    }
                }
                (table(
                    &text(caption),
                    &["Model", ">Rows", "Priority", "Sensitive", "It is"],
                    &rows(of_it, |model| html! {
                        td class="number" { (count(model.rows)) }
                        td { (text(&model.priority)) }
                        td { (text(&model.sensitive)) }
                        td class="word" { (word(model.status)) }
                    }),
                ))
                (cut(of_it.len(), "odoo_data/model_list.json"))
            }
        }
    }
}

//! What travels: from the chosen models to the tables, rows and columns of a bundle.
//!
//! * **Models** — the chosen models' tables, all rows and all columns of the table, whether Odoo
//!   has a field for them or not. Tables that inherit from them travel as tables of their own;
//!   partitions are read with their parent.
//! * **Relations** — each many2many table with a chosen model on at least one side, once, however
//!   many fields share it. It travels whole: both its columns lead to the models of its fields, so
//!   it has no rows of anybody else. Tables that only wizards fill stay behind.
//! * **Support** — rows of tables that all of Odoo shares, as far as they belong to chosen models:
//!   attachments, chatter, activities, external ids, defaults, properties, sequences
//!   (`support.rs`), and the states of sequences (`sequences.rs`).
//! * **Identity** — of rows that are referred to and do not travel, the columns by which a
//!   restore knows them again, never a secret (`identity.rs`).
//!
//! A table is exported once. What is exported whole needs no support and no identity rows.
//!
//! Filters are conditions over the alias `t`. A nested query uses the alias `t` again and never
//! refers to the outer one (`filter.rs`).

mod builder;
mod choose;
mod filter;
mod identity;
mod sequences;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arkstream_format::TableRole;
use arkstream_pipeline::{Failure, FailureKind};
use arkstream_postgres::{Catalog, TableTask};

pub use choose::Choice;
pub use identity::{FOLLOWED, identity_columns};

use crate::registry::{Registry, Resolution};
use crate::selection::{Profile, Selection};
use builder::Builder;

/// What travels.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// What is to be exported.
    pub tasks: Vec<Arc<TableTask>>,
    /// The chosen models.
    pub choice: Choice,
    /// The table of each model whose table travels, by model, qualified.
    pub model_tables: BTreeMap<String, String>,
    /// The attachments that travel; `None` where the database has no `ir_attachment`.
    pub attachments: Option<Rows>,
    /// Lines for people.
    pub notes: Vec<String>,
    /// What belongs to the choice and cannot travel, with the reason.
    pub omissions: Vec<(String, String)>,
}

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// `FROM ONLY schema.table t`.
    pub from: String,
    /// The condition; `None` for all.
    pub filter: Option<String>,
}

impl Rows {
    /// The rows of a task.
    #[must_use]
    pub fn of(task: &TableTask) -> Self {
        Self {
            from: filter::from_clause(&task.table),
            filter: task.filter.clone(),
        }
    }

    /// ` WHERE …`, with a further condition.
    #[must_use]
    pub fn and(&self, condition: &str) -> String {
        match &self.filter {
            Some(filter) => format!("{} WHERE ({filter}) AND ({condition})", self.from),
            None => format!("{} WHERE {condition}", self.from),
        }
    }
}

/// Ids of the rows of a table that are identified, by its object id.
pub type KnownRows = BTreeMap<u32, Vec<i64>>;

/// Decides what travels. What is `known` of the rows that are identified is said by their ids, for as
/// long as the snapshot lasts under which they were asked for.
///
/// # Errors
/// When a name or glob matches nothing, or the table of a chosen model cannot be told.
pub fn plan_scope(
    registry: &Registry,
    catalog: &Catalog,
    selection: &Selection,
    known: &KnownRows,
) -> Result<Scope, Failure> {
    let choice = Choice::new(registry, selection)?;
    refuse_ambiguity(registry, &choice)?;
    let mut builder = Builder::new(registry, catalog, choice);
    if builder.choice.everything {
        builder.add_everything();
    } else {
        builder.add_models();
        builder.add_relations();
        let whole_stack = selection.profile == Profile::SamAi && selection.models.is_empty();
        support::add(&mut builder, whole_stack);
        identity::add(&mut builder, known);
    }
    sequences::add(&mut builder);
    Ok(builder.finish())
}

fn refuse_ambiguity(registry: &Registry, choice: &Choice) -> Result<(), Failure> {
    for name in choice.chosen.keys() {
        if let Some(Resolution::Ambiguous(why)) = registry.models.get(name).map(|m| &m.resolution) {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("find the table of the model {name}"),
                why,
            )
            .help(format!(
                "leave the model out with --exclude {name}, or export all tables with --profile all \
                 --exclude {name}"
            )));
        }
    }
    Ok(())
}

/// Every model to account for: the chosen, the excluded, the short-lived, and those whose tables
/// travel for another reason.
#[must_use]
pub fn accounted(scope: &Scope) -> BTreeSet<&str> {
    let Choice {
        chosen,
        excluded,
        transient,
        ..
    } = &scope.choice;
    let mut names: BTreeSet<&str> = chosen.keys().map(String::as_str).collect();
    names.extend(excluded.iter().chain(transient).map(String::as_str));
    names.extend(scope.model_tables.keys().map(String::as_str));
    names
}

/// The role of a task for people who count models.
pub(crate) fn is_whole(task: &TableTask) -> bool {
    task.filter.is_none() && task.columns.is_none() && task.role != TableRole::Support
}

//! From a model's name to its relation.
//!
//! `model.replace('.', '_')` is neither always right (`ir.actions.report` has `ir_act_report_xml`)
//! nor injective (`a.b_c` and `a_b.c` both give `a_b_c`). A model's relation is, in this order:
//!
//! 1. what the list of known exceptions says, where the catalog has it;
//! 2. the relation of the dotted name, in `public` before other schemas. Where several models claim
//!    one, their stored fields and foreign keys must tell who owns it;
//! 3. the one unclaimed table that Odoo registered foreign keys of the model for
//!    (`ir_model_constraint`), if it has the columns of the model's stored fields;
//! 4. the one unclaimed table that has all those columns.
//!
//! Many2many tables have foreign keys registered for the model of the field. They are no model's
//! table, unless they have an `id`.
//!
//! What is found by 3 and 4 is reported. What stays ambiguous is an error as soon as such a model
//! is to be exported, never a guess.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arkstream_postgres::CatalogTable;

/// Models that have set `_table` in the releases we know. Two models of one table share it on
/// purpose.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("ir.actions.actions", "ir_actions"),
    ("ir.actions.act_window_close", "ir_actions"),
    ("ir.actions.act_window", "ir_act_window"),
    ("ir.actions.act_window.view", "ir_act_window_view"),
    ("ir.actions.act_url", "ir_act_url"),
    ("ir.actions.server", "ir_act_server"),
    ("ir.actions.report", "ir_act_report_xml"),
    ("ir.actions.client", "ir_act_client"),
    ("project.task.stage.personal", "project_task_user_rel"),
];

/// Columns that Odoo gives to every table; they tell no table from another.
const MAGIC: &[&str] = &["id", "create_uid", "create_date", "write_uid", "write_date"];

/// What is known of a model before it is resolved.
#[derive(Clone, Debug, Default)]
pub struct ModelFacts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Columns its table must have.
    pub columns: BTreeSet<&'a str>,
    /// Tables that Odoo registered foreign keys of the model for.
    pub constrained: BTreeSet<u32>,
}

impl ModelFacts<'_> {
    /// Abstract models have no creator, models with a table usually do.
    fn has_log_access(&self) -> bool {
        self.columns.contains("create_uid")
    }

    fn own_columns(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .copied()
            .filter(|column| !MAGIC.contains(column))
    }

    fn fits(&self, table: &RelationFacts<'_>) -> bool {
        self.own_columns()
            .all(|column| table.columns.contains(column))
    }
}

/// What is known of a relation.
#[derive(Clone, Debug)]
pub struct RelationFacts<'a> {
    /// Its object id.
    pub oid: u32,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether a model that is not named after it may own it: tables yes, views and partitions no.
    pub ownable: bool,
    /// Its columns.
    pub columns: BTreeSet<&'a str>,
}

impl<'a> From<&'a CatalogTable> for RelationFacts<'a> {
    fn from(table: &'a CatalogTable) -> Self {
        Self {
            oid: table.table.oid,
            schema: &table.table.schema,
            name: &table.table.name,
            ownable: matches!(table.kind, 'r' | 'p') && !table.is_partition,
            columns: table
                .columns
                .iter()
                .map(|column| column.pg.name.as_str())
                .collect(),
        }
    }
}

impl RelationFacts<'_> {
    fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// The relation of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// The relation with that object id: a table or a view.
    Relation(u32),
    /// None: the model is abstract.
    #[default]
    Nothing,
    /// It cannot be told, and why.
    Ambiguous(String),
}

/// Resolves all models at once. `many2many` are the object ids of many2many tables. Returns the resolutions by model, and notes for people.
pub fn resolve<'a>(
    models: &[ModelFacts<'a>],
    tables: &'a [RelationFacts<'a>],
    many2many: &BTreeSet<u32>,
) -> (BTreeMap<String, Resolution>, Vec<String>) {
    let index = Index::new(tables);
    let mut state = State::default();
    let mut claims: BTreeMap<u32, Vec<&ModelFacts<'a>>> = BTreeMap::new();
    for model in models {
        match index.by_model(model.name) {
            Resolution::Relation(oid) => claims.entry(oid).or_default().push(model),
            other => state.set(model, other),
        }
    }
    for (oid, claimants) in claims {
        state.claimed.insert(oid);
        state.settle(&index, oid, &claimants);
    }
    let unresolved: Vec<_> = models
        .iter()
        .filter(|model| state.is_nothing(model))
        .collect();
    state.by_evidence(&index, &unresolved, many2many, by_constraints);
    let unresolved: Vec<_> = models
        .iter()
        .filter(|model| state.is_nothing(model))
        .collect();
    state.by_evidence(&index, &unresolved, many2many, by_columns);
    (state.resolutions, state.notes)
}

struct Index<'a> {
    by_oid: BTreeMap<u32, &'a RelationFacts<'a>>,
    by_name: HashMap<&'a str, Vec<&'a RelationFacts<'a>>>,
}

impl<'a> Index<'a> {
    fn new(tables: &'a [RelationFacts<'a>]) -> Self {
        let mut index = Self {
            by_oid: BTreeMap::new(),
            by_name: HashMap::new(),
        };
        for table in tables {
            index.by_oid.insert(table.oid, table);
            index.by_name.entry(table.name).or_default().push(table);
        }
        index
    }

    /// By the model's name alone.
    fn by_model(&self, model: &str) -> Resolution {
        let exception = EXCEPTIONS
            .iter()
            .find(|(name, _)| *name == model)
            .map(|(_, table)| *table);
        let dotted = model.replace('.', "_");
        exception
            .into_iter()
            .chain([dotted.as_str()])
            .map(|name| self.by_table_name(name))
            .find(|found| *found != Resolution::Nothing)
            .unwrap_or_default()
    }

    fn by_table_name(&self, name: &str) -> Resolution {
        let found = self
            .by_name
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some(public) = found.iter().find(|table| table.schema == "public") {
            return Resolution::Relation(public.oid);
        }
        match found {
            [] => Resolution::Nothing,
            [only] => Resolution::Relation(only.oid),
            several => {
                let names: Vec<_> = several.iter().map(|table| table.qualified()).collect();
                Resolution::Ambiguous(format!("its table may be any of {}", names.join(", ")))
            }
        }
    }
}

#[derive(Default)]
struct State {
    resolutions: BTreeMap<String, Resolution>,
    claimed: BTreeSet<u32>,
    notes: Vec<String>,
}

impl State {
    fn set(&mut self, model: &ModelFacts<'_>, resolution: Resolution) {
        self.resolutions.insert(model.name.to_owned(), resolution);
    }

    fn is_nothing(&self, model: &ModelFacts<'_>) -> bool {
        self.resolutions
            .get(model.name)
            .is_none_or(|found| *found == Resolution::Nothing)
    }

    /// Decides who owns a relation that at least one model claims by name.
    fn settle(&mut self, index: &Index<'_>, oid: u32, claimants: &[&ModelFacts<'_>]) {
        let Some(table) = index.by_oid.get(&oid) else {
            return;
        };
        let excepted = |model: &ModelFacts<'_>| EXCEPTIONS.contains(&(model.name, table.name));
        let owners: Vec<_> = claimants
            .iter()
            .copied()
            .filter(|model| excepted(model))
            .collect();
        let owners = if owners.is_empty() {
            owner_of(table, claimants)
        } else {
            owners
        };
        let names: Vec<_> = claimants.iter().map(|model| model.name).collect();
        for model in claimants {
            let resolution = if owners.is_empty() {
                Resolution::Ambiguous(format!(
                    "the table {} may belong to any of {}",
                    table.qualified(),
                    names.join(", ")
                ))
            } else if owners.iter().any(|owner| owner.name == model.name) {
                Resolution::Relation(oid)
            } else {
                Resolution::Nothing
            };
            self.set(model, resolution);
        }
        if let (true, [owner]) = (claimants.len() > 1, owners.as_slice()) {
            self.notes.push(format!(
                "{} could be the table of {}; its columns and keys say it is that of {}",
                table.qualified(),
                names.join(" or "),
                owner.name
            ));
        }
    }

    /// Gives unclaimed tables to models without one, where the evidence is unique both ways.
    fn by_evidence(
        &mut self,
        index: &Index<'_>,
        models: &[&ModelFacts<'_>],
        many2many: &BTreeSet<u32>,
        evidence: fn(&ModelFacts<'_>, &[&RelationFacts<'_>]) -> Vec<u32>,
    ) {
        let free: Vec<&RelationFacts<'_>> = index
            .by_oid
            .values()
            .copied()
            .filter(|table| table.ownable)
            .filter(|table| !self.claimed.contains(&table.oid))
            .filter(|table| !many2many.contains(&table.oid) || table.columns.contains("id"))
            .collect();
        let mut wanted: BTreeMap<u32, Vec<&ModelFacts<'_>>> = BTreeMap::new();
        for model in models {
            let found = evidence(model, &free);
            if let [only] = found.as_slice() {
                wanted.entry(*only).or_default().push(model);
            }
        }
        for (oid, models) in wanted {
            let Some(table) = index.by_oid.get(&oid) else {
                continue;
            };
            let table = table.qualified();
            match models.as_slice() {
                [model] => {
                    self.claimed.insert(oid);
                    self.set(model, Resolution::Relation(oid));
                    self.notes.push(format!(
                        "{} has no table of its name; by its fields and keys it is {table}",
                        model.name
                    ));
                }
                several => {
                    let names: Vec<_> = several.iter().map(|model| model.name).collect();
                    self.notes.push(format!(
                        "{} look like the table {table}; it is taken for none of them",
                        names.join(" and ")
                    ));
                }
            }
        }
    }
}

/// The one claimant that the evidence speaks for, if there is one.
fn owner_of<'m, 'a>(
    table: &RelationFacts<'_>,
    claimants: &[&'m ModelFacts<'a>],
) -> Vec<&'m ModelFacts<'a>> {
    if let [only] = claimants {
        return vec![*only];
    }
    let fitting: Vec<_> = claimants
        .iter()
        .copied()
        .filter(|model| model.fits(table))
        .collect();
    let logged =
        |model: &&ModelFacts<'_>| model.has_log_access() == table.columns.contains("create_uid");
    let constrained = |model: &&ModelFacts<'_>| model.constrained.contains(&table.oid);
    let narrower: Vec<_> = fitting.iter().copied().filter(logged).collect();
    let narrowest: Vec<_> = narrower.iter().copied().filter(constrained).collect();
    [fitting, narrower, narrowest]
        .into_iter()
        .find(|left| left.len() == 1)
        .unwrap_or_default()
}

fn by_constraints(model: &ModelFacts<'_>, free: &[&RelationFacts<'_>]) -> Vec<u32> {
    free.iter()
        .filter(|table| model.constrained.contains(&table.oid) && model.fits(table))
        .map(|table| table.oid)
        .collect()
}

/// A table must have all the model's columns, and most of its own must be the model's: a table
/// that merely happens to have a `name` is no evidence.
fn by_columns(model: &ModelFacts<'_>, free: &[&RelationFacts<'_>]) -> Vec<u32> {
    let own = model.own_columns().count();
    if !model.has_log_access() || own == 0 {
        return Vec::new();
    }
    free.iter()
        .filter(|table| model.fits(table))
        .filter(|table| {
            let columns = table.columns.iter().filter(|name| !MAGIC.contains(name));
            own * 2 >= columns.count()
        })
        .map(|table| table.oid)
        .collect()
}

#[cfg(test)]
mod tests;

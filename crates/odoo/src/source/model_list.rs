//! Every model that was looked at, in the bundle or not, and why.
//!
//! Every entry of the inventory is accounted for: under its own name, or under the name that the
//! database has for it. Models that the inventory does not know follow.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_format::{ModelEntry, ModelStatus, TableEntry, X2ManyField};

use crate::inventory::{OTHER_CATEGORY, UNRATED, entry_of, inventory};
use crate::order::import_order;
use crate::registry::{Registry, Resolution};
use crate::scope::{Scope, accounted};

/// Rows by table.
type Rows<'a> = BTreeMap<&'a str, u64>;

/// Fields by model.
type Relations<'a> = BTreeMap<&'a str, Vec<X2ManyField>>;

/// The list. `tables` are the exported ones; before the export there are none, and no model
/// counts as empty.
pub(super) fn model_list(
    registry: &Registry,
    scope: &Scope,
    tables: Option<&[TableEntry]>,
) -> Vec<ModelEntry> {
    let rows = tables.map(|tables| {
        tables
            .iter()
            .map(|entry| (entry.table.as_str(), entry.rows))
            .collect::<Rows<'_>>()
    });
    let planned: Vec<_> = scope
        .tasks
        .iter()
        .map(|task| (task.table.table.qualified(), &task.table))
        .collect();
    let groups = import_order(planned.iter().map(|(name, table)| {
        (
            name.as_str(),
            table.foreign_keys.iter().map(|key| key.references.as_str()),
        )
    }));
    let order: BTreeMap<String, u32> = groups.into_iter().flatten().zip(0u32..).collect();
    let mut names: BTreeSet<&str> = accounted(scope);
    for entry in inventory() {
        // An entry whose model was renamed is accounted for under the present name.
        let present: Vec<&str> = entry
            .names()
            .filter(|name| registry.models.contains_key(*name))
            .collect();
        if present.is_empty() {
            names.insert(&entry.model);
        }
        names.extend(present);
    }
    let relations = relations(registry, scope);
    let mut list: Vec<ModelEntry> = names
        .into_iter()
        .map(|name| entry(name, registry, scope, rows.as_ref(), &order, &relations))
        .collect();
    let rank = |model: &ModelEntry| {
        let known = model.inventory_name.as_deref().unwrap_or(&model.model);
        inventory()
            .iter()
            .position(|entry| entry.model == known)
            .unwrap_or(usize::MAX)
    };
    list.sort_by(|a, b| (rank(a), &a.model).cmp(&(rank(b), &b.model)));
    list
}

fn entry(
    name: &str,
    registry: &Registry,
    scope: &Scope,
    rows: Option<&Rows<'_>>,
    order: &BTreeMap<String, u32>,
    relations: &Relations<'_>,
) -> ModelEntry {
    let known = entry_of(name);
    let table = scope.model_tables.get(name);
    let count = rows.map(|rows| {
        table
            .and_then(|t| rows.get(t.as_str()))
            .copied()
            .unwrap_or_default()
    });
    let (status, reason) = status(name, registry, scope, count);
    let words = |word: fn(&crate::inventory::InventoryEntry) -> &String, otherwise: &str| {
        known.map_or_else(|| otherwise.to_owned(), |entry| word(entry).clone())
    };
    ModelEntry {
        model: name.to_owned(),
        inventory_name: known
            .filter(|entry| entry.model != name)
            .map(|entry| entry.model.clone()),
        table: table.cloned(),
        status,
        rows: count.unwrap_or_default(),
        reason,
        category: words(|entry| &entry.category, OTHER_CATEGORY),
        priority: words(|entry| &entry.priority, UNRATED),
        sensitive: words(|entry| &entry.sensitive, "Unknown"),
        modules: registry
            .models
            .get(name)
            .map(|model| model.modules.clone())
            .unwrap_or_default(),
        import_order: table.and_then(|table| order.get(table)).copied(),
        x2many: x2many(name, registry, scope, relations),
    }
}

/// The many2many fields of each model whose tables travel.
fn relations<'a>(registry: &'a Registry, scope: &Scope) -> Relations<'a> {
    let mut found = Relations::new();
    for task in &scope.tasks {
        let uses = registry.relations.get(&task.table.table.oid);
        for relation in uses.into_iter().flatten() {
            let field = X2ManyField {
                field: relation.field.clone(),
                ttype: "many2many".to_owned(),
                relation: relation.other.clone(),
                table: task.table.table.qualified(),
                column: relation.column1.clone(),
                ids: relation.column2.clone(),
            };
            found.entry(&relation.model).or_default().push(field);
        }
    }
    found
}

/// The fields of a model whose values stand in another table that travels.
fn x2many(
    name: &str,
    registry: &Registry,
    scope: &Scope,
    relations: &Relations<'_>,
) -> Vec<X2ManyField> {
    let Some(model) = registry.models.get(name) else {
        return Vec::new();
    };
    if !scope.model_tables.contains_key(name) {
        return Vec::new();
    }
    let reverse = model.fields.values().filter_map(|field| {
        let (other, inverse) = (field.relation.as_ref()?, field.inverse.as_ref()?);
        let back = registry.models.get(other)?.fields.get(inverse)?;
        // A mixin's field may be the reverse of a plain number, such as `mail.message.res_id`.
        let leads_back =
            back.ttype == "many2one" && back.relation.as_deref() == Some(name) && back.has_column();
        (field.ttype == "one2many" && leads_back).then_some(())?;
        Some(X2ManyField {
            field: field.name.clone(),
            ttype: field.ttype.clone(),
            relation: other.clone(),
            table: scope.model_tables.get(other)?.clone(),
            column: inverse.clone(),
            ids: "id".to_owned(),
        })
    });
    let shared = relations.get(name).into_iter().flatten().cloned();
    let mut fields: Vec<X2ManyField> = reverse.chain(shared).collect();
    fields.sort();
    fields.dedup_by(|one, other| one.field == other.field);
    fields
}

fn status(
    name: &str,
    registry: &Registry,
    scope: &Scope,
    rows: Option<u64>,
) -> (ModelStatus, String) {
    let choice = &scope.choice;
    let Some(model) = registry.models.get(name) else {
        return (
            ModelStatus::Absent,
            "the database has no such model".to_owned(),
        );
    };
    if scope.model_tables.contains_key(name) {
        let status = if rows == Some(0) {
            ModelStatus::Empty
        } else {
            ModelStatus::Exported
        };
        let reason = choice.chosen.get(name).cloned().unwrap_or_else(|| {
            "its table travels with chosen models: they share it, it inherits from theirs, or it \
             is their many2many table"
                .to_owned()
        });
        return (status, reason);
    }
    if choice.excluded.contains(name) {
        return (
            ModelStatus::Excluded,
            "not among the models that were asked for".to_owned(),
        );
    }
    if choice.transient.contains(name) {
        let reason = "its rows are short-lived (a wizard); --models names it if they are wanted";
        return (ModelStatus::Transient, reason.to_owned());
    }
    match &model.resolution {
        Resolution::Nothing => (ModelStatus::Abstract, "it has no table".to_owned()),
        Resolution::Ambiguous(why) => (ModelStatus::Excluded, why.clone()),
        Resolution::Relation(_) if choice.chosen.contains_key(name) => (
            ModelStatus::View,
            "it is a view; its rows come from other tables".to_owned(),
        ),
        Resolution::Relation(_) => (
            ModelStatus::Excluded,
            "not among the models that were asked for".to_owned(),
        ),
    }
}

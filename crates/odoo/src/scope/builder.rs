//! The growing plan: one entry a table, and the tables of models and relations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arkstream_format::{TableRole, member_names};
use arkstream_postgres::{Catalog, CatalogTable, TableRef, TableTask, VirtualQuery};

use super::filter::{Condition, Definitions, from_clause};
use super::{Choice, Rows, Scope};
use crate::registry::{Model, Registry, Resolution};
use crate::selection::is_stack_module;

/// The plan while it is made.
pub(super) struct Builder<'a> {
    pub(super) registry: &'a Registry,
    pub(super) catalog: &'a Catalog,
    pub(super) choice: Choice,
    /// By the table's object id, in no particular order: the tasks are sorted in the end.
    planned: BTreeMap<u32, TableTask>,
    definitions: Definitions,
    defined: BTreeMap<u32, Rows>,
    queries: Vec<TableTask>,
    by_name: BTreeMap<String, u32>,
    notes: Vec<String>,
    omissions: Vec<(String, String)>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(registry: &'a Registry, catalog: &'a Catalog, choice: Choice) -> Self {
        let by_name = catalog
            .tables()
            .map(|t| (t.table.qualified(), t.table.oid))
            .collect();
        Self {
            registry,
            catalog,
            planned: BTreeMap::new(),
            definitions: Definitions::new(choice.chosen.keys().map(String::as_str)),
            defined: BTreeMap::new(),
            choice,
            queries: Vec::new(),
            by_name,
            notes: registry.notes.clone(),
            omissions: Vec::new(),
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A table of the catalog, to be kept.
    fn shared(&self, table: &CatalogTable) -> Arc<CatalogTable> {
        let shared = self.catalog.shared(table.table.oid);
        shared.unwrap_or_else(|| Arc::new(table.clone()))
    }

    /// What is planned for a table.
    pub(super) fn planned(&self, oid: u32) -> Option<&TableTask> {
        self.planned.get(&oid)
    }

    /// Everything that is planned, by object id.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &TableTask> {
        self.planned.values()
    }

    /// The table with that schema-qualified name.
    pub(super) fn named(&self, qualified: &str) -> Option<&'a CatalogTable> {
        self.catalog.by_oid(*self.by_name.get(qualified)?)
    }

    /// One of Odoo's own tables.
    pub(super) fn odoo(&self, name: &str) -> Option<&'a CatalogTable> {
        self.registry.odoo_table(self.catalog, name)
    }

    /// The rows of a planned table, for use in conditions.
    pub(super) fn rows(&self, task: &TableTask) -> Rows {
        let defined = self.defined.get(&task.table.table.oid);
        defined.cloned().unwrap_or_else(|| Rows::of(task))
    }

    /// Adds those rows of a table that meet any of the conditions.
    pub(super) fn add_filtered(&mut self, table: &CatalogTable, conditions: &BTreeSet<Condition>) {
        self.add_rows(table, conditions, None);
    }

    /// The same, of which only some columns travel.
    pub(super) fn add_identity(
        &mut self,
        table: &CatalogTable,
        conditions: &BTreeSet<Condition>,
        columns: Vec<String>,
    ) {
        self.add_rows(table, conditions, Some(columns));
    }

    fn add_rows(
        &mut self,
        table: &CatalogTable,
        conditions: &BTreeSet<Condition>,
        columns: Option<Vec<String>>,
    ) {
        let filter = self.definitions.filter(conditions);
        let rows = self
            .definitions
            .define(table, conditions, columns.is_some());
        self.defined.insert(table.table.oid, rows);
        self.add_support(table, Some(filter), columns.clone());
        for child in self.heirs(table) {
            self.add_rows(child, conditions, columns.clone());
        }
    }

    /// Adds a table that is no model's.
    fn add_support(
        &mut self,
        table: &CatalogTable,
        filter: Option<String>,
        columns: Option<Vec<String>>,
    ) {
        let model = self
            .registry
            .models_of(table.table.oid)
            .first()
            .map(|model| model.name.clone());
        let dir = format!("{}{}/", member_names::SUPPORT_DIR, table_dir(&table.table));
        let mut task = TableTask::of_table(self.shared(table), TableRole::Support, dir);
        task.model = model;
        task.filter = filter;
        task.columns = columns;
        task.annotations = self.registry.annotations(table);
        self.planned.entry(table.table.oid).or_insert(task);
    }

    /// Adds the rows of a query.
    pub(super) fn add_query(&mut self, query: VirtualQuery) {
        let dir = format!(
            "{}{}/",
            member_names::SUPPORT_DIR,
            encoded(&query.name, false)
        );
        self.queries
            .push(TableTask::of_query(query, TableRole::Support, dir));
    }

    /// The tables of the chosen models, and what inherits from them.
    pub(super) fn add_models(&mut self) {
        let names: Vec<String> = self.choice.chosen.keys().cloned().collect();
        for name in names {
            if let Some(table) = self
                .registry
                .models
                .get(&name)
                .and_then(|model| self.table_of(model))
            {
                self.add_model_table(table);
                self.add_heirs(table);
            }
        }
        self.note_extended();
    }

    /// Every many2many table with a chosen model on one side.
    pub(super) fn add_relations(&mut self) {
        let registry = self.registry;
        for (oid, uses) in &registry.relations {
            let chosen = |model: &String| self.choice.chosen.contains_key(model);
            let concerned = uses
                .iter()
                .any(|field| chosen(&field.model) || chosen(&field.other));
            // A wizard that points to a chosen model fills its table with rows that mean nothing
            // without the wizard.
            let lasting = uses.iter().any(|field| {
                [&field.model, &field.other].into_iter().all(|model| {
                    chosen(model)
                        || registry
                            .models
                            .get(model)
                            .is_none_or(|model| !model.transient)
                })
            });
            if let (true, Some(table)) = (concerned && lasting, self.catalog.by_oid(*oid)) {
                self.add_relation(table);
            }
        }
    }

    /// Every table of the database, each once, but those of excluded models.
    pub(super) fn add_everything(&mut self) {
        let catalog = self.catalog;
        for table in catalog.tables().filter(|table| !table.is_partition) {
            let models = self.registry.models_of(table.table.oid);
            let excluded = !models.is_empty()
                && models
                    .iter()
                    .all(|m| self.choice.excluded.contains(&m.name));
            match table.kind {
                'r' | 'p' if excluded => {}
                'r' | 'p' if !models.is_empty() => self.add_model_table(table),
                'r' | 'p' if self.registry.relations.contains_key(&table.table.oid) => {
                    self.add_relation(table);
                }
                'r' | 'p' => self.add_support(table, None, None),
                'f' => {
                    let why = "it is a foreign table; its rows live on another server";
                    self.omissions
                        .push((table.table.qualified(), why.to_owned()));
                }
                _ => {}
            }
        }
    }

    /// The plan, sorted: models, relations, support, each by name.
    pub(super) fn finish(self) -> Scope {
        let attachments =
            self.odoo("ir_attachment")
                .map(|table| match self.planned(table.table.oid) {
                    Some(task) => Rows::of(task),
                    None => Rows {
                        from: from_clause(table),
                        filter: Some("false".to_owned()),
                    },
                });
        let mut model_tables = BTreeMap::new();
        for task in self.planned.values().filter(|task| task.columns.is_none()) {
            if task.role == TableRole::Model {
                for model in self.registry.models_of(task.table.table.oid) {
                    model_tables.insert(model.name.clone(), task.table.table.qualified());
                }
            }
        }
        let tasks = self.planned.into_values().chain(self.queries);
        let mut tasks: Vec<_> = tasks.map(Arc::new).collect();
        tasks.sort_by_cached_key(|task| (rank(task.role), task.member_dir.clone()));
        Scope {
            tasks,
            choice: self.choice,
            model_tables,
            attachments,
            notes: self.notes,
            omissions: self.omissions,
        }
    }

    fn table_of(&self, model: &Model) -> Option<&'a CatalogTable> {
        match model.resolution {
            Resolution::Relation(oid) => self.catalog.by_oid(oid),
            _ => None,
        }
        .filter(|table| matches!(table.kind, 'r' | 'p'))
    }

    fn add_model_table(&mut self, table: &CatalogTable) {
        let oid = table.table.oid;
        let models = self.registry.models_of(oid);
        let chosen = models
            .iter()
            .find(|model| self.choice.chosen.contains_key(&model.name));
        let Some(model) = chosen.or(models.first()) else {
            return self.add_support(table, None, None);
        };
        let dir = format!(
            "{}{}/",
            member_names::MODELS_DIR,
            encoded(&model.name, true)
        );
        let mut task = TableTask::of_table(self.shared(table), TableRole::Model, dir);
        task.model = Some(model.name.clone());
        task.annotations = self.registry.annotations(table);
        self.planned.entry(oid).or_insert(task);
    }

    fn add_relation(&mut self, table: &CatalogTable) {
        if !self.registry.models_of(table.table.oid).is_empty() {
            return self.add_model_table(table);
        }
        let dir = format!(
            "{}{}/",
            member_names::RELATIONS_DIR,
            table_dir(&table.table)
        );
        let mut task = TableTask::of_table(self.shared(table), TableRole::Relation, dir);
        task.annotations = self.registry.annotations(table);
        self.planned.entry(table.table.oid).or_insert(task);
        for child in self.heirs(table) {
            self.add_relation(child);
        }
    }

    /// Tables that inherit from a table directly and are not planned yet. Partitions come with
    /// their parent.
    fn heirs(&self, table: &CatalogTable) -> Vec<&'a CatalogTable> {
        let children = table.children.iter().filter(|_| table.kind != 'p');
        children
            .filter_map(|oid| self.catalog.by_oid(*oid))
            .filter(|child| self.planned(child.table.oid).is_none())
            .collect()
    }

    /// Tables that inherit from a table, at any depth. Partitions come with their parent.
    fn add_heirs(&mut self, table: &CatalogTable) {
        if table.kind == 'p' {
            return;
        }
        for child in table
            .children
            .iter()
            .filter_map(|oid| self.catalog.by_oid(*oid))
        {
            if self.planned(child.table.oid).is_some() {
                continue;
            }
            let models = self.registry.models_of(child.table.oid);
            if !models.is_empty()
                && models
                    .iter()
                    .all(|m| self.choice.excluded.contains(&m.name))
            {
                continue;
            }
            self.add_model_table(child);
            self.add_heirs(child);
        }
    }

    /// Fields that modules of the stack add to other models do not travel; that is said.
    fn note_extended(&mut self) {
        let extended: Vec<_> = self
            .registry
            .models
            .values()
            .filter(|model| model.modules.iter().any(|module| is_stack_module(module)))
            .filter(|model| !self.choice.chosen.contains_key(&model.name))
            .filter(|model| !self.choice.excluded.contains(&model.name) && !model.transient)
            .filter(|model| self.table_of(model).is_some())
            .map(|model| model.name.as_str())
            .collect();
        if !extended.is_empty() {
            let note = format!(
                "modules of the stack extend models that do not travel: {}; add them with --models \
                 or take --profile all",
                extended.join(", ")
            );
            self.note(note);
        }
    }
}

fn rank(role: TableRole) -> u8 {
    match role {
        TableRole::Model => 0,
        TableRole::Relation => 1,
        TableRole::Support => 2,
    }
}

/// The folder of a table: its name, behind its schema where that is not `public`.
fn table_dir(table: &TableRef) -> String {
    if table.schema == "public" {
        encoded(&table.name, false)
    } else {
        format!(
            "{}.{}",
            encoded(&table.schema, false),
            encoded(&table.name, false)
        )
    }
}

/// A name as the name of a folder on any system: letters, digits, `_`, `-`, and dots within model
/// names; anything else as `%XX`. Different names stay different.
fn encoded(name: &str, dots: bool) -> String {
    let dots = dots && !name.starts_with('.') && !name.ends_with('.');
    name.bytes()
        .fold(String::with_capacity(name.len()), |mut text, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => {
                    text.push(char::from(byte))
                }
                b'.' if dots => text.push('.'),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str) -> TableRef {
        TableRef {
            schema: schema.into(),
            name: name.into(),
            oid: 1,
        }
    }

    #[test]
    fn folders_cannot_lead_elsewhere_or_collide() {
        assert_eq!(encoded("ai.message", true), "ai.message");
        for name in ["..", ".", "../../etc", "a/b", "a\\b", "ä", "c:d", "x."] {
            let folder = encoded(name, true);
            assert!(
                !folder.contains(['/', '\\', ':']) && !folder.ends_with('.'),
                "{folder}"
            );
        }
        assert_eq!(table_dir(&table("public", "ai_message")), "ai_message");
        assert_ne!(
            table_dir(&table("public", "x.y")),
            table_dir(&table("x", "y"))
        );
    }
}

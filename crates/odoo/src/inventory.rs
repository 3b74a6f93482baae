//! The inventory: the models that the specification names, with what it says about them.
//!
//! It is a list of names to account for, never a limit: real installations lack some of these
//! models, have renamed others, and hold more of their kind. So [`InventoryEntry::names`] gives
//! every name under which a model has been known, and the choice of models
//! ([`crate::selection::Selection`]) adds what the same modules define beside them.
//!
//! The table is `data/model-inventory.csv`, compiled in. Memory: a few kilobytes, once.

use std::sync::LazyLock;

/// Names under which one and the same model has been known over the releases.
const RENAMED: &[[&str; 2]] = &[
    ["connections", "workflow.connection"],
    ["ai.service.provider", "api.service.provider"],
    ["documentation_intelligence", "documentation.intelligence"],
];

/// Category of models that the inventory does not name.
pub const OTHER_CATEGORY: &str = "Other";

/// Priority of models that the inventory does not name.
pub const UNRATED: &str = "unrated";

/// One model of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryEntry {
    /// The name the inventory uses.
    pub model: String,
    /// Its category, such as `Core SAM AI Models`.
    pub category: String,
    /// What it holds.
    pub description: String,
    /// `critical`, `important` or `nice-to-have`.
    pub priority: String,
    /// Whether it holds personal data or credentials, in the inventory's words.
    pub sensitive: String,
}

impl InventoryEntry {
    /// Every name of the model, the inventory's own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.model.as_str())
            .chain(aliases(&self.model).map(|name| -> &str { name }))
    }
}

/// The models of the inventory, in its order.
#[must_use]
pub fn inventory() -> &'static [InventoryEntry] {
    static ENTRIES: LazyLock<Vec<InventoryEntry>> =
        LazyLock::new(|| parse(include_str!("../data/model-inventory.csv")));
    &ENTRIES
}

/// The entry that knows a model under this name or under another of its names.
#[must_use]
pub fn entry_of(model: &str) -> Option<&'static InventoryEntry> {
    let named = |name: &str| inventory().iter().find(|entry| entry.model == name);
    named(model).or_else(|| aliases(model).find_map(named))
}

/// Other names of a model, old and new.
pub fn aliases(model: &str) -> impl Iterator<Item = &'static str> {
    RENAMED
        .iter()
        .filter(move |names| names.contains(&model))
        .flatten()
        .copied()
        .filter(move |name| *name != model)
}

/// The table is part of the program, so a line that cannot be read is a defect which the tests
/// find; it is left out here because nothing can be done about it at run time.
fn parse(table: &str) -> Vec<InventoryEntry> {
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    reader
        .records()
        .filter_map(|record| entry(&record.ok()?))
        .collect()
}

fn entry(record: &csv::StringRecord) -> Option<InventoryEntry> {
    let column = |index: usize| record.get(index).map(str::to_owned);
    Some(InventoryEntry {
        category: column(1)?,
        model: column(2)?,
        description: column(3)?,
        priority: column(4)?,
        sensitive: column(5)?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_of_the_inventory_is_read() {
        let lines = include_str!("../data/model-inventory.csv").lines().count() - 1;
        assert_eq!(inventory().len(), lines);
        assert_eq!(inventory().len(), 63);
        let names: BTreeSet<_> = inventory().iter().map(|entry| &entry.model).collect();
        assert_eq!(names.len(), 63, "a model stands twice");
        for entry in inventory() {
            assert!(
                ["critical", "important", "nice-to-have"].contains(&entry.priority.as_str()),
                "{entry:?}"
            );
            assert!(
                !entry.category.is_empty() && !entry.sensitive.is_empty(),
                "{entry:?}"
            );
        }
    }

    #[test]
    fn quoted_commas_do_not_shift_columns() {
        let config = entry_of("ai.service.config").unwrap();
        assert_eq!(config.description, "API keys, model configs");
        assert_eq!(config.sensitive, "Yes (API keys)");
    }

    #[test]
    fn renamed_models_are_found_under_both_names() {
        for (old, new) in [
            ("connections", "workflow.connection"),
            ("ai.service.provider", "api.service.provider"),
            ("documentation_intelligence", "documentation.intelligence"),
        ] {
            assert_eq!(entry_of(old).unwrap().model, old);
            assert_eq!(entry_of(new).unwrap().model, old);
            assert_eq!(
                entry_of(old).unwrap().names().collect::<Vec<_>>(),
                [old, new]
            );
        }
        assert!(entry_of("res.partner").is_none());
    }
}

//! `odoo_data/model_list.json`: every model, in the bundle or not, and why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelStatus {
    /// Its rows are in the bundle.
    Exported,
    /// It has a table without rows; the table is in the bundle.
    Empty,
    /// It has no table of its own.
    Abstract,
    /// It is a view; its rows come from other tables.
    View,
    /// Its rows are short-lived (wizards) and were not asked for.
    Transient,
    /// The database has no such model.
    Absent,
    /// It was excluded by the user's choice of models.
    Excluded,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelEntry {
    /// Technical name, such as `ai.message`, as the database has it; for absent models as the
    /// inventory has it.
    pub model: String,
    /// The inventory's name where it differs from `model` (renamed models).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_name: Option<String>,
    /// Schema-qualified table, if it has one.
    pub table: Option<String>,
    /// What became of it.
    pub status: ModelStatus,
    /// Rows in the bundle.
    pub rows: u64,
    /// Why it is here, or why it has no rows here.
    pub reason: String,
    /// The inventory's category, or `Other`.
    pub category: String,
    /// `critical`, `important`, `nice-to-have` or `unrated`.
    pub priority: String,
    /// Whether it holds personal data or credentials, in the inventory's words.
    pub sensitive: String,
    /// Modules that define it, where known.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Position in the import order; absent when nothing is to be imported.
    pub import_order: Option<u32>,
    /// Its fields whose values stand in another table of the bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x2many: Vec<X2ManyField>,
}

/// A one2many or many2many field: the values of a row are the `ids` of those rows of `table` whose
/// `column` holds the row's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct X2ManyField {
    /// The field's name.
    pub field: String,
    /// `one2many` or `many2many`.
    pub ttype: String,
    /// The model it points to.
    pub relation: String,
    /// Schema-qualified table.
    pub table: String,
    /// The column with the ids of this model.
    pub column: String,
    /// The column with the ids of the model it points to.
    pub ids: String,
}

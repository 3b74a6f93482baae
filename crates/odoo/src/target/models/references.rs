//! Where a column's values lead, and how they are brought to the target's ids.

use std::collections::BTreeMap;

use arkstream_format::TableEntry;
use arkstream_postgres::{Catalog, CatalogTable};

use crate::registry::Registry;
use crate::source::model_column;

/// Where the values of a column lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Reference {
    /// Nowhere.
    #[default]
    None,
    /// To ids of a table.
    Table(String),
    /// To the model that another column names.
    Pair(String),
    /// `model,id`.
    Text,
    /// A JSON object by company id; the values are ids of the model, or plain values.
    ByCompany(Option<String>),
    /// `1/5/12/`: ids of the table itself.
    Path,
    /// The JSON value of a default; an id where the field is a many2one.
    Default,
    /// Text that may hold links to attachments.
    Links,
}

/// Pairs of Odoo's own tables.
const PAIRS: &[(&str, &str, &str)] = &[
    ("ir_attachment", "res_model", "res_id"),
    ("ir_model_data", "model", "res_id"),
    ("mail_message", "model", "res_id"),
    ("mail_followers", "res_model", "res_id"),
    ("mail_activity", "res_model", "res_id"),
];

/// The references of a table's columns: foreign keys of the live table first, then what Odoo says
/// of its fields, then what the bundle says.
pub(super) fn of_table(
    entry: &TableEntry,
    live: &CatalogTable,
    catalog: &Catalog,
    registry: &Registry,
    table_of_model: &BTreeMap<String, String>,
) -> BTreeMap<String, Reference> {
    // An inheriting table has its parent's columns, without the parent's keys and models.
    let family = family(catalog, live);
    let mut found = BTreeMap::new();
    let mut put = |column: &str, reference: Reference| {
        found.entry(column.to_owned()).or_insert(reference);
    };
    for key in family.iter().flat_map(|table| &table.foreign_keys) {
        if let ([column], [referenced]) =
            (key.columns.as_slice(), key.referenced_columns.as_slice())
            && referenced == "id"
        {
            put(column, Reference::Table(key.references.clone()));
        }
    }
    for (table, model, id) in PAIRS {
        if live.table.name == *table && live.column(model).is_some() {
            put(id, Reference::Pair((*model).to_owned()));
        }
    }
    if live.table.name == "ir_default" {
        put("json_value", Reference::Default);
    }
    let models = family
        .iter()
        .flat_map(|table| registry.models_of(table.table.oid));
    for model in models {
        for field in model.fields.values() {
            let Some(column) = live.column(&field.name) else {
                continue;
            };
            let jsonb = column.pg.type_name == "jsonb";
            match field.ttype.as_str() {
                _ if field.company_dependent && jsonb => {
                    let target = (field.ttype == "many2one")
                        .then(|| field.relation.clone())
                        .flatten();
                    put(&field.name, Reference::ByCompany(target));
                }
                "many2one_reference" => {
                    if let Some(name) = model_column(model, field, live) {
                        put(&field.name, Reference::Pair(name.to_owned()));
                    }
                }
                "reference" => put(&field.name, Reference::Text),
                "many2one" => {
                    if let Some(table) = field.relation.as_ref().and_then(|m| table_of_model.get(m))
                    {
                        put(&field.name, Reference::Table(table.clone()));
                    }
                }
                "html" | "text" => put(&field.name, Reference::Links),
                _ => {}
            }
        }
    }
    if live.column("parent_path").is_some() {
        put("parent_path", Reference::Path);
    }
    for column in &entry.columns {
        let relation = column.relation.as_ref().filter(|_| {
            column.odoo_type.is_none() || column.odoo_type.as_deref() == Some("many2one")
        });
        if let Some(table) = relation.and_then(|model| table_of_model.get(model))
            && column.pg_type == "integer"
        {
            put(&column.name, Reference::Table(table.clone()));
        }
    }
    found.remove("id");
    found
}

/// A table and those it inherits from, however far.
fn family<'c>(catalog: &'c Catalog, live: &'c CatalogTable) -> Vec<&'c CatalogTable> {
    let mut family = vec![live];
    let mut next = 0;
    while let Some(table) = family.get(next) {
        let oid = table.table.oid;
        let parents: Vec<_> = catalog
            .tables()
            .filter(|t| t.kind == 'r' && t.children.contains(&oid))
            .collect();
        family.extend(parents);
        next += 1;
    }
    family
}

impl Reference {
    /// Whether a value can become NULL because what it leads to is not found.
    pub(super) fn can_be_lost(&self) -> bool {
        matches!(
            self,
            Self::Table(_) | Self::Pair(_) | Self::Text | Self::ByCompany(_) | Self::Default
        )
    }
}

//! Odoo's registry: `ir_module_module`, `ir_model`, `ir_model_fields`, `ir_model_relation`,
//! `ir_model_constraint` and the external ids, describing the sample's own models.
//!
//! Tables made by `sql/special.sql` are described from the catalog; columns that are no field
//! (passwords, one-time secrets) are left out, as in a real database.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::model::{Kind, Model};
use super::schema::RelationTable;

pub(super) const SQL: &str = include_str!("../../sql/registry.sql");

/// Technical name, state, installed version.
pub(super) const MODULES: [(&str, &str, Option<&str>); 24] = [
    ("base", "installed", Some("18.0.1.3")),
    ("web", "installed", Some("18.0.1.0")),
    ("mail", "installed", Some("18.0.1.19")),
    ("product", "installed", Some("18.0.1.2")),
    ("sale", "installed", Some("18.0.1.2")),
    ("sales_team", "installed", Some("18.0.1.1")),
    ("project", "installed", Some("18.0.1.3")),
    ("auth_totp", "installed", Some("18.0.1.0")),
    ("ai_brain", "installed", Some("18.0.3.2.1")),
    ("ai_sam", "installed", Some("18.0.2.11.0")),
    ("ai_sam_memory", "installed", Some("18.0.1.4.0")),
    ("ai_sam_creatives", "installed", Some("18.0.1.0.2")),
    ("ai_sam_socials", "installed", Some("18.0.1.0.0")),
    ("ai_automator", "installed", Some("18.0.5.0.0")),
    ("sam_mcp", "installed", Some("18.0.0.9.1")),
    ("sam_dreams", "to upgrade", Some("18.0.0.1.0")),
    ("sam_lab", "installed", Some("18.0.0.0.1")),
    ("website_ai", "installed", Some("18.0.1.0.0")),
    ("ai_sam_voice", "uninstalled", None),
    ("sam_legacy", "uninstalled", Some("17.0.1.0.0")),
    ("ai_brain_demo", "uninstallable", None),
    ("account", "uninstalled", None),
    ("crm", "uninstalled", None),
    ("stock", "to install", None),
];

/// Modules that extend a model another module defines: Odoo gives each an external id of the
/// model's row, so "a model of the module" and "the module's own model" differ.
const EXTENSIONS: [(&str, &str); 6] = [
    ("ai_brain", "res.users"),
    ("ai_brain", "res.partner"),
    ("ai_sam", "res.users"),
    ("ai_brain", "sale.order.line"),
    ("ai_automator", "ai.conversation"),
    ("website_ai", "ai.conversation"),
];

/// The id that `ir_model` gives a model: models are numbered by name.
pub(super) fn model_ids(models: &BTreeMap<String, Model>) -> BTreeMap<&str, usize> {
    models
        .keys()
        .enumerate()
        .map(|(i, name)| (name.as_str(), i + 1))
        .collect()
}

/// What `sql/registry.sql` reads: modules, models, fields, relations, extensions.
pub(super) fn document(
    models: &BTreeMap<String, Model>,
    relations: &[RelationTable<'_>],
) -> String {
    let modules: Vec<Value> = MODULES
        .iter()
        .enumerate()
        .map(|(i, (name, state, version))| {
            json!({"id": i + 1, "name": name, "state": state, "version": version})
        })
        .collect();
    let ids = model_ids(models);
    let mut all_models = Vec::new();
    let mut fields = Vec::new();
    for model in models.values() {
        let id = ids.get(model.name.as_str());
        all_models.push(json!({
            "id": id, "model": model.name, "title": model.description, "module": model.module,
            "table": model.table, "transient": model.kind == Kind::Transient,
            "thread": model.is_chatter(), "from_catalog": model.kind == Kind::Sql,
            "has_table": model.has_table() || model.kind == Kind::Sql,
        }));
        fields.extend(described_fields(model));
    }
    let relations: Vec<Value> = relations
        .iter()
        .map(|r| json!({"table": r.table, "model": r.owner.name, "module": r.owner.module}))
        .collect();
    let extensions: Vec<Value> = EXTENSIONS
        .iter()
        .map(|(module, model)| json!({"module": module, "model": model}))
        .collect();
    json!({
        "modules": modules, "models": all_models, "fields": fields,
        "relations": relations, "extensions": extensions,
    })
    .to_string()
}

fn described_fields(model: &Model) -> Vec<Value> {
    let mut list = Vec::new();
    let mut names = vec![
        ("id", "integer", None, true),
        ("display_name", "char", None, false),
    ];
    if model.has_table() || model.kind == Kind::Sql {
        names.extend([
            ("create_uid", "many2one", Some("res.users"), true),
            ("write_uid", "many2one", Some("res.users"), true),
            ("create_date", "datetime", None, true),
            ("write_date", "datetime", None, true),
        ]);
    }
    for (name, ttype, relation, store) in names {
        if model.fields.iter().any(|f| f.name == name) {
            continue;
        }
        let on_delete = relation.map(|_| "set null");
        list.push(json!({
            "model": model.name, "name": name, "ttype": ttype, "relation": relation,
            "on_delete": on_delete, "required": false, "store": store, "readonly": true,
            "translate": false, "company": false,
        }));
    }
    // A model over a query stores nothing, though its fields say so; Odoo records them as stored.
    for field in &model.fields {
        let rel = field.rel.as_ref();
        list.push(json!({
            "model": model.name, "name": field.name, "ttype": field.ttype,
            "relation": field.relation, "inverse": field.inverse,
            "on_delete": field.on_delete.map(|a| a.sql()), "required": field.required,
            "store": !field.not_stored, "readonly": false, "translate": field.translate,
            "company": field.company, "relation_table": rel.map(|r| &r.table),
            "column1": rel.map(|r| &r.column1), "column2": rel.map(|r| &r.column2),
        }));
    }
    list
}

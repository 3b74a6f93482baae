//! Reads what Odoo keeps about itself, with one query a table.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_pipeline::{Failure, FailureKind};
use arkstream_postgres::{Catalog, CatalogTable, failure_of};
use tokio_postgres::{Client, Row};

use super::resolve::{ModelFacts, RelationFacts, resolve};
use super::{Field, Model, Registry, RelationUse, Resolution};

/// Reads the registry and resolves every model.
///
/// # Errors
/// When the database is not Odoo's, or a table cannot be read.
pub async fn read_registry(client: &Client, catalog: &Catalog) -> Result<Registry, Failure> {
    let reader = Reader {
        client,
        catalog,
        schema: schema_of(catalog)?,
    };
    let (odoo_version, module_versions) = reader.modules().await?;
    let mut models = reader.models().await?;
    let mut notes = Vec::new();
    let uses = reader.fields(&mut models).await?;
    let constrained = reader.constrained().await?;
    let relations = reader.relations(uses);
    resolve_all(catalog, &mut models, &constrained, &relations, &mut notes);
    Ok(Registry {
        database_uuid: reader.database_uuid().await?,
        schema: reader.schema,
        odoo_version,
        module_versions,
        by_table: by_table(&models),
        models,
        relations,
        notes,
    })
}

fn by_table(models: &BTreeMap<String, Model>) -> BTreeMap<u32, Vec<String>> {
    let mut by_table: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for model in models.values() {
        if let Resolution::Relation(oid) = model.resolution {
            by_table.entry(oid).or_default().push(model.name.clone());
        }
    }
    for names in by_table.values_mut() {
        names.sort_by_key(String::len);
    }
    by_table
}

struct Reader<'a> {
    client: &'a Client,
    catalog: &'a Catalog,
    schema: String,
}

/// Odoo's tables are in `public`, unless the database was set up otherwise.
fn schema_of(catalog: &Catalog) -> Result<String, Failure> {
    let mut schemas: Vec<_> = catalog
        .tables()
        .filter(|table| table.table.name == "ir_model")
        .map(|table| table.table.schema.as_str())
        .collect();
    schemas.sort_by_key(|schema| (*schema != "public", *schema));
    schemas
        .first()
        .map(|schema| (*schema).to_owned())
        .ok_or_else(|| {
            Failure::new(
                FailureKind::Source,
                "read the models of the Odoo database",
                "it has no table ir_model, so it is not the database of an Odoo",
            )
            .help("name Odoo's own database with --odoo-db; `psql -l` lists what there is")
        })
}

impl Reader<'_> {
    fn table(&self, name: &str) -> Option<&CatalogTable> {
        self.catalog.by_name(&self.schema, name)
    }

    /// Runs a query over one of Odoo's tables; no rows where the database has no such table.
    /// `{table}` in the query is its name.
    async fn query(&self, name: &str, sql: &str) -> Result<Vec<Row>, Failure> {
        let Some(table) = self.table(name) else {
            return Ok(Vec::new());
        };
        self.client
            .query(&sql.replace("{table}", &table.table.sql()), &[])
            .await
            .map_err(|error| failure_of(&format!("read Odoo's {name}"), &error))
    }

    async fn modules(&self) -> Result<(String, BTreeMap<String, String>), Failure> {
        let rows = self
            .query(
                "ir_module_module",
                "SELECT t.name::text, COALESCE(t.latest_version, '')::text FROM ONLY {table} t \
                 WHERE t.state IN ('installed', 'to upgrade', 'to remove')",
            )
            .await?;
        let versions: BTreeMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let base = versions.get("base").map(String::as_str).unwrap_or_default();
        Ok((odoo_version(base), versions))
    }

    async fn database_uuid(&self) -> Result<Option<String>, Failure> {
        let rows = self
            .query(
                "ir_config_parameter",
                "SELECT t.value::text FROM ONLY {table} t WHERE t.key = 'database.uuid'",
            )
            .await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    async fn models(&self) -> Result<BTreeMap<String, Model>, Failure> {
        let rows = self
            .query(
                "ir_model",
                "SELECT t.id::int8, t.model::text, t.transient IS TRUE FROM ONLY {table} t",
            )
            .await?;
        // Modules register a model when they define it and again when they extend it. The ids
        // tell the order, and what a module extends was there before.
        let registered = self
            .query(
                "ir_model_data",
                "SELECT t.res_id::int8, array_agg(t.module::text ORDER BY t.id) \
                 FROM ONLY {table} t WHERE t.model = 'ir.model' GROUP BY t.res_id",
            )
            .await?;
        let mut modules: BTreeMap<i64, Vec<String>> = registered
            .iter()
            .filter_map(|row| Some((row.get::<_, Option<i64>>(0)?, row.get(1))))
            .collect();
        let mut models = BTreeMap::new();
        for row in &rows {
            let name: String = row.get(1);
            let model = Model {
                name: name.clone(),
                transient: row.get(2),
                modules: modules.remove(&row.get(0)).unwrap_or_default(),
                resolution: Resolution::Nothing,
                fields: BTreeMap::new(),
            };
            models.insert(name, model);
        }
        Ok(models)
    }

    /// Fills the models' fields; returns the many2many ones by the name of their table.
    async fn fields(
        &self,
        models: &mut BTreeMap<String, Model>,
    ) -> Result<BTreeMap<String, Vec<RelationUse>>, Failure> {
        // Since Odoo 18.
        let has = |column: &str| {
            self.table("ir_model_fields")
                .is_some_and(|t| t.column(column).is_some())
        };
        let company = if has("company_dependent") {
            "t.company_dependent IS TRUE"
        } else {
            "false"
        };
        let inverse = match has("relation_field") {
            true => "NULLIF(t.relation_field, '')::text",
            false => "NULL::text",
        };
        let rows = self
            .query(
                "ir_model_fields",
                &format!(
                    "SELECT t.model::text, t.name::text, t.ttype::text, NULLIF(t.relation, '')::text, \
                            t.store IS TRUE, {company}, NULLIF(t.relation_table, '')::text, \
                            t.column1::text, t.column2::text, {inverse} FROM ONLY {{table}} t"
                ),
            )
            .await?;
        let mut uses: BTreeMap<String, Vec<RelationUse>> = BTreeMap::new();
        for row in &rows {
            let Some(model) = models.get_mut(row.get::<_, &str>(0)) else {
                continue;
            };
            let field = Field {
                name: row.get(1),
                ttype: row.get(2),
                relation: row.get(3),
                inverse: row.get(9),
                store: row.get(4),
                company_dependent: row.get(5),
            };
            let table: Option<String> = row.get(6);
            if let (Some(table), "many2many", Some(other)) =
                (table, field.ttype.as_str(), &field.relation)
            {
                uses.entry(table).or_default().push(RelationUse {
                    model: model.name.clone(),
                    field: field.name.clone(),
                    other: other.clone(),
                    column1: row.get::<_, Option<String>>(7).unwrap_or_default(),
                    column2: row.get::<_, Option<String>>(8).unwrap_or_default(),
                });
            }
            model.fields.insert(field.name.clone(), field);
        }
        Ok(uses)
    }

    /// Tables that Odoo registered foreign keys for, by model.
    async fn constrained(&self) -> Result<BTreeMap<String, BTreeSet<u32>>, Failure> {
        let (Some(_), Some(models)) = (self.table("ir_model_constraint"), self.table("ir_model"))
        else {
            return Ok(BTreeMap::new());
        };
        let rows = self
            .query(
                "ir_model_constraint",
                &format!(
                    "SELECT DISTINCT m.model::text, c.conrelid FROM ONLY {{table}} t \
                     JOIN ONLY {} m ON m.id = t.model \
                     JOIN pg_catalog.pg_constraint c ON c.conname = t.name AND c.contype = 'f' \
                     WHERE t.type = 'f'",
                    models.table.sql()
                ),
            )
            .await?;
        let mut constrained: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for row in &rows {
            constrained
                .entry(row.get(0))
                .or_default()
                .insert(row.get(1));
        }
        Ok(constrained)
    }

    /// Many2many tables that exist, by object id. Fields of several models may share one.
    fn relations(
        &self,
        uses: BTreeMap<String, Vec<RelationUse>>,
    ) -> BTreeMap<u32, Vec<RelationUse>> {
        let mut relations = BTreeMap::new();
        for (name, mut fields) in uses {
            let table = self
                .catalog
                .in_public(&name)
                .or_else(|| self.table(&name))
                .filter(|table| matches!(table.kind, 'r' | 'p'));
            if let Some(table) = table {
                fields.sort();
                relations.insert(table.table.oid, fields);
            }
        }
        relations
    }
}

fn resolve_all(
    catalog: &Catalog,
    models: &mut BTreeMap<String, Model>,
    constrained: &BTreeMap<String, BTreeSet<u32>>,
    relations: &BTreeMap<u32, Vec<RelationUse>>,
    notes: &mut Vec<String>,
) {
    let tables: Vec<RelationFacts<'_>> = catalog.tables().map(RelationFacts::from).collect();
    let facts: Vec<_> = models
        .values()
        .map(|model| ModelFacts {
            name: &model.name,
            columns: model.columns(),
            constrained: constrained.get(&model.name).cloned().unwrap_or_default(),
        })
        .collect();
    let (mut resolutions, found) = resolve(&facts, &tables, &relations.keys().copied().collect());
    notes.extend(found);
    for model in models.values_mut() {
        model.resolution = resolutions.remove(&model.name).unwrap_or_default();
    }
}

/// `18.0` of `18.0.1.3`.
fn odoo_version(base: &str) -> String {
    base.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_odoo_version_is_the_start_of_the_version_of_base() {
        assert_eq!(odoo_version("18.0.1.3"), "18.0");
        assert_eq!(odoo_version("saas~17.4.1.3"), "saas~17.4");
        assert_eq!(odoo_version(""), "");
    }
}

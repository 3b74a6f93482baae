//! What would make a restore of the rows fail, found before anything is touched.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_format::{
    Component, Manifest, Metadata, ModelEntry, TableEntry, TableRole, major_of, member_names,
};
use arkstream_pipeline::{BundleReader, Checked, Failure, FailureKind, read_member};
use arkstream_postgres::{
    Catalog, CatalogTable, Session, cutover, failure_of, quote_ident, read_catalog, server_info,
};
use globset::Glob;
use tokio_postgres::Client;

use super::tables::{Chosen, Class, class_of, entries, from_live, live};
use super::{Mode, ModelsTargetOptions};
use crate::registry::{Registry, read_registry};

/// What the check learned of bundle and target.
pub(super) struct Facts {
    pub(super) metadata: Metadata,
    pub(super) catalog: Catalog,
    pub(super) registry: Registry,
    pub(super) chosen: Chosen,
    pub(super) mode: Mode,
}

/// A JSON member of the bundle.
pub(super) fn document<T: serde::de::DeserializeOwned>(
    bundle: &dyn BundleReader,
    name: &str,
) -> Result<T, Failure> {
    let damaged = |why: String| {
        Failure::new(
            FailureKind::Damaged,
            format!("read {name} from the bundle"),
            why,
        )
    };
    let bytes = read_member(bundle, name).map_err(|finding| damaged(finding.to_string()))?;
    let bytes = bytes.ok_or_else(|| damaged("it is not in the bundle".to_owned()))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

/// Checks everything, and returns what was learned unless the target cannot even be read.
pub(super) async fn check(
    bundle: &dyn BundleReader,
    session: &Session,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) -> Result<Facts, Failure> {
    let client = session.client();
    let metadata: Metadata = document(bundle, member_names::METADATA)?;
    let models: Vec<ModelEntry> = document(bundle, member_names::MODEL_LIST)?;
    let catalog = read_catalog(client).await?;
    let registry = read_registry(client, &catalog).await?;
    let manifest = bundle.manifest();
    server(client, manifest, checked).await?;
    versions(&metadata, &registry, options, checked);
    let names = choose(manifest, options, checked);
    let chosen = Chosen::new(names, &registry, &catalog);
    modules(&metadata, &models, &registry, manifest, &chosen, checked);
    tables(manifest, &catalog, &chosen, options, checked);
    privileges(client, manifest, &catalog, &chosen, checked).await?;
    let mode = mode(client, manifest, &catalog, &chosen, options, checked).await?;
    Ok(Facts {
        metadata,
        catalog,
        registry,
        chosen,
        mode,
    })
}

async fn server(
    client: &Client,
    manifest: &Manifest,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let here = server_info(client).await?;
    let there = manifest
        .generations
        .iter()
        .flat_map(|generation| &generation.snapshots)
        .rfind(|snapshot| snapshot.component == Component::Models);
    if let Some(there) = there
        && there.server.version_num / 10_000 > here.version_num / 10_000
    {
        checked.incompatible(
            "restore the rows",
            format!(
                "the bundle was taken from PostgreSQL {}, the target is PostgreSQL {}, which is older",
                there.server.version, here.version
            ),
            "restore into a server of the same or a newer major version",
        );
    }
    if here.encoding != "UTF8" {
        checked.incompatible(
            "restore the rows",
            format!("the target database's encoding is {}", here.encoding),
            "create the database with ENCODING 'UTF8', as Odoo does",
        );
    }
    let row = client
        .query_one(
            "SELECT pg_catalog.pg_is_in_recovery(), \
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'), \
             current_user::pg_catalog.text, \
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMP')",
            &[],
        )
        .await
        .map_err(|error| failure_of("ask for the role's privileges", &error))?;
    if row.get(0) {
        checked.problem(
            Failure::new(
                FailureKind::Refused,
                "restore the rows",
                "the target server is a standby and takes no writes",
            )
            .help("restore into the primary"),
        );
    }
    if !row.get::<_, bool>(1) {
        let role: String = row.get(2);
        checked.problem(
            Failure::new(
                FailureKind::Refused,
                "create the staging schema",
                format!(
                    "the role {role} may not create schemas in {}",
                    here.database
                ),
            )
            .help("connect as the owner of the Odoo database"),
        );
    }
    if !row.get::<_, bool>(3) {
        let role: String = row.get(2);
        checked.problem(
            Failure::new(
                FailureKind::Refused,
                "make temporary tables",
                format!("the role {role} may not make any in {}", here.database),
            )
            .help(format!(
                "GRANT TEMPORARY ON DATABASE {} TO {role}",
                quote_ident(&here.database)
            )),
        );
    }
    Ok(())
}

fn versions(
    metadata: &Metadata,
    registry: &Registry,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) {
    let (theirs, ours) = (&metadata.odoo_version, &registry.odoo_version);
    if major_of(theirs) != major_of(ours) {
        let why = format!("the bundle comes from Odoo {theirs}, the target is Odoo {ours}");
        if options.allow_version_mismatch {
            checked.warn(format!("{why}; its fields may mean something else"));
        } else {
            checked.incompatible(
                "restore the rows",
                why,
                "restore into the same major version and upgrade afterwards, or give \
                 --allow-version-mismatch if you know that the models did not change",
            );
        }
    } else if theirs != ours {
        checked.warn(format!(
            "the bundle comes from Odoo {theirs}, the target is Odoo {ours}"
        ));
    }
}

/// The models to restore; `None` for all of the bundle.
fn choose(
    manifest: &Manifest,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) -> Option<BTreeSet<String>> {
    if options.models.is_empty() {
        return None;
    }
    let all: BTreeSet<&String> = entries(manifest)
        .filter(|entry| entry.role == TableRole::Model)
        .filter_map(|entry| entry.model.as_ref())
        .collect();
    let mut names = BTreeSet::new();
    for pattern in &options.models {
        let matcher = match Glob::new(pattern) {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                checked.problem(Failure::new(
                    FailureKind::Usage,
                    format!("read --models {pattern}"),
                    error,
                ));
                continue;
            }
        };
        let before = names.len();
        names.extend(
            all.iter()
                .filter(|n| matcher.is_match(n))
                .map(|n| (*n).clone()),
        );
        if names.len() == before && !all.iter().any(|n| matcher.is_match(n)) {
            checked.problem(
                Failure::new(
                    FailureKind::Usage,
                    format!("restore the models {pattern}"),
                    "no model of the bundle has such a name",
                )
                .help("`arkstream ls --models BUNDLE` lists them"),
            );
        }
    }
    Some(names)
}

fn modules(
    metadata: &Metadata,
    models: &[ModelEntry],
    registry: &Registry,
    manifest: &Manifest,
    chosen: &Chosen,
    checked: &mut Checked,
) {
    let restored: BTreeSet<&str> = entries(manifest)
        .filter(|entry| class_of(entry, chosen) == Class::Whole && entry.rows > 0)
        .filter_map(|entry| entry.model.as_deref())
        .collect();
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for model in models {
        // The first module is the one that defines the model.
        if let (true, Some(module)) = (
            restored.contains(model.model.as_str()),
            model.modules.first(),
        ) && !registry.module_versions.contains_key(module)
        {
            missing.entry(module).or_default().push(&model.model);
        }
    }
    for (module, models) in missing {
        checked.incompatible(
            format!("restore {}", models.join(", ")),
            format!("the module {module} is not installed in the target"),
            format!(
                "install {module}{} in the target, or leave its models out with --models",
                metadata
                    .module_versions
                    .get(module)
                    .map(|version| format!(" {version}"))
                    .unwrap_or_default()
            ),
        );
    }
    for (module, theirs) in &metadata.module_versions {
        if let Some(ours) = registry
            .module_versions
            .get(module)
            .filter(|ours| *ours != theirs)
        {
            checked.warn(format!(
                "the module {module} is {theirs} in the bundle and {ours} in the target"
            ));
        }
    }
}

fn tables(
    manifest: &Manifest,
    catalog: &Catalog,
    chosen: &Chosen,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) {
    for entry in entries(manifest) {
        let class = class_of(entry, chosen);
        if class == Class::Identity {
            continue;
        }
        match live(catalog, entry) {
            Some(table) => columns(entry, table, options, checked),
            None if entry.rows == 0 => checked.warn(format!(
                "the target has no table {}; the bundle has no rows of it",
                entry.table
            )),
            None => checked.incompatible(
                format!("restore the {} rows of {}", entry.rows, entry.table),
                "the target has no such table",
                "install the module that brings it, in the version of the bundle, or leave its \
                 model out with --models",
            ),
        }
    }
}

fn columns(
    entry: &TableEntry,
    table: &CatalogTable,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) {
    let attempted = || format!("restore {}", entry.table);
    for column in &entry.columns {
        match table.column(&column.name) {
            None if options.allow_version_mismatch => checked.warn(format!(
                "the target has no column {}.{}; its values are left out",
                entry.table, column.name
            )),
            None => checked.incompatible(
                attempted(),
                format!("the target has no column {}", column.name),
                "bring the module to the bundle's version, or give --allow-version-mismatch to \
                 leave the column's values out",
            ),
            Some(live) if live.pg.type_name != column.pg_type => {
                let why = format!(
                    "the column {} is {} in the bundle and {} in the target",
                    column.name, column.pg_type, live.pg.type_name
                );
                if widens(&column.pg_type, &live.pg.type_name) {
                    checked.warn(format!("{}: {why}", entry.table));
                } else {
                    checked.incompatible(
                        attempted(),
                        why,
                        "bring the module to the bundle's version",
                    );
                }
            }
            Some(_) => {}
        }
    }
    for live in &table.columns {
        let known = entry.columns.iter().any(|c| c.name == live.pg.name);
        if !known && live.pg.not_null && !live.generated && !live.has_default {
            checked.incompatible(
                attempted(),
                format!(
                    "the target's column {} must not be empty, has no default, and is not in the bundle",
                    live.pg.name
                ),
                "bring the module to the bundle's version, or give the column a default",
            );
        }
    }
}

/// Whether every value of one type is one of the other, by an assignment that changes nothing.
fn widens(from: &str, to: &str) -> bool {
    let text = |name: &str| name == "text" || name == "character varying";
    let length = |name: &str| {
        name.strip_prefix("character varying(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|number| number.parse::<u32>().ok())
    };
    match (from, to) {
        ("smallint", "integer" | "bigint") | ("integer", "bigint") => true,
        (from, "numeric") => from.starts_with("numeric("),
        (from, to) if text(to) => text(from) || length(from).is_some(),
        (from, to) => matches!((length(from), length(to)), (Some(from), Some(to)) if from <= to),
    }
}

async fn privileges(
    client: &Client,
    manifest: &Manifest,
    catalog: &Catalog,
    chosen: &Chosen,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let oids: Vec<u32> = entries(manifest)
        .filter(|entry| class_of(entry, chosen) != Class::Identity)
        .filter_map(|entry| live(catalog, entry))
        .map(|table| table.table.oid)
        .collect();
    let rows = client
        .query(
            "SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text, \
                    pg_catalog.array_agg(c.relname::pg_catalog.text ORDER BY c.relname) \
             FROM pg_catalog.pg_class c WHERE c.oid = ANY($1) \
               AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE') GROUP BY 1 ORDER BY 1",
            &[&oids],
        )
        .await
        .map_err(|error| failure_of("ask who owns the tables", &error))?;
    for holder in cutover::holders(client, &oids).await? {
        checked.warn(format!("{holder}; the restore will wait for it"));
    }
    for row in rows {
        let (owner, tables): (String, Vec<String>) = (row.get(0), row.get(1));
        let named: Vec<&str> = tables.iter().take(5).map(String::as_str).collect();
        checked.problem(
            Failure::new(
                FailureKind::Refused,
                "write to the target's tables",
                format!(
                    "{} of them belong to the role {owner}: {}{}",
                    tables.len(),
                    named.join(", "),
                    if tables.len() > named.len() {
                        ", …"
                    } else {
                        ""
                    }
                ),
            )
            .help(format!("connect as {owner}")),
        );
    }
    Ok(())
}

/// The mode: as the user said, or `replace` when there is nothing to lose.
async fn mode(
    client: &Client,
    manifest: &Manifest,
    catalog: &Catalog,
    chosen: &Chosen,
    options: &ModelsTargetOptions,
    checked: &mut Checked,
) -> Result<Mode, Failure> {
    if let Some(mode) = options.mode {
        return Ok(mode);
    }
    let tables: Vec<&CatalogTable> = entries(manifest)
        .filter(|entry| class_of(entry, chosen) == Class::Whole)
        .filter_map(|entry| live(catalog, entry))
        .collect();
    let fail = |error: tokio_postgres::Error| failure_of("look for rows in the target", &error);
    client.batch_execute("BEGIN").await.map_err(fail)?;
    cutover::wait_at_most(client, options.lock_timeout).await?;
    let found = filled(client, &tables).await;
    client.batch_execute("ROLLBACK").await.map_err(fail)?;
    let filled = found?;
    if !filled.is_empty() {
        let named: Vec<&str> = filled.iter().take(5).map(String::as_str).collect();
        checked.problem(
            Failure::new(
                FailureKind::Refused,
                "restore into tables that have rows",
                format!(
                    "{} of the tables are not empty: {}{}",
                    filled.len(),
                    named.join(", "),
                    if filled.len() > named.len() {
                        ", …"
                    } else {
                        ""
                    }
                ),
            )
            .help(
                "say what shall become of them: --mode replace makes the models' rows exactly the \
                 bundle's, --mode merge adds to them (see --on-conflict); --dry-run shows either",
            ),
        );
    }
    Ok(Mode::Replace)
}

/// Tables that have rows. In a transaction that is rolled back, for row-level security is lifted.
async fn filled(client: &Client, tables: &[&CatalogTable]) -> Result<Vec<String>, Failure> {
    let guarded: Vec<u32> = tables
        .iter()
        .filter(|table| table.row_security)
        .map(|table| table.table.oid)
        .collect();
    cutover::row_security::lift(client, &guarded).await?;
    let mut filled = Vec::new();
    for table in tables {
        let name = table.table.qualified();
        let sql = format!("SELECT EXISTS (SELECT FROM {} t)", from_live(table));
        let row = client
            .query_one(&sql, &[])
            .await
            .map_err(|error| failure_of(&format!("look into {name}"), &error))?;
        if row.get(0) {
            filled.push(name);
        }
    }
    Ok(filled)
}

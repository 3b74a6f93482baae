//! An Odoo-18-shaped database with its filestore.
//!
//! Everything is made in one transaction by set-based SQL, so that a failed build leaves the
//! database as it was. At scale 1 there are some 7,000 messages and 20 MB of tables, at scale
//! 0.1 a tenth of the large tables; small tables and the traps keep their size at any scale.

mod filestore;
mod model;
mod registry;
mod rows;
mod schema;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use tokio_postgres::Client;

use crate::error::SampleError;
use filestore::Filestore;
use model::{Kind, Model};
use rows::Counts;
use schema::{literal, quote};

const HELPERS: &str = include_str!("../../sql/helpers.sql");
const CORE: &str = include_str!("../../sql/core.sql");
const SPECIAL: &str = include_str!("../../sql/special.sql");
const TYPE_MATRIX: &str = include_str!("../../sql/type_matrix.sql");
const CHATTER: &str = include_str!("../../sql/chatter.sql");
const VALUES: &str = include_str!("../../sql/values.sql");
const SEQUENCES: &str = include_str!("../../sql/sequences.sql");

/// Below this the large tables are too small to hold every trap.
const SMALLEST_SCALE: f64 = 0.02;

/// Models beside the SAM ones that own attachments and messages.
const FOREIGN_OWNERS: [&str; 3] = ["sale.order", "res.partner", "project.task"];
const SAM_OWNERS: [&str; 6] = [
    "ai.conversation",
    "canvas",
    "sam.member",
    "sam.knowledge.doc",
    "workflow.template",
    "odoo.blog.post",
];

/// Where the graph of the sample's `ai_memory_config` row is. Not `Debug`: it holds a password.
#[derive(Clone)]
pub struct GraphSettings {
    /// Host name, or the folder of a Unix socket.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Database with the graph.
    pub database: String,
    /// Name of the graph in it.
    pub graph_name: String,
}

/// What to build.
#[derive(Clone)]
pub struct OdooOptions<'a> {
    /// Size of the large tables; 1 gives some 7,000 messages, at least 0.02.
    pub scale: f64,
    /// Equal seeds give equal data.
    pub seed: u64,
    /// The folder of the database's filestore; files go to `<2 hex>/<sha1>` below it.
    pub filestore: &'a Path,
    /// Role that owns every table and the database; created with LOGIN when it does not exist.
    pub owner_role: Option<String>,
    /// Value of `ai_memory_config.chroma_persist_directory`.
    pub chroma_persist_directory: String,
    /// The graph's place for `ai_memory_config`; without it `graph_enabled` is false.
    pub graph: Option<GraphSettings>,
    /// Whether the policy on `sam_vault_entry` binds its owner too: then only a superuser or a
    /// role with BYPASSRLS can read the table whole.
    pub force_row_security: bool,
}

impl<'a> OdooOptions<'a> {
    /// Options for tests: scale 0.1, seed 1, everything else at its plainest.
    pub fn new(filestore: &'a Path) -> Self {
        Self {
            scale: 0.1,
            seed: 1,
            filestore,
            owner_role: None,
            chroma_persist_directory: "./chroma_data".to_owned(),
            graph: None,
            force_row_security: true,
        }
    }
}

/// What was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OdooSampleReport {
    /// Rows of `ir_model`.
    pub models: u64,
    /// Tables in the schema `public`, partitions and heirs included.
    pub tables: u64,
    /// Rows of `ai_conversation`.
    pub conversations: u64,
    /// Rows of `ai_message`.
    pub messages: u64,
    /// Rows of `ir_attachment`.
    pub attachments: u64,
    /// Files that attachments refer to.
    pub filestore_files: u64,
    /// Their bytes.
    pub filestore_bytes: u64,
    /// Files below the filestore that no attachment refers to, relative to it.
    pub filestore_orphans: Vec<String>,
}

/// The Odoo-shaped database.
#[derive(Clone, Copy, Debug)]
pub struct OdooSample;

impl OdooSample {
    /// Builds the sample in the empty database that `client`, a superuser or the database's
    /// owner, is connected to.
    pub async fn build(
        client: &Client,
        options: OdooOptions<'_>,
    ) -> Result<OdooSampleReport, SampleError> {
        if !(options.scale.is_finite() && (SMALLEST_SCALE..=1000.0).contains(&options.scale)) {
            return Err(SampleError::Options(format!(
                "the scale {} is not between {SMALLEST_SCALE} and 1000",
                options.scale
            )));
        }
        let models = model::load()?;
        let files = 40 + (120.0 * options.scale) as usize;
        let filestore = filestore::write(options.filestore, options.seed, files)?;
        run(client, "begin the sample's transaction", "BEGIN").await?;
        match fill(client, &options, &models, &filestore).await {
            Ok(()) => run(client, "commit the sample", "COMMIT").await?,
            Err(error) => {
                run(client, "roll the sample back", "ROLLBACK").await?;
                return Err(error);
            }
        }
        run(client, "analyze the sample", "ANALYZE").await?;
        report(client, filestore).await
    }
}

async fn run(client: &Client, action: &str, sql: &str) -> Result<(), SampleError> {
    client
        .batch_execute(sql)
        .await
        .map_err(SampleError::sql(action))
}

async fn fill(
    client: &Client,
    options: &OdooOptions<'_>,
    models: &BTreeMap<String, Model>,
    filestore: &Filestore,
) -> Result<(), SampleError> {
    run(client, "prepare the session", SESSION).await?;
    if let Some(role) = &options.owner_role {
        set_owner(client, role).await?;
    }
    let seed = options.seed.cast_signed();
    let seeded = |sql: &str| sql.replace("{{seed}}", &format!("('{seed}'::bigint)"));
    let relations = schema::relation_tables(models);
    let mut counts = rows::counts(models, options.scale);
    counts.insert("ir.model".to_owned(), (0, models.len() as u32));
    counts.insert(
        "ir.module.module".to_owned(),
        (0, registry::MODULES.len() as u32),
    );

    run(client, "create the helper functions", &seeded(HELPERS)).await?;
    run(
        client,
        "create the models' tables",
        &schema::create_tables(models),
    )
    .await?;
    run(
        client,
        "create the relation tables",
        &schema::create_relations(&relations),
    )
    .await?;
    run(
        client,
        "fill the models' tables",
        &rows::fill_tables(models, &counts),
    )
    .await?;
    run(
        client,
        "fill the relation tables",
        &rows::fill_relations(&relations, &counts),
    )
    .await?;
    run(client, "fill the core tables", &seeded(CORE)).await?;
    run(client, "set the sequences", SEQUENCES).await?;
    let force = match options.force_row_security {
        true => "ALTER TABLE sam_vault_entry FORCE ROW LEVEL SECURITY;",
        false => "",
    };
    let special = SPECIAL.replace("{{force_row_security}}", force);
    run(client, "create the special tables", &special).await?;
    run(client, "create the type matrix", TYPE_MATRIX).await?;
    let registry = registry::SQL
        .replace("{{keys}}", &schema::create_keys(models, &relations))
        .replace(
            "{{document}}",
            &literal(&registry::document(models, &relations)),
        );
    run(client, "fill the registry", &registry).await?;
    run(
        client,
        "name the owners of attachments",
        &owners(models, &counts, filestore),
    )
    .await?;
    let chatter = CHATTER
        .replace("{{attachments}}", &(filestore.files.len() * 2).to_string())
        .replace(
            "{{messages}}",
            &((1200.0 * options.scale) as u32).max(60).to_string(),
        );
    run(client, "fill attachments and messages", &chatter).await?;
    run(client, "set the special values", VALUES).await?;
    memory_config(client, options).await?;
    run(client, "set the sequences", SEQUENCES).await
}

const SESSION: &str = "SET LOCAL search_path = public; SET LOCAL client_min_messages = warning; \
    SET LOCAL standard_conforming_strings = on; SET LOCAL timezone = 'UTC'; \
    SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; \
    SET LOCAL lc_monetary = 'C'; SET LOCAL enable_parallel_hash = off; \
    SET LOCAL max_parallel_workers_per_gather = 0;";

async fn set_owner(client: &Client, role: &str) -> Result<(), SampleError> {
    let action = || format!("make {role} the owner of the database");
    let known = client
        .query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&role])
        .await
        .map_err(SampleError::sql(action()))?;
    let name: String = client
        .query_one("SELECT current_database()::text", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(SampleError::sql(action()))?;
    let (role, name) = (quote(role), quote(&name));
    let create = if known.is_none() {
        format!("CREATE ROLE {role} LOGIN;")
    } else {
        String::new()
    };
    let sql = format!(
        "{create} ALTER DATABASE {name} OWNER TO {role}; \
         GRANT USAGE, CREATE ON SCHEMA public TO {role}; SET LOCAL ROLE {role};"
    );
    run(client, &action(), &sql).await
}

/// The temporary tables that `sql/chatter.sql` reads.
fn owners(models: &BTreeMap<String, Model>, counts: &Counts, filestore: &Filestore) -> String {
    let mut sql = String::from(
        "CREATE TEMP TABLE sample_file (k int8, fname text, size int4, checksum text, mimetype text) ON COMMIT DROP;\n\
         CREATE TEMP TABLE sample_owner (k int8, model text, rows int4, chatter bool) ON COMMIT DROP;\n\
         CREATE TEMP TABLE sample_binary (model text, field text, rows int4) ON COMMIT DROP;\n",
    );
    for (k, file) in filestore.files.iter().enumerate() {
        let _ = writeln!(
            sql,
            "INSERT INTO sample_file VALUES ({k}, '{}', {}, '{}', '{}');",
            file.name, file.size, file.checksum, file.mimetype
        );
    }
    let names = SAM_OWNERS.iter().chain(&FOREIGN_OWNERS);
    for (k, model) in names.filter_map(|name| models.get(*name)).enumerate() {
        let rows = counts.get(&model.name).map_or(1, |c| c.1.max(1));
        let chatter = model.is_chatter() || !model.is_sam();
        let _ = writeln!(
            sql,
            "INSERT INTO sample_owner VALUES ({k}, {}, {rows}, {chatter});",
            literal(&model.name)
        );
    }
    for model in models.values().filter(|m| m.kind == Kind::Regular) {
        let rows = counts.get(&model.name).map_or(0, |c| c.1);
        for field in model.fields.iter().filter(|f| f.is_attachment()) {
            let _ = writeln!(
                sql,
                "INSERT INTO sample_binary VALUES ({}, {}, {rows});",
                literal(&model.name),
                literal(&field.name)
            );
        }
    }
    sql
}

/// The row that tells where graph and vectors are; by parameters, as it holds a password.
async fn memory_config(client: &Client, options: &OdooOptions<'_>) -> Result<(), SampleError> {
    let graph = options.graph.as_ref();
    let port = graph.map(|g| i32::from(g.port));
    client
        .execute(
            "INSERT INTO ai_memory_config (id, name, graph_enabled, graph_host, graph_port, graph_database, \
             graph_user, graph_password, graph_name, vector_enabled, chroma_persist_directory, vector_host, \
             collection_name, embedding_model, embedding_dimensions, active, create_uid, create_date, write_uid, write_date) \
             VALUES (1, 'Default Memory Configuration', $1, $2, $3, $4, $5, $6, $7, true, $8, NULL, \
             'odoo_ai_memory', 'all-MiniLM-L6-v2', 384, true, 1, '2024-01-01', 1, '2024-01-01')",
            &[
                &graph.is_some(),
                &graph.map(|g| g.host.as_str()),
                &port,
                &graph.map(|g| g.database.as_str()),
                &graph.map(|g| g.user.as_str()),
                &graph.map(|g| g.password.as_str()),
                &graph.map(|g| g.graph_name.as_str()),
                &options.chroma_persist_directory,
            ],
        )
        .await
        .map(|_| ())
        .map_err(SampleError::sql("write the memory configuration"))
}

async fn report(client: &Client, filestore: Filestore) -> Result<OdooSampleReport, SampleError> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM ir_model), (SELECT count(*) FROM pg_class WHERE relkind = 'r' \
             AND relnamespace = 'public'::regnamespace), (SELECT count(*) FROM ai_conversation), \
             (SELECT count(*) FROM ai_message), (SELECT count(*) FROM ir_attachment)",
            &[],
        )
        .await
        .map_err(SampleError::sql("count the sample"))?;
    let number = |i: usize| {
        row.try_get::<_, i64>(i)
            .map(i64::unsigned_abs)
            .map_err(SampleError::sql("count the sample"))
    };
    Ok(OdooSampleReport {
        models: number(0)?,
        tables: number(1)?,
        conversations: number(2)?,
        messages: number(3)?,
        attachments: number(4)?,
        filestore_files: filestore.files.len() as u64,
        filestore_bytes: filestore.files.iter().map(|f| f.size as u64).sum(),
        filestore_orphans: filestore.orphans,
    })
}

//! Views over the staged rows: `w<n>` in the live types, `x<n>` with every reference brought to
//! the target's ids.
//!
//! `x<n>` has the columns of the live table but `id`, the bundle's id as `ark_old`, and for each
//! reference that can be lost the bundle's value as `ark_was_<k>`. References are resolved through
//! the maps `m<n>` (old id → new id) and, where only a model's name tells the table, through
//! `by_model`. Views read the maps when they are queried, so they are made before the maps are
//! filled.
//!
//! Most of these views look only at what is staged and mapped, so they say the same before and after
//! live tables change ([`is_settled`]). Then differences need not copy their values.

use arkstream_pipeline::Failure;
use arkstream_postgres::{Catalog, CatalogTable, Staging, failure_of, quote_ident, quote_literal};
use tokio_postgres::Client;

use super::maps::text_array;
use super::references::Reference;
use super::tables::{Class, Column, Table, Tables, col};

/// What decides how references are resolved.
pub(super) struct Resolving<'a> {
    /// The target's tables.
    pub(super) catalog: &'a Catalog,
    /// Whether bundle and target are one database by `database.uuid`.
    pub(super) same_database: bool,
    /// Whether a reference to a row that the bundle's own models do not have stays as it is: the
    /// models' rows become exactly the bundle's, so it leads nowhere, as before.
    pub(super) keep_dangling: bool,
    /// Models of the target that have a table. What names another model leads nowhere, here as
    /// there, and stays as it is.
    pub(super) models_here: Vec<String>,
}

/// Creates maps, functions and views for all tables.
pub(super) async fn create(
    client: &Client,
    staging: &Staging,
    tables: &Tables,
    resolving: &Resolving<'_>,
) -> Result<(), Failure> {
    let mut sql = vec![format!(
        "CREATE TABLE {} (model pg_catalog.text NOT NULL, old pg_catalog.int8 NOT NULL, new pg_catalog.int8 NOT NULL); \
         CREATE TABLE {} (model pg_catalog.text PRIMARY KEY, whole pg_catalog.bool NOT NULL); \
         CREATE TABLE {} (model pg_catalog.text, id pg_catalog.int8, PRIMARY KEY (model, id)); \
         CREATE TABLE {here} (model pg_catalog.text PRIMARY KEY); \
         INSERT INTO {here} SELECT pg_catalog.unnest({}) ON CONFLICT DO NOTHING",
        staging.name("by_model"),
        staging.name("known"),
        staging.name("lost"),
        text_array(&resolving.models_here),
        here = staging.name("here"),
    )];
    for table in &tables.all {
        let map = staging.name(&format!("m{}", table.number));
        sql.push(typed(staging, table));
        if table.has_id() {
            sql.push(format!(
                "CREATE TABLE {map} (old pg_catalog.int8 NOT NULL, new pg_catalog.int8 NOT NULL, \
                 how pg_catalog.text NOT NULL, write pg_catalog.bool NOT NULL)"
            ));
        }
        for model in &table.models {
            sql.push(format!(
                "INSERT INTO {} VALUES ({}, {}) ON CONFLICT (model) DO NOTHING",
                staging.name("known"),
                quote_literal(model),
                table.class == Class::Whole
            ));
        }
    }
    sql.extend(functions(staging, tables, resolving));
    for table in tables.written() {
        sql.push(mapped(staging, tables, table, resolving).0);
    }
    client
        .batch_execute(&sql.join(";\n"))
        .await
        .map_err(|error| failure_of("prepare the staged rows for comparison", &error))
}

fn typed(staging: &Staging, table: &Table) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .filter_map(|column| {
            let value = table
                .staged
                .expression(&column.name, "s", &column.live_type)?;
            Some(format!("{value} AS {}", quote_ident(&column.name)))
        })
        .collect();
    format!(
        "CREATE VIEW {} AS SELECT {} FROM {} s",
        staging.name(&format!("w{}", table.number)),
        columns.join(", "),
        table.staged.sql
    )
}

/// Whether `x<n>` looks at no live table.
pub(super) fn is_settled(
    staging: &Staging,
    tables: &Tables,
    table: &Table,
    resolving: &Resolving<'_>,
) -> bool {
    !mapped(staging, tables, table, resolving).1.live
}

/// What the columns of a view look at.
#[derive(Default)]
struct Sources {
    /// The maps of their references, as SQL.
    joins: String,
    /// Whether one of them looks at a live table.
    live: bool,
}

fn mapped(
    staging: &Staging,
    tables: &Tables,
    table: &Table,
    resolving: &Resolving<'_>,
) -> (String, Sources) {
    let mut columns = Vec::new();
    if table.has_id() {
        columns.push("w.id::pg_catalog.int8 AS ark_old".to_owned());
    }
    let mut sources = Sources::default();
    for (k, column) in table.values().enumerate() {
        let value = value(staging, tables, table, column, k, resolving, &mut sources);
        columns.push(format!("{value} AS {}", quote_ident(&column.name)));
        if column.reference.can_be_lost() {
            columns.push(format!("{} AS ark_was_{k}", col("w", &column.name)));
        }
    }
    let sql = format!(
        "CREATE VIEW {} AS SELECT {} FROM {} w{}",
        staging.name(&format!("x{}", table.number)),
        columns.join(", "),
        staging.name(&format!("w{}", table.number)),
        sources.joins,
    );
    (sql, sources)
}

/// A column's value, its references resolved.
fn value(
    staging: &Staging,
    tables: &Tables,
    table: &Table,
    column: &Column,
    k: usize,
    resolving: &Resolving<'_>,
    sources: &mut Sources,
) -> String {
    let value = col("w", &column.name);
    let call = |function: &str, arguments: String| {
        format!(
            "({}({arguments}))::{}",
            staging.name(function),
            column.live_type
        )
    };
    match &column.reference {
        Reference::None => value,
        Reference::Table(target) => {
            let new = by_table(
                staging, tables, table, column, k, resolving, sources, target,
            );
            format!("({new})::{}", column.live_type)
        }
        Reference::Pair(model) if table.has(model) => {
            let id = call(
                "target_id",
                format!(
                    "{}::pg_catalog.text, {value}::pg_catalog.int8",
                    col("w", model)
                ),
            );
            format!("CASE WHEN {value} = 0 THEN {value} ELSE {id} END")
        }
        Reference::Pair(_) => value,
        Reference::Text => call("target_reference", format!("{value}::pg_catalog.text")),
        Reference::ByCompany(model) => call(
            "target_by_company",
            format!(
                "{value}, {}",
                model.as_deref().map_or("NULL".to_owned(), quote_literal)
            ),
        ),
        Reference::Path => match table.models.first() {
            Some(model) => call(
                "target_path",
                format!("{value}::pg_catalog.text, {}", quote_literal(model)),
            ),
            None => value,
        },
        Reference::Default if table.has("field_id") => {
            // The field's kind is the target's.
            sources.live = true;
            call(
                "target_default",
                format!(
                    "{}::pg_catalog.int8, {value}::pg_catalog.text",
                    col("w", "field_id")
                ),
            )
        }
        Reference::Default => value,
        Reference::Links => format!(
            // As for the count of links: a regular expression has no room for a text of 256 MiB.
            "CASE WHEN pg_catalog.strpos({value}::pg_catalog.text, '/web/') = 0 THEN {value} \
             WHEN {value}::pg_catalog.text ~ '/web/(image|content)/[0-9]' THEN {} ELSE {value} END",
            call("target_links", format!("{value}::pg_catalog.text"))
        ),
    }
}

/// The target's id of a row of the table `target`. What the maps do not have is kept where it may
/// still be right: in the database that it came from, when the bundle does not know the row.
#[allow(clippy::too_many_arguments)]
fn by_table(
    staging: &Staging,
    tables: &Tables,
    table: &Table,
    column: &Column,
    k: usize,
    resolving: &Resolving<'_>,
    sources: &mut Sources,
    target: &str,
) -> String {
    let value = col("w", &column.name);
    let keyed = table
        .live
        .foreign_keys
        .iter()
        .any(|key| key.columns == [column.name.as_str()] && key.references == target);
    let named = tables.named(target).filter(|target| target.has_id());
    let live = target
        .split_once('.')
        .and_then(|(schema, name)| resolving.catalog.by_name(schema, name));
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    // Rows of inheriting tables are rows of the target, too; a foreign key cannot lead to them.
    let heirs = live
        .filter(|_| !keyed)
        .into_iter()
        .flat_map(|live| heirs(resolving.catalog, live))
        .filter_map(|heir| tables.all.iter().find(|t| t.live.table.oid == heir))
        .filter(|heir| heir.has_id());
    for (n, known) in named.into_iter().chain(heirs).enumerate() {
        let map = staging.name(&format!("m{}", known.number));
        sources.joins.push_str(&format!(
            " LEFT JOIN {map} r{k}_{n} ON r{k}_{n}.old = {value}"
        ));
        found.push(format!("r{k}_{n}.new"));
        unknown.push(format!(
            "NOT EXISTS (SELECT FROM {} z WHERE z.model = {} AND z.id = {value}) \
             AND NOT EXISTS (SELECT FROM {map} z WHERE z.new = {value})",
            staging.name("lost"),
            quote_literal(&known.entry.table),
        ));
    }
    let class = named.map(|named| named.class);
    if class == Some(Class::Whole) && !keyed && resolving.keep_dangling {
        // The models' rows become exactly the bundle's, so it leads nowhere, here as there.
        found.push(value);
    } else if let Some(live) = live.filter(|live| live.column("id").is_some())
        && resolving.same_database
        // The bundle has a part of the rows; the others may still be there.
        && (class == Some(Class::Shared) || !keyed)
    {
        unknown.push(format!(
            "EXISTS (SELECT FROM {} t WHERE t.id = {value})",
            live.table.sql()
        ));
        sources.live = true;
        found.push(format!(
            "CASE WHEN {} THEN {value} END",
            unknown.join(" AND ")
        ));
    }
    match found.len() {
        0 => "NULL".to_owned(),
        _ => format!("COALESCE({})", found.join(", ")),
    }
}

/// The tables that inherit from a table, however far.
fn heirs(catalog: &Catalog, table: &CatalogTable) -> Vec<u32> {
    let mut found = table.children.clone();
    let mut next = 0;
    while let Some(oid) = found.get(next).copied() {
        let more = catalog.by_oid(oid).map(|table| table.children.clone());
        found.extend(more.unwrap_or_default());
        next += 1;
    }
    found
}

/// Functions that resolve what is no foreign key.
fn functions(staging: &Staging, tables: &Tables, resolving: &Resolving<'_>) -> Vec<String> {
    let by_model = staging.name("by_model");
    let known = staging.name("known");
    let lost = staging.name("lost");
    let here = staging.name("here");
    let id = staging.name("target_id");
    let stays = |yes: bool, value: &str| {
        if yes {
            value.to_owned()
        } else {
            "NULL::pg_catalog.int8".to_owned()
        }
    };
    let attachments = tables.odoo("ir_attachment").filter(|table| table.has_id());
    let fields = tables
        .odoo("ir_model_fields")
        .filter(|table| table.has_id());
    let function = |name: &str, arguments: &str, result: &str, body: String| {
        format!(
            "CREATE FUNCTION {}({arguments}) RETURNS {result} LANGUAGE sql STABLE PARALLEL SAFE AS $ark${body}$ark$",
            staging.name(name)
        )
    };
    vec![
        function(
            "target_id",
            "model pg_catalog.text, id pg_catalog.int8",
            "pg_catalog.int8",
            format!(
                "SELECT CASE WHEN $2 IS NULL OR $1 IS NULL OR NOT EXISTS (SELECT FROM {here} h WHERE h.model = $1) THEN $2 ELSE COALESCE( \
                 (SELECT b.new FROM {by_model} b WHERE b.model = $1 AND b.old = $2), \
                 CASE WHEN (SELECT k.whole FROM {known} k WHERE k.model = $1) THEN {} ELSE {} END) END",
                stays(resolving.keep_dangling, "$2"),
                stays(
                    resolving.same_database,
                    &format!(
                        "CASE WHEN NOT EXISTS (SELECT FROM {lost} l WHERE l.model = $1 AND l.id = $2) THEN $2 END"
                    )
                )
            ),
        ),
        function(
            "target_reference",
            "value pg_catalog.text",
            "pg_catalog.text",
            format!(
                "SELECT CASE WHEN m IS NULL THEN $1 ELSE m[1] || ',' || {id}(m[1], m[2]::pg_catalog.int8) END \
                 FROM (SELECT pg_catalog.regexp_match($1, '^([a-z0-9_.]+),([0-9]{{1,18}})$')) r(m)"
            ),
        ),
        function(
            "target_by_company",
            "value pg_catalog.jsonb, model pg_catalog.text",
            "pg_catalog.jsonb",
            format!(
                "SELECT CASE WHEN pg_catalog.jsonb_typeof($1) = 'object' THEN \
                 (SELECT COALESCE(pg_catalog.jsonb_object_agg(n.key, n.value), '{{}}') FROM \
                  (SELECT CASE WHEN e.key ~ '^[0-9]{{1,18}}$' THEN {id}('res.company', e.key::pg_catalog.int8)::pg_catalog.text ELSE e.key END AS key, \
                   CASE WHEN $2 IS NOT NULL AND e.value::pg_catalog.text ~ '^[0-9]{{1,18}}$' \
                    THEN COALESCE(pg_catalog.to_jsonb({id}($2, e.value::pg_catalog.text::pg_catalog.int8)), 'null') ELSE e.value END AS value \
                   FROM pg_catalog.jsonb_each($1) e) n WHERE n.key IS NOT NULL) ELSE $1 END"
            ),
        ),
        function(
            "target_path",
            "path pg_catalog.text, model pg_catalog.text",
            "pg_catalog.text",
            format!(
                "SELECT CASE WHEN $1 IS NULL THEN NULL ELSE (SELECT pg_catalog.string_agg(CASE WHEN p.step ~ '^[0-9]{{1,18}}$' \
                 THEN COALESCE((SELECT b.new FROM {by_model} b WHERE b.model = $2 AND b.old = p.step::pg_catalog.int8)::pg_catalog.text, p.step) \
                 ELSE p.step END, '/' ORDER BY p.n) FROM pg_catalog.regexp_split_to_table($1, '/') WITH ORDINALITY p(step, n)) END"
            ),
        ),
        function(
            "target_default",
            "field pg_catalog.int8, value pg_catalog.text",
            "pg_catalog.text",
            match fields {
                Some(fields) => format!(
                    "SELECT CASE WHEN $2 ~ '^[0-9]{{1,18}}$' AND f.ttype = 'many2one' \
                     THEN {id}(f.relation::pg_catalog.text, $2::pg_catalog.int8)::pg_catalog.text ELSE $2 END \
                     FROM (SELECT $1) a(field) LEFT JOIN {} m ON m.old = a.field LEFT JOIN {} f ON f.id = m.new",
                    staging.name(&format!("m{}", fields.number)),
                    fields.only_live()
                ),
                None => "SELECT $2".to_owned(),
            },
        ),
        function(
            "target_links",
            "body pg_catalog.text",
            "pg_catalog.text",
            match attachments {
                Some(attachments) => format!(
                    "SELECT pg_catalog.string_agg(p.piece || COALESCE(l.m[1] || COALESCE(a.new::pg_catalog.text, l.m[2]), ''), '' ORDER BY p.n) \
                     FROM pg_catalog.regexp_split_to_table($1, '/web/(?:image|content)/[0-9]{{1,18}}') WITH ORDINALITY p(piece, n) \
                     LEFT JOIN pg_catalog.regexp_matches($1, '(/web/(?:image|content)/)([0-9]{{1,18}})', 'g') WITH ORDINALITY l(m, n) ON l.n = p.n \
                     LEFT JOIN {} a ON a.old = l.m[2]::pg_catalog.int8",
                    staging.name(&format!("m{}", attachments.number))
                ),
                None => "SELECT $1".to_owned(),
            },
        ),
    ]
}

//! `restore_instructions.md`, written for this very bundle.

use std::fmt::Write as _;

use arkstream_format::{Component, Contents, ModelEntry, ModelStatus, age, member_names};

use crate::describe::{Finished, StackFacts, human_size};

pub(crate) fn render(
    facts: &StackFacts,
    models: &[ModelEntry],
    finished: &Finished<'_>,
    contents: &Contents,
) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, facts, models, finished, contents);
    out
}

fn write_all(
    out: &mut String,
    facts: &StackFacts,
    models: &[ModelEntry],
    finished: &Finished<'_>,
    contents: &Contents,
) -> std::fmt::Result {
    let info = &facts.database_info;
    let unknown = || "unknown".to_owned();
    writeln!(out, "# How to restore this bundle\n")?;
    writeln!(
        out,
        "Taken {} from the Odoo {} database `{}` on PostgreSQL {}, by Arkstream {}.\n",
        finished.generation.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
        facts.odoo_version,
        info.odoo_database,
        info.postgres_version,
        finished.version
    )?;
    write_contents(out, models, finished, contents)?;

    writeln!(out, "## Check it first\n")?;
    writeln!(
        out,
        "With Arkstream: `arkstream verify BUNDLE` proves every byte and names what is damaged.\n\
         Without: `sha256sum -c BUNDLE.sha256` and `unzip -t BUNDLE`.\n"
    )?;
    writeln!(out, "## Unpack it\n")?;
    writeln!(
        out,
        "```sh\nunzip BUNDLE -d restored      # any unzip tool does; ZIP64 above 4 GiB\n\
         arkstream extract BUNDLE restored   # the same, every hash checked\n```\n"
    )?;
    write_rows(out)?;
    if contents.has(Component::Filestore) {
        writeln!(out, "## Filestore\n")?;
        writeln!(
            out,
            "Odoo's filestore is content-addressed: add the missing files, overwrite none, as the \
             user that runs Odoo.\n\n\
             ```sh\ncp -rn restored/odoo_data/filestore/. DATA_DIR/filestore/{}/\n```\n",
            info.odoo_database
        )?;
    }
    if contents.has(Component::Graph) {
        write_graph(out, facts, finished)?;
    }
    if contents.has(Component::Chroma) {
        writeln!(out, "## ChromaDB\n")?;
        writeln!(
            out,
            "Stop everything that has the directory open, keep the old one, put the new one in its \
             place. The configured directory was `{}`. A ChromaDB older than the one that wrote it \
             cannot open it; a newer one migrates it.\n\n\
             ```sh\nmv CHROMA_DIR CHROMA_DIR_backup\n\
             cp -r restored/{} CHROMA_DIR\n```\n",
            info.chroma_persist_directory
                .clone()
                .unwrap_or_else(unknown),
            member_names::CHROMA_DIR
        )?;
    }
    if contents.has(Component::OdooDump) {
        writeln!(out, "## The whole Odoo database\n")?;
        writeln!(
            out,
            "`{}` is a plain `pg_dump` of the same snapshot.\n\n\
             ```sh\ncreatedb restored_odoo\n\
             psql -X -v ON_ERROR_STOP=1 -1 -d restored_odoo -f restored/{0}\n```\n",
            member_names::ODOO_DUMP
        )?;
    }
    if contents.has(Component::Xlsx) {
        writeln!(out, "## The spreadsheet\n")?;
        writeln!(
            out,
            "`{}` shows the rows to people. Its sheet \"About\" lists what does not fit into cells. Nothing \
             is restored from it.\n",
            member_names::XLSX
        )?;
    }
    if !finished.omissions.is_empty() {
        writeln!(out, "## What is not in this bundle\n")?;
        for omission in &finished.omissions {
            writeln!(
                out,
                "- {}: {}: {}",
                omission.component, omission.what, omission.reason
            )?;
        }
    }
    Ok(())
}

fn write_contents(
    out: &mut String,
    models: &[ModelEntry],
    finished: &Finished<'_>,
    contents: &Contents,
) -> std::fmt::Result {
    writeln!(out, "| component | members | bytes |\n|---|---:|---:|")?;
    for (component, sum) in &contents.components {
        let (members, size) = (sum.members, human_size(sum.raw_bytes));
        writeln!(out, "| {component} | {members} | {size} |")?;
    }
    let count = |status| models.iter().filter(|m| m.status == status).count();
    let rows: u64 = models.iter().map(|m| m.rows).sum();
    writeln!(
        out,
        "\n{} models with {rows} rows, {} empty models; {} tables in all. `{}` accounts for every \
         model, also for those that are not here and why.\n",
        count(ModelStatus::Exported),
        count(ModelStatus::Empty),
        finished.report.tables.len(),
        member_names::MODEL_LIST
    )
}

fn write_rows(out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Rows\n")?;
    writeln!(
        out,
        "Every table is a folder of Parquet files (`part-00000.parquet`, …) that DuckDB, pandas, \
         pyarrow, Polars and Spark read:\n\n\
         ```sql\n-- DuckDB\nSELECT count(*) FROM 'restored/odoo_data/models/ai.message/*.parquet';\n```\n\n\
         Reading them back by hand:\n\n\
         - The field metadata `arkstream.pg_type` is the column's PostgreSQL type, and \
         `arkstream.encoding` says whether its values are typed (`native`) or the type's output text \
         (`text`).\n\
         - A column named by `arkstream.companion` holds, as text, the values that the typed column \
         cannot carry (`NaN` in a `numeric(10,2)`, `infinity` in a `date`, `24:00:00` …); the typed \
         column is NULL there. Read it as `coalesce(companion, typed::text)::type`.\n\
         - Load models in the order of `model_import_order` in `metadata.json`; inside a cycle of \
         foreign keys insert the nullable ones as NULL first and update them afterwards.\n\
         - Ids of users, partners, companies and currencies belong to the source database. \
         `odoo_data/support/` holds what identifies them (external ids, logins, names).\n\
         - After loading, set every sequence at least to the state in `odoo_data/support/sequences`, \
         never backwards.\n"
    )
}

fn write_graph(out: &mut String, facts: &StackFacts, finished: &Finished<'_>) -> std::fmt::Result {
    let info = &facts.database_info;
    let database = info.graph_database.as_deref().unwrap_or("graph");
    writeln!(out, "## Graph database (Apache AGE)\n")?;
    let fix_up = age::FIX_UP;
    writeln!(
        out,
        "Restore into a **new** database as a superuser; never over an existing graph: without \
         `ON_ERROR_STOP` every edge would be doubled. Do not create the extension first, the dump \
         does. The dump carries AGE's catalogs with raw OIDs, which are stale afterwards: queries \
         fail with `graph with oid … does not exist` until they are rebuilt. So load dump and fix-up \
         in one transaction:\n\n\
         ```sh\ncreatedb {database}_restored\n\
         cat restored/{} age_fix_up.sql | psql -X -v ON_ERROR_STOP=1 -1 -d {database}_restored\n```\n\n\
         with this `age_fix_up.sql`:\n\n```sql\n{fix_up}```\n\n\
         If `psql` does not know `\\restrict`, it is older than the `pg_dump` that wrote the dump: \
         delete the two lines that begin with `\\restrict` and `\\unrestrict`.\n\
         Check it in a new session, for AGE caches its catalogs: \
         `LOAD 'age'; SELECT * FROM ag_catalog.cypher('{}', $$MATCH (n) RETURN count(n)$$) AS (n ag_catalog.agtype);`. \
         Then swap the names with `ALTER DATABASE … RENAME TO …`.\n",
        member_names::GRAPH_DUMP,
        info.graph_name.as_deref().unwrap_or("GRAPH"),
    )?;
    if let Some(graph) = &finished.report.graph
        && !graph.settings_sql.is_empty()
    {
        writeln!(
            out,
            "The dump holds no owners, grants and database settings. These statements reapply them \
             (owner was `{}`). They name the original database: run them after the names are swapped, \
             inside the restored database.\n\n`````sql\n{}\n`````\n",
            graph.owner,
            graph.settings_sql.join("\n")
        )?;
    }
    Ok(())
}

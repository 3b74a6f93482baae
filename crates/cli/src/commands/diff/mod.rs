//! `arkstream diff`
//!
//! It ends with 9 where `diff` would end with 1, because 1 is a defect of this program.

mod told;

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use arkstream_bundle::BundleFile;
use arkstream_pipeline::{BundleReader, Failure};
use arkstream_query::diff::{
    BundleDiff, DiffOptions, FieldDiff, In, Kind, RowDiff, Shown, TableDiff, diff,
};

use crate::{args::DiffArgs, exit::Code, memory, output};

/// Jobs whose budget is the default: a comparison is one, and holds as much as two.
const DEFAULT_JOBS: usize = 2;

/// Rows of each kind that are shown of a model that was named.
const SHOWN: u32 = 20;

pub(crate) fn run(args: &DiffArgs) -> Result<Code, Failure> {
    let budget = match args.memory {
        Some(asked) => memory::budget(Some(asked), 1)?,
        None => memory::budget(None, DEFAULT_JOBS)?,
    };
    let limit = args
        .limit
        .unwrap_or(if args.model.is_empty() { 0 } else { SHOWN });
    let options = DiffOptions {
        memory: budget,
        limit: limit as usize,
        only: args.model.clone(),
    };
    let (first, second) = (open(&args.first)?, open(&args.second)?);
    let found = diff(&first, &second, &options)?;
    if args.json {
        output::print_json(&as_json(args, &found))?;
    } else {
        output::print(&told::describe(args, (&first, &second), &found))?;
    }
    Ok(match (found.is_partial(), found.is_equal()) {
        (true, _) => Code::LeftOut,
        (false, true) => Code::Complete,
        (false, false) => Code::Different,
    })
}

fn open(path: &Path) -> Result<Arc<dyn BundleReader>, Failure> {
    Ok(Arc::new(BundleFile::open(path)?))
}

fn as_json(args: &DiffArgs, found: &BundleDiff) -> Value {
    let stores: Vec<Value> = found
        .stores
        .iter()
        .map(|store| {
            json!({
                "component": store.component, "in": side(store.found), "added": store.added,
                "removed": store.removed, "changed": store.changed, "equal": store.equal,
            })
        })
        .collect();
    let versions: Vec<Value> = found
        .versions
        .iter()
        .map(|v| json!({"what": v.what, "first": v.first, "second": v.second}))
        .collect();
    json!({
        "first": args.first, "second": args.second,
        "equal": found.is_equal() && !found.is_partial(),
        "tables": found.tables.iter().map(table).collect::<Vec<_>>(),
        "stores": stores,
        "versions": versions,
        "peak_memory_bytes": memory::peak(),
    })
}

fn table(table: &TableDiff) -> Value {
    let retyped: Vec<Value> = table
        .columns
        .retyped
        .iter()
        .map(|(name, first, second)| json!({"name": name, "first": first, "second": second}))
        .collect();
    json!({
        "table": table.table, "model": table.model, "in": side(table.found), "id": table.id,
        "equal": table.is_equal() && table.left_out.is_none(),
        "columns": {
            "added": table.columns.added, "removed": table.columns.removed, "retyped": retyped,
        },
        "rows": {"first": table.rows.0, "second": table.rows.1},
        "added": table.added, "removed": table.removed, "changed": table.changed,
        "passes": table.passes, "left_out": table.left_out,
        "samples": table.samples.iter().map(row).collect::<Vec<_>>(),
    })
}

fn row(row: &RowDiff) -> Value {
    let fields: Vec<Value> = row.fields.iter().map(field).collect();
    json!({"is": word(row.kind), "id": row.id, "fields": fields})
}

fn field(field: &FieldDiff) -> Value {
    let value = |shown: &Option<Shown>| {
        shown.as_ref().map(|shown| match shown.is_cut() {
            true => json!({"beginning": shown.text, "bytes": shown.bytes}),
            false => json!(shown.text),
        })
    };
    json!({"name": field.name, "first": value(&field.first), "second": value(&field.second)})
}

fn side(found: In) -> &'static str {
    match found {
        In::Both => "both",
        In::First => "first",
        In::Second => "second",
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Changed => "changed",
        Kind::Added => "added",
        Kind::Removed => "removed",
    }
}

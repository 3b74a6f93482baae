//! The states of sequences, as rows of a query of their own.
//!
//! A sequence is no part of a table: only its `last_value` and `is_called` say where numbering
//! goes on. Three kinds travel: those that columns of exported tables own or count with; those that no table
//! owns and Odoo names after a row of `ir_sequence` (`ir_sequence_NNN`, with date ranges
//! `ir_sequence_NNN_MMM`), with the ids they are named after; and the signalling sequences of
//! Odoo's caches, marked `restore = false`, for information. A sequence counts on outside of
//! transactions, so its state is that of the moment it is read, never behind the snapshot's rows.
//!
//! One query for all of them: `query_to_xml` reads each sequence by its name, and its document is
//! taken apart as text, so the server needs no XML library.

use arkstream_format::TableRole;
use arkstream_postgres::VirtualQuery;

use super::Rows;
use super::builder::Builder;
use super::filter::ids_of;

const STATES: &str = r"SELECT n.nspname::text AS schema, c.relname::text AS name,
  substring(x.state from '<last_value>(-?[0-9]+)</last_value>')::int8 AS last_value,
  substring(x.state from '<is_called>([a-z]+)</is_called>')::bool AS is_called,
  s.seqtypid::regtype::text AS data_type, s.seqincrement AS increment, s.seqstart AS start,
  s.seqmin AS min, s.seqmax AS max, s.seqcache AS cache, s.seqcycle AS cycle,
  o.owner AS owned_by,
  NULLIF(i.ids[1], '')::int8 AS ir_sequence_id, NULLIF(i.ids[2], '')::int8 AS date_range_id,
  NOT (c.relname = 'base_registry_signaling' OR starts_with(c.relname, 'base_cache_signaling')) AS restore
FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT d.refobjid AS oid, format('%I.%I.%I', tn.nspname, tc.relname, a.attname) AS owner
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_class tc ON tc.oid = d.refobjid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass
    AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0 LIMIT 1) o ON true
LEFT JOIN LATERAL (
  SELECT regexp_match(c.relname, '^ir_sequence_([0-9]{3,18})(?:_([0-9]{3,18}))?$') AS ids
  WHERE o.oid IS NULL) i ON true
CROSS JOIN LATERAL (SELECT query_to_xml(
  format('SELECT last_value, is_called FROM %I.%I', n.nspname, c.relname), false, true, '')::text AS state) x
WHERE c.relpersistence <> 't' AND (WHICH)
ORDER BY 1, 2";

/// Sequences that a default of an exported table counts with, whoever owns them: an inheriting
/// table counts with its parent's.
const DEFAULTS: &str = "EXISTS (SELECT FROM pg_catalog.pg_depend d \
    JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid \
    WHERE d.classid = 'pg_catalog.pg_attrdef'::regclass \
      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid \
      AND f.adrelid = ANY(ARRAY[OWNERS]::oid[]))";

/// Adds the query.
pub(super) fn add(builder: &mut Builder<'_>) {
    let which = if builder.choice.everything {
        "true".to_owned()
    } else {
        which(builder)
    };
    builder.add_query(VirtualQuery {
        name: "sequences".to_owned(),
        sql: STATES.replace("WHICH", &which),
    });
}

fn which(builder: &Builder<'_>) -> String {
    let owners: Vec<String> = builder
        .tasks()
        .filter(|task| task.columns.is_none())
        .map(|task| task.table.table.oid.to_string())
        .collect();
    let mut conditions = vec![
        format!("o.oid = ANY(ARRAY[{}]::oid[])", owners.join(",")),
        DEFAULTS.replace("OWNERS", &owners.join(",")),
        "c.relname = 'base_registry_signaling'".to_owned(),
        "starts_with(c.relname, 'base_cache_signaling')".to_owned(),
    ];
    let numbering = builder
        .odoo("ir_sequence")
        .and_then(|table| builder.planned(table.table.oid))
        .filter(|task| {
            task.columns.is_none() && matches!(task.role, TableRole::Model | TableRole::Support)
        });
    if let Some(task) = numbering {
        conditions.push(format!(
            "i.ids[1]::int8 IN ({})",
            ids_of(&Rows::of(task), "id")
        ));
    }
    conditions.join(" OR ")
}

//! JSON Schemas of everything that a bundle holds, generated from the types.

use schemars::{Schema, schema_for};

use crate::{CopyRecord, Manifest, Metadata, ModelEntry, RestoreRecord, journal::Record};

/// Every schema with the name of its file under `schemas/` (without `.schema.json`).
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("copy", schema_for!(CopyRecord)),
        ("journal", schema_for!(Record)),
        ("manifest", schema_for!(Manifest)),
        ("metadata", schema_for!(Metadata)),
        ("model_list", schema_for!(Vec<ModelEntry>)),
        ("restore", schema_for!(RestoreRecord)),
    ]
}

//! `metadata.json`: the specification's fields, all of them, and ours behind them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RunId;

/// The whole of `metadata.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metadata {
    /// Version of the backup format, such as `1.0.0`.
    pub backup_version: String,
    /// When the snapshots were taken.
    pub timestamp: DateTime<Utc>,
    /// `complete` when every component of the stack is in the bundle, else `partial`.
    pub backup_type: String,
    /// First two components of the installed version of `base`, such as `18.0`.
    pub odoo_version: String,
    /// Installed version of every installed module.
    pub module_versions: BTreeMap<String, String>,
    /// Where the data came from.
    pub database_info: DatabaseInfo,
    /// Rows per model.
    pub model_counts: BTreeMap<String, u64>,
    /// Models in an order in which every foreign key finds what it refers to (cycles aside).
    pub model_import_order: Vec<String>,
    /// Bytes per component before compression, for people: `45.2 MB`.
    pub file_sizes: BTreeMap<String, String>,
    /// Seconds from the start of the run to the writing of this file.
    pub export_duration_seconds: u64,
    /// Whether anything was left out.
    pub export_status: ExportStatus,
    /// One line for each thing that was left out.
    pub export_errors: Vec<String>,
    /// `sha256:` of the list of all other members' digests; see `Manifest::checksum_of`.
    pub checksum: String,

    /// The run that wrote the bundle.
    pub run_id: RunId,
    /// Version of Arkstream.
    pub arkstream_version: String,
    /// `database.uuid` of the Odoo database, by which a restore knows it again.
    pub database_uuid: Option<String>,
    /// Older bundles that unchanged members were copied out of. None of them is needed any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub based_on: Vec<BasedOn>,
}

/// An older bundle that unchanged members were copied out of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BasedOn {
    /// The run that wrote it.
    pub run_id: RunId,
    /// When its snapshots were taken.
    pub timestamp: DateTime<Utc>,
    /// Members that were copied.
    pub members: u64,
    /// Bytes of the file that were copied, for people: `45.2 MB`.
    pub size: String,
}

/// Where the data came from. No secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseInfo {
    /// Version of the server with the Odoo database.
    pub postgres_version: String,
    /// Name of the Odoo database.
    pub odoo_database: String,
    /// Name of the graph database, if any.
    pub graph_database: Option<String>,
    /// Name of the graph that the application uses, if known.
    pub graph_name: Option<String>,
    /// The Chroma directory as the application has it configured, or as it was given.
    pub chroma_persist_directory: Option<String>,
}

/// Whether anything was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportStatus {
    /// Nothing was left out.
    Success,
    /// Something was left out; `export_errors` says what.
    Partial,
}

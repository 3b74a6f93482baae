//! The record of a restore: what a later command needs to finish it, to undo it, to forget it.
//!
//! One file a restore, `<restore id>.json` in the state folder, replaced atomically and synced
//! **before** the step it announces. It holds no secret: connection strings stand without
//! passwords.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Component, Digest, RunId};

/// One restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreRecord {
    /// Version of this record's shape; [`RestoreRecord::VERSION`].
    pub version: u32,
    /// The restore's name: 16 digits and letters `[0-9a-z]`, usable in SQL names and file names.
    pub restore_id: String,
    /// The bundle's file.
    pub bundle: String,
    /// The run that published the bundle.
    pub bundle_run_id: RunId,
    /// BLAKE3 of the bundle's manifest: what is staged is continued from this very bundle only.
    pub bundle_manifest: Digest,
    /// When the restore began.
    pub started_at: DateTime<Utc>,
    /// When this record was written.
    pub updated_at: DateTime<Utc>,
    /// How far it is.
    pub phase: RestorePhase,
    /// What it touches, in the order of the cut-over.
    pub targets: Vec<TargetRecord>,
}

impl RestoreRecord {
    /// The version of this shape.
    pub const VERSION: u32 = 1;
}

/// How far a restore is. The legal transitions: staging → discarded; staging → cutting-over →
/// proving or reverted, or staging again when it was killed or may succeed later; proving → live;
/// live → undoing → reverted, or live again when nothing was brought back; live → forgetting → forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestorePhase {
    /// Loads beside the live data; nothing live was touched.
    Staging,
    /// The switch is under way: each target is old or new.
    CuttingOver,
    /// Every target is new and is held against the bundle; what was staged is not removed yet.
    Proving,
    /// Every target is new; the former state is kept.
    Live,
    /// An undo is under way.
    Undoing,
    /// Every target is as it was before.
    Reverted,
    /// Given up before anything live was touched.
    Discarded,
    /// The former state is being dropped: an undo is no longer possible.
    Forgetting,
    /// Every target is new and the former state is gone.
    Forgotten,
}

/// One target of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRecord {
    /// The component that is restored.
    pub component: Component,
    /// Where it is, where it is staged, where its former state is kept.
    pub place: TargetPlace,
}

/// Where a target is: enough to look at it again, with the credentials of that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TargetPlace {
    /// Rows of an Odoo database.
    Models {
        /// Connection string without a password.
        connection: String,
        /// The schema that is loaded into.
        staging_schema: String,
        /// The schema that keeps the former versions.
        undo_schema: String,
    },
    /// Files of an Odoo filestore.
    Filestore {
        /// The folder with the two-digit subfolders.
        directory: String,
        /// The file that lists what was added, one name a line.
        added_list: String,
        /// Connection string of the database whose attachments refer to the files, without a
        /// password; absent when no database was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
    },
    /// A graph database.
    Graph {
        /// Connection string of a superuser to the maintenance database, without a password.
        connection: String,
        /// The live database.
        database: String,
        /// The database that is loaded into.
        staging: String,
        /// The name under which the former database is kept.
        kept: String,
    },
    /// A ChromaDB directory.
    Chroma {
        /// The live directory.
        directory: String,
        /// The sibling that is loaded into.
        staging: String,
        /// The sibling that keeps the former directory.
        kept: String,
        /// Whether there was a live directory before.
        existed: bool,
    },
}

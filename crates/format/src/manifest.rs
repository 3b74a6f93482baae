//! `manifest.json`: the index of a bundle.
//!
//! It is the last member. It lists every other member with its place in the file, its chunks and
//! their hashes, so that any byte of the bundle can be proven or found damaged, and any chunk can
//! be read alone. The manifest itself is covered by the archive comment, which holds the BLAKE3
//! of its stored bytes.
//!
//! Memory: one [`Chunk`] is about 100 bytes, so 1 TB of data in 4 MiB chunks takes some 25 MB.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{BaseBundle, Component, Copied, Crc32, Digest, Proof, RunId, Salvage, TableEntry};

/// The whole index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// [`crate::FORMAT_VERSION`] of the writer.
    pub format_version: String,
    /// The run that published the bundle.
    pub run_id: RunId,
    /// The program that wrote it.
    pub generator: Generator,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// One entry a set of source snapshots; more than one after a resume, or where parts were copied
    /// out of an older bundle.
    pub generations: Vec<Generation>,
    /// Older bundles that members were copied out of. None of them is needed to read this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<BaseBundle>,
    /// Sums per component.
    pub components: BTreeMap<Component, ComponentSummary>,
    /// Every member but the manifest, in the order of their place in the file.
    pub members: Vec<Member>,
    /// Bytes of the file that belong to no listed member, such as superseded attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_ranges: Vec<DeadRange>,
    /// Every table with its columns, keys and parts.
    pub tables: Vec<TableEntry>,
    /// What was attempted and left out. A bundle with entries here was announced by exit code 3.
    #[serde(default)]
    pub omissions: Vec<Omission>,
    /// References without a foreign key that were followed, and how many point nowhere.
    #[serde(default)]
    pub references: Vec<ReferenceCheck>,
    /// The Chroma directory's versions, when it is in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chroma: Option<ChromaSummary>,
    /// The graph database's properties, when it is in the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<GraphSummary>,
    /// How members are sealed; absent in a bundle that is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealing: Option<Sealing>,
    /// What was lost, where the bundle was salvaged from a damaged one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salvage: Option<Salvage>,
}

impl Manifest {
    /// One that lists nothing yet, of this version of the format.
    #[must_use]
    pub fn empty(run_id: RunId, generator: Generator, started_at: DateTime<Utc>) -> Self {
        Self {
            format_version: crate::FORMAT_VERSION.to_owned(),
            run_id,
            generator,
            started_at,
            generations: Vec::new(),
            bases: Vec::new(),
            components: BTreeMap::new(),
            members: Vec::new(),
            dead_ranges: Vec::new(),
            tables: Vec::new(),
            omissions: Vec::new(),
            references: Vec::new(),
            chroma: None,
            graph: None,
            sealing: None,
            salvage: None,
        }
    }

    /// The SHA-256 that `metadata.json` carries as `checksum`: over one line
    /// `<digest>  <name>\n` for every member but `metadata.json`, `manifest.json` and the index
    /// members, in the manifest's order. It is equal for equal content, wherever that stands in the
    /// file; the index members say where.
    #[must_use]
    pub fn checksum_of<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
        use sha2::{Digest as _, Sha256};
        let mut hasher = Sha256::new();
        for member in members {
            if member.name != crate::member_names::METADATA && !member.is_index() {
                hasher.update(format!("{}  {}\n", member.digest, member.name));
            }
        }
        let mut text = String::from("sha256:");
        for byte in hasher.finalize() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// The program that wrote a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// `arkstream`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Generator {
    /// The program of that name and version.
    #[must_use]
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
        }
    }
}

/// One set of source snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// The run that took the snapshots.
    pub run_id: RunId,
    /// When the barrier was passed.
    pub taken_at: DateTime<Utc>,
    /// Time between the first and the last snapshot of the barrier, in milliseconds.
    pub barrier_skew_ms: u64,
    /// How long writers of Chroma were held, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chroma_hold_ms: Option<u64>,
    /// One entry a database.
    pub snapshots: Vec<SnapshotEntry>,
}

/// One database's snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotEntry {
    /// The component whose database this is: `models` or `graph`.
    pub component: Component,
    /// The snapshot's identifier (`pg_export_snapshot()`), or empty where the server cannot
    /// share one and `pg_dump` took its own.
    pub snapshot: String,
    /// The server at that moment.
    pub server: ServerInfo,
}

/// Identity and history of a PostgreSQL server, as far as it can tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// `server_version`, such as `15.20`.
    pub version: String,
    /// `server_version_num`, such as `150020`.
    pub version_num: u32,
    /// The database's name.
    pub database: String,
    /// The database's OID.
    pub database_oid: u32,
    /// `pg_control_system().system_identifier`, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_identifier: Option<String>,
    /// `pg_control_checkpoint().timeline_id`, where it may be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// `pg_postmaster_start_time()`, ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postmaster_started_at: Option<String>,
    /// The WAL position at the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_lsn: Option<String>,
    /// `pg_snapshot_xmax(pg_current_snapshot())`, the 64-bit transaction id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_xid: Option<String>,
    /// Encoding of the database.
    pub encoding: String,
    /// `datcollate`.
    pub collation: String,
}

/// Sums over the members of one component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComponentSummary {
    /// Number of members.
    pub members: u64,
    /// Rows, where the component has any.
    pub rows: u64,
    /// Bytes before compression.
    pub raw_bytes: u64,
    /// Bytes in the file.
    pub stored_bytes: u64,
}

/// How a member's bytes stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As they are (ZIP method 0).
    Stored,
    /// Raw deflate (ZIP method 8). Every chunk is compressed by itself and ends in a sync flush;
    /// the member ends with the bytes `03 00`.
    Deflate,
}

/// One ZIP entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// The name in the ZIP directory.
    pub name: String,
    /// The system it belongs to.
    pub component: Component,
    /// How its bytes are stored.
    pub compression: Compression,
    /// Offset of its local header in the file.
    pub header_offset: u64,
    /// Offset of its first data byte in the file.
    pub data_offset: u64,
    /// Bytes before compression.
    pub raw_len: u64,
    /// Bytes in the file, without header and data descriptor.
    pub stored_len: u64,
    /// CRC-32 of the raw bytes.
    pub crc32: Crc32,
    /// [`Digest::of_chunks`] of its chunks.
    pub digest: Digest,
    /// Whether CRC and sizes stand behind the data, in a ZIP64 data descriptor, because they were
    /// not known when the local header was written.
    pub descriptor: bool,
    /// Modification time, whole seconds.
    pub modified_at: DateTime<Utc>,
    /// UNIX permission bits.
    pub mode: u32,
    /// Rows, where the member holds rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// What it was read from, where that can prove it unchanged later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What of it was copied out of an older bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<Copied>,
    /// Its chunks, without gaps.
    #[serde(deserialize_with = "without_slack")]
    pub chunks: Vec<Chunk>,
}

/// Most members have one chunk, and a list that grows has room for four.
fn without_slack<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Chunk>, D::Error> {
    let mut chunks = Vec::deserialize(from)?;
    chunks.shrink_to_fit();
    Ok(chunks)
}

impl Member {
    /// Whether it is a copy of the index, written while the bundle was.
    #[must_use]
    pub fn is_index(&self) -> bool {
        self.name.starts_with(crate::member_names::INDEX_DIR)
    }
}

/// At most [`crate::CHUNK_SIZE`] raw bytes: the unit of integrity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chunk {
    /// Offset of its first stored byte in the file.
    pub offset: u64,
    /// Bytes before compression.
    pub raw_len: u32,
    /// Bytes in the file.
    pub stored_len: u32,
    /// CRC-32 of the raw bytes.
    pub crc32: Crc32,
    /// BLAKE3 of the raw bytes.
    pub blake3: Digest,
    /// BLAKE3 of the stored bytes, where they differ from the raw ones. It is checked before
    /// anything is decompressed, and covers bits that decompression would ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_blake3: Option<Digest>,
}

/// Bytes that no listed member owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadRange {
    /// Offset of the first byte.
    pub offset: u64,
    /// Number of bytes.
    pub len: u64,
    /// BLAKE3 of the bytes, so that they too are guarded.
    pub blake3: Digest,
    /// Why they are there.
    pub reason: String,
}

impl DeadRange {
    /// Offset of the first byte behind it; the largest one where it would lie beyond all offsets.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// Something that was attempted and is not in the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Omission {
    /// The system it belongs to.
    pub component: Component,
    /// What is missing: a file, a table, a component.
    pub what: String,
    /// Why.
    pub reason: String,
}

/// One kind of reference that no foreign key guards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReferenceCheck {
    /// What refers, such as `ir_attachment.res_id`.
    pub from: String,
    /// What is referred to, such as `ai.message`.
    pub to: String,
    /// References found.
    pub total: u64,
    /// References that point nowhere.
    pub dangling: u64,
}

/// The versions a Chroma directory was written by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChromaSummary {
    /// Rows of `migrations`; a restore refuses a target that has fewer.
    pub migrations: Vec<MigrationEntry>,
    /// Number of collections.
    pub collections: u64,
    /// Rows of `embeddings`.
    pub embeddings: u64,
    /// Operations in `embeddings_queue`.
    pub queued: u64,
}

/// One row of Chroma's `migrations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationEntry {
    /// `dir`.
    pub dir: String,
    /// `version`.
    pub version: i64,
    /// `filename`.
    pub filename: String,
    /// `hash`, an MD5 in Chroma.
    pub hash: String,
}

/// What a restore of the graph database must know and a dump does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GraphSummary {
    /// The database's name.
    pub database: String,
    /// Version of the `age` extension, if it is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_version: Option<String>,
    /// Graphs by name.
    pub graphs: Vec<String>,
    /// Version line of the `pg_dump` that wrote the dump.
    pub pg_dump_version: String,
    /// The database's owner.
    pub owner: String,
    /// Statements that reapply what the dump leaves out: database settings
    /// (`pg_db_role_setting`), database grants, owners and grants inside the database.
    pub settings_sql: Vec<String>,
}

/// How members are sealed (encrypted). No bundle of this version is; the field keeps the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sealing {
    /// The scheme, such as `age`.
    pub scheme: String,
    /// Public identities that can open the bundle.
    pub recipients: Vec<String>,
}

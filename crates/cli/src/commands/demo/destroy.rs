//! The disaster of the demo, and the proof that nothing of it is left.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use arkstream_bundle::BundleFile;
use arkstream_pipeline::{BundleReader, Failure, FailureKind};
use arkstream_sample::Server;
use sha2::{Digest as _, Sha256};

/// What the stack holds: a hash by table, graph label and file.
pub(super) type Inventory = BTreeMap<String, String>;

/// Where the demo's stack is.
pub(super) struct Stack<'a> {
    pub(super) server: &'a Server,
    pub(super) odoo: &'a str,
    pub(super) graph: &'a str,
    pub(super) filestore: PathBuf,
    pub(super) chroma: PathBuf,
}

impl Stack<'_> {
    /// Hashes everything that the bundle has whole.
    pub(super) fn inventory(&self, bundle: &Path) -> Result<Inventory, Failure> {
        let mut found = Inventory::new();
        for table in whole_tables(bundle)? {
            let hash = self.hash(self.odoo, &table)?;
            found.insert(table, hash);
        }
        let labels = self.ask(
            self.graph,
            "SELECT relation::regclass::text FROM ag_catalog.ag_label ORDER BY 1",
        )?;
        for label in labels.lines() {
            found.insert(format!("graph {label}"), self.hash(self.graph, label)?);
        }
        let referred = self.ask(
            self.odoo,
            "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname IS NOT NULL ORDER BY 1",
        )?;
        let bundled = bundled_files(bundle)?;
        for name in referred.lines().filter(|name| bundled.contains(*name)) {
            found.insert(
                format!("file {name}"),
                hash_file(&self.filestore.join(name))?,
            );
        }
        Ok(found)
    }

    /// Empties the tables, drops the graph database, removes the folders.
    pub(super) fn destroy(&self, bundle: &Path) -> Result<(), Failure> {
        let deletions: Vec<String> = whole_tables(bundle)?
            .iter()
            .map(|table| format!("DELETE FROM {table}"))
            .collect();
        // Without triggers, as a disaster would: nobody's foreign keys are asked.
        self.ask(
            self.odoo,
            &format!(
                "SET session_replication_role = replica; {}",
                deletions.join("; ")
            ),
        )?;
        self.ask("postgres", &format!("DROP DATABASE \"{}\"", self.graph))?;
        for folder in [&self.filestore, &self.chroma] {
            fs::remove_dir_all(folder).map_err(|error| failed(folder, error))?;
        }
        Ok(())
    }

    fn hash(&self, database: &str, table: &str) -> Result<String, Failure> {
        self.ask(
            database,
            &format!(
                "SELECT count(*) || ' rows, ' || COALESCE(sum(hashtextextended(t::text, 0)::numeric), 0) FROM {table} t"
            ),
        )
    }

    fn ask(&self, database: &str, sql: &str) -> Result<String, Failure> {
        self.server
            .psql(database, sql)
            .map_err(super::sample_failure)
    }
}

/// Tables of which the bundle has all rows, as SQL.
fn whole_tables(bundle: &Path) -> Result<Vec<String>, Failure> {
    let bundle = BundleFile::open(bundle)?;
    Ok(bundle
        .manifest()
        .tables
        .iter()
        .filter(|table| table.filter.is_none() && table.columns_left_out.is_empty())
        .filter_map(|table| table.table.split_once('.'))
        .map(|(schema, name)| format!("\"{schema}\".\"{name}\""))
        .collect())
}

fn bundled_files(bundle: &Path) -> Result<std::collections::BTreeSet<String>, Failure> {
    let bundle = BundleFile::open(bundle)?;
    let folder = arkstream_format::member_names::FILESTORE_DIR;
    Ok(bundle
        .manifest()
        .members
        .iter()
        .filter_map(|member| member.name.strip_prefix(folder).map(str::to_owned))
        .collect())
}

fn hash_file(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path).map_err(|error| failed(path, error))?;
    let digest = Sha256::digest(bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(path: &Path, error: io::Error) -> Failure {
    Failure::io(
        FailureKind::Source,
        format!("look at {} in the demo", path.display()),
        error,
    )
}

//! Files below the filestore that no attachment of the snapshot names.
//!
//! Odoo leaves them behind when attachments are deleted, until its garbage collector passes. The
//! folder `checklist` is the collector's own list and holds no content.
//!
//! A file that was added after the snapshot looks like an orphan; the count says so by being one.
//! Peak memory: one folder's names, and those of the orphans.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use arkstream_pipeline::{Failure, FailureKind, Run};
use arkstream_postgres::failure_of;
use tokio_postgres::Client;

use super::known_names;

/// Names that are asked for at once.
const BATCH: usize = 2000;

const CHECKLIST: &str = "checklist";

/// The names of all orphans, sorted. None where there is no filestore.
pub(super) async fn find(
    dir: &Path,
    client: &Client,
    table: &str,
    run: &Run,
) -> Result<Vec<String>, Failure> {
    let fail = |path: &Path, error| {
        Failure::io(
            FailureKind::Source,
            format!("list the folder {}", path.display()),
            error,
        )
        .help("run as a user who may read the whole filestore, such as the user of Odoo")
    };
    let mut orphans = Vec::new();
    let folders = match list(dir.to_owned()).await? {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(orphans),
        Err(error) => return Err(fail(dir, error)),
    };
    for (folder, is_dir) in folders {
        run.cancel.check()?;
        let names = match is_dir {
            _ if folder == CHECKLIST => continue,
            false => vec![folder],
            true => {
                let path = dir.join(&folder);
                let files = list(path.clone())
                    .await?
                    .map_err(|error| fail(&path, error))?;
                files
                    .into_iter()
                    .filter(|(_, is_dir)| !is_dir)
                    .map(|(file, _)| format!("{folder}/{file}"))
                    .collect()
            }
        };
        for batch in names.chunks(BATCH) {
            let known: BTreeSet<String> = client
                .query(&known_names(table, batch), &[])
                .await
                .map_err(|error| failure_of("look for files that no attachment names", &error))?
                .iter()
                .map(|row| row.get(0))
                .collect();
            orphans.extend(batch.iter().filter(|name| !known.contains(*name)).cloned());
        }
    }
    orphans.sort();
    Ok(orphans)
}

/// Names in a folder, and whether each is a folder. Names that are no UTF-8 cannot be Odoo's and
/// are shown as far as they can be.
async fn list(dir: PathBuf) -> Result<io::Result<Vec<(String, bool)>>, Failure> {
    tokio::task::spawn_blocking(move || {
        std::fs::read_dir(&dir)?
            .map(|entry| {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                Ok((name, entry.file_type()?.is_dir()))
            })
            .collect()
    })
    .await
    .map_err(|error| Failure::new(FailureKind::Internal, "list the filestore", error))
}

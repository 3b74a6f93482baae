//! Who holds a directory open, found out by asking Windows for each of its files alone.
//!
//! Windows does not say who it is. It also refuses to rename a directory in which a file is open, so a
//! switch under a Chroma that runs fails before it loses anything.

use std::{fs, io, path::Path};

use arkstream_pipeline::{Failure, os};

use super::{super::durable::refused, Found, Holder};
use crate::directory::is_alien;

/// Looks for everybody, this process included. A directory that is not there is held by nobody.
pub(in super::super) fn holders(directory: &Path) -> Result<Found, Failure> {
    let mut found = Found {
        holders: Vec::new(),
        unseen: Some(0),
    };
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |error| refused(format!("list {}", folder.display()), error);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let (kind, path) = (entry.file_type().map_err(failed)?, entry.path());
            if folder == directory && is_alien(&entry.file_name()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                match os::is_open_elsewhere(&path) {
                    Ok(false) => {}
                    Ok(true) => found.holders.push(Holder {
                        pid: None,
                        command: "a process".into(),
                        what: format!("holds {} open", path.display()),
                    }),
                    Err(error) if gone(&error) => {}
                    Err(_) => found.unseen = None,
                }
            }
        }
    }
    Ok(found)
}

//! Where a bundle goes, and what is printed.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Local};

pub(crate) use crate::table::table;
pub(crate) use arkstream_pipeline::words::harmless;
use arkstream_pipeline::{Failure, FailureKind};

use crate::screen;

/// What the default name of a bundle begins with.
pub(crate) const NAME_PREFIX: &str = "sam_ai_complete_backup_";

/// The bundle's path: a file as it was named, or the default name in a folder.
pub(crate) fn bundle_path(out: Option<&Path>, now: DateTime<Local>) -> PathBuf {
    let name = format!("{NAME_PREFIX}{}.zip", now.format("%Y%m%d_%H%M%S"));
    match out {
        None => PathBuf::from(name),
        Some(out) if out.is_dir() || out.as_os_str().to_string_lossy().ends_with('/') => {
            out.join(name)
        }
        Some(out) => out.to_owned(),
    }
}

/// Prints to standard output, [`harmless`]ly, and below bars: it is what a command ends with. A reader
/// who has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    screen::leave();
    let mut out = io::stdout().lock();
    match out
        .write_all(harmless(text).as_bytes())
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome
            .map_err(|error| Failure::io(FailureKind::Refused, "write to standard output", error)),
    }
}

/// Prints a value as JSON, indented.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(FailureKind::Internal, "write JSON", error))?;
    text.push('\n');
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gets_the_default_name() {
        let folder = tempfile::tempdir().unwrap();
        let now = "2026-01-02T03:04:05+00:00"
            .parse::<DateTime<chrono::Utc>>()
            .unwrap();
        let now = now.with_timezone(&Local);
        let path = bundle_path(Some(folder.path()), now);
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("sam_ai_complete_backup_2026010"), "{name}");
        assert_eq!(
            bundle_path(Some(Path::new("a.zip")), now),
            Path::new("a.zip")
        );
    }
}

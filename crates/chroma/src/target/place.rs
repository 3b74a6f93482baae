//! Where a Chroma directory is restored to, and the names beside it.
//!
//! ```text
//! /srv/chroma                              live
//! /srv/chroma.arkstream_<id>               staging
//! /srv/chroma.arkstream_<id>.record        the record of what was staged
//! /srv/chroma_backup_20261123_101500       the former directory
//! ```
//!
//! A mount point can be neither renamed nor exchanged, and what lies beside it is on another file
//! system. So there everything lies inside, in a folder that counts for neither side:
//!
//! ```text
//! /srv/chroma/.arkstream_<id>/new          staging
//!                            /record       the record of what was staged
//!                            /journal      the entries that are swapped
//!                            /chroma_backup_20261123_101500
//! ```

use std::{
    io,
    path::{Path, PathBuf},
};

use arkstream_format::TargetPlace;
use arkstream_pipeline::{Failure, FailureKind, os};
use chrono::{DateTime, Utc};

use super::durable::{beside, exists, parent_of};
use crate::directory::OWN_PREFIX;

/// The names of one restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paths {
    /// The directory that Chroma opens.
    pub(super) live: PathBuf,
    /// What is loaded into.
    pub(super) staging: PathBuf,
    /// Where the former directory ends.
    pub(super) kept: PathBuf,
    /// Whether there was a live directory before.
    pub(super) existed: bool,
    /// The folder of this restore inside the live directory, when that is a mount point.
    pub(super) inside: Option<PathBuf>,
}

impl Paths {
    /// Fixes the names of a restore into `given`.
    pub(super) fn choose(given: &Path, id: &str, now: DateTime<Utc>) -> Result<Self, Failure> {
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Failure::new(
                FailureKind::Internal,
                "name the staging directory of Chroma",
                format!("{id:?} is no name of a restore"),
            ));
        }
        let (live, existed) = resolve(given)?;
        let name = live
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| unusable(given, "it has no name that can be extended"))?;
        let backup = format!("{name}_backup_{}", now.format("%Y%m%d_%H%M%S"));
        if existed && is_mount_point(&live)? {
            let inside = live.join(format!("{OWN_PREFIX}{id}"));
            return Ok(Self {
                staging: inside.join("new"),
                kept: inside.join(backup),
                inside: Some(inside),
                live,
                existed,
            });
        }
        let parent = parent_of(&live);
        let mut kept = parent.join(&backup);
        let mut next = 2;
        while exists(&kept)? {
            kept = parent.join(format!("{backup}_{next}"));
            next += 1;
        }
        Ok(Self {
            staging: beside(&live, &format!("{OWN_PREFIX}{id}")),
            kept,
            inside: None,
            live,
            existed,
        })
    }

    /// The names that an earlier process fixed.
    pub(super) fn of(place: &TargetPlace) -> Result<Self, Failure> {
        let TargetPlace::Chroma {
            directory,
            staging,
            kept,
            existed,
        } = place
        else {
            return Err(Failure::new(
                FailureKind::Internal,
                "look at the Chroma directory of a restore",
                "its record speaks of another kind of target",
            ));
        };
        let (live, staging) = (PathBuf::from(directory), PathBuf::from(staging));
        let inside = staging
            .parent()
            .filter(|folder| folder.parent() == Some(&live))
            .map(Path::to_owned);
        if let Some(inside) = &inside
            && !exists(inside)?
            && !(live.is_dir() && is_mount_point(&live)?)
        {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("look at the Chroma directory {directory}"),
                "it was a mount point when the restore began, and nothing is mounted there now",
            )
            .help("mount it, then run again"));
        }
        Ok(Self {
            live,
            staging,
            kept: kept.into(),
            existed: *existed,
            inside,
        })
    }

    /// The names, for a record.
    pub(super) fn place(&self) -> TargetPlace {
        // All of them are UTF-8: `choose` saw to it, and `of` got strings.
        let text = |path: &Path| path.to_string_lossy().into_owned();
        TargetPlace::Chroma {
            directory: text(&self.live),
            staging: text(&self.staging),
            kept: text(&self.kept),
            existed: self.existed,
        }
    }

    /// The file that says what was staged.
    pub(super) fn record(&self) -> PathBuf {
        match &self.inside {
            Some(inside) => inside.join("record"),
            None => beside(&self.staging, ".record"),
        }
    }

    /// What the former state is called while it is removed, so that a removal that was cut short
    /// leaves nothing that could be taken for it.
    pub(super) fn forgotten(&self) -> PathBuf {
        beside(self.inside.as_ref().unwrap_or(&self.staging), ".forgotten")
    }

    /// The folder in which a restore makes its first entry, and whose file system takes the data.
    pub(super) fn workplace(&self) -> &Path {
        match &self.inside {
            Some(_) => &self.live,
            None => parent_of(&self.live),
        }
    }
}

/// The directory with all links resolved, and whether it is there.
fn resolve(given: &Path) -> Result<(PathBuf, bool), Failure> {
    let resolved = match os::canonical(given) {
        Ok(path) if path.is_dir() => (path, true),
        Ok(_) => return Err(unusable(given, "it is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if exists(given)? {
                return Err(unusable(given, "it is a symbolic link that leads nowhere"));
            }
            let name = given
                .file_name()
                .ok_or_else(|| unusable(given, "there is no such directory"))?;
            let parent = match given.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let parent = os::canonical(parent).map_err(|error| {
                unusable(
                    given,
                    format!("the folder {} is not there: {error}", parent.display()),
                )
            })?;
            (parent.join(name), false)
        }
        Err(error) => return Err(unusable(given, error)),
    };
    if resolved.0.to_str().is_none() {
        return Err(unusable(
            given,
            "its path is not UTF-8, which the record of a restore must be",
        ));
    }
    Ok(resolved)
}

fn unusable(given: &Path, why: impl std::fmt::Display) -> Failure {
    let attempted = format!("restore into the Chroma directory {}", given.display());
    Failure::new(FailureKind::Refused, attempted, why).help(
        "name the persist directory of Chroma with --chroma; the folder it lies in must exist",
    )
}

/// Whether a directory is the root of a mount, be it of a part of the same file system.
pub(super) fn is_mount_point(directory: &Path) -> Result<bool, Failure> {
    let failed = |error| super::durable::refused(format!("look at {}", directory.display()), error);
    if is_marked_as_mount(directory) {
        return Ok(true);
    }
    let here = os::id_at(directory).map_err(failed)?;
    let above = os::id_at(parent_of(directory)).map_err(failed)?;
    Ok(here.device != above.device)
}

/// Whether the kernel says so: the only sign of a mount from the same file system.
#[cfg(target_os = "linux")]
fn is_marked_as_mount(directory: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let mark = StatxAttributes::MOUNT_ROOT;
    statx(
        CWD,
        directory,
        AtFlags::NO_AUTOMOUNT,
        StatxFlags::BASIC_STATS,
    )
    .is_ok_and(|found| {
        found.stx_attributes_mask.contains(mark) && found.stx_attributes.contains(mark)
    })
}

#[cfg(not(target_os = "linux"))]
fn is_marked_as_mount(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "0123456789abcdef";

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000, 0).unwrap()
    }

    #[test]
    fn names_survive_the_way_through_a_record() {
        let root = tempfile::tempdir().unwrap();
        let live = root.path().join("chroma");
        fs::create_dir(&live).unwrap();
        let paths = Paths::choose(&live, ID, now()).unwrap();
        assert!(paths.kept.ends_with("chroma_backup_20231114_221320"));
        assert!(paths.staging.ends_with("chroma.arkstream_0123456789abcdef"));
        assert_eq!(Paths::of(&paths.place()).unwrap(), paths);
    }

    #[test]
    fn a_kept_name_that_is_taken_gets_a_suffix() {
        let root = tempfile::tempdir().unwrap();
        let live = root.path().join("chroma");
        fs::create_dir(root.path().join("chroma_backup_20231114_221320")).unwrap();
        let paths = Paths::choose(&live, ID, now()).unwrap();
        assert!(paths.kept.ends_with("chroma_backup_20231114_221320_2"));
        assert!(!paths.existed);
    }

    #[test]
    fn a_symbolic_link_is_followed_before_names_are_made() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        fs::create_dir(&real).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let paths = Paths::choose(&link, ID, now()).unwrap();
        assert_eq!(paths.live, fs::canonicalize(&real).unwrap());
        fs::remove_dir(&real).unwrap();
        let failure = Paths::choose(&link, ID, now()).unwrap_err();
        assert!(failure.why().contains("leads nowhere"), "{failure}");
    }
}

//! `backup --base`: the older bundle out of which what did not change is copied.

use std::{fmt::Write as _, path::Path};

use serde_json::{Value, json};

use arkstream_bundle::{BundleFile, OutputPaths, bundles_in};
use arkstream_format::{BaseBundle, Component, Manifest};
use arkstream_pipeline::{BundleReader as _, Failure, FailureKind};

use crate::{output, units};

/// What the name of an unfinished bundle ends with.
const UNFINISHED: &str = ".partial";

const ANOTHER: &str = "choose another --base, or leave it out to export everything";

/// The older bundle, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Base {
    pub(crate) bundle: Option<BundleFile>,
    /// What there is to say about it, for people.
    pub(crate) notes: Vec<String>,
}

impl Base {
    /// Opens the bundle that is named, or the newest one of a folder by its name. A folder without a
    /// bundle, or with damaged ones, is no failure: the first backup of a series has nothing to build
    /// upon, and a later one must not depend on an earlier one.
    pub(crate) fn open(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(named) = named else {
            return Ok(Self::default());
        };
        if named.is_dir() {
            return Self::newest_in(named);
        }
        let unfinished = |path: &Path| {
            let why = format!(
                "{} is what an interrupted backup left, not a bundle",
                path.display()
            );
            refuse(named, FailureKind::Refused, why).help(
                "run that backup again, which finishes it, or choose a finished bundle as --base",
            )
        };
        if named.as_os_str().to_string_lossy().ends_with(UNFINISHED) {
            return Err(unfinished(named));
        }
        let partial = OutputPaths::new(named).partial;
        if !named.exists() && partial.exists() {
            return Err(unfinished(&partial));
        }
        let bundle = BundleFile::open(named)
            .map_err(|failure| refuse(named, failure.kind, failure.why()).help(ANOTHER))?;
        Ok(Self::of(bundle, Vec::new()))
    }

    fn newest_in(folder: &Path) -> Result<Self, Failure> {
        let mut notes = Vec::new();
        // Their names go on with the time.
        let named = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(output::NAME_PREFIX)
        };
        let bundles = bundles_in(folder)?.into_iter().rev();
        for path in bundles.filter(|path| named(path)) {
            match BundleFile::open(&path) {
                Ok(bundle) => return Ok(Self::of(bundle, notes)),
                Err(failure) => notes.push(format!(
                    "{} cannot be built upon: {}",
                    path.display(),
                    failure.why()
                )),
            }
        }
        notes.push(format!(
            "there is no older bundle in {} to build upon; everything is exported",
            folder.display()
        ));
        Ok(Self {
            bundle: None,
            notes,
        })
    }

    fn of(bundle: BundleFile, mut notes: Vec<String>) -> Self {
        notes.push(format!(
            "based on {}, taken {}: what is proven unchanged since is copied out of it",
            bundle.path().display(),
            taken(bundle.manifest())
        ));
        Self {
            bundle: Some(bundle),
            notes,
        }
    }

    /// Refuses an output that is the older bundle itself.
    pub(crate) fn refuse_output(&self, out: &Path) -> Result<(), Failure> {
        let Some(bundle) = &self.bundle else {
            return Ok(());
        };
        let same = match (bundle.path().canonicalize(), out.canonicalize()) {
            (Ok(base), Ok(out)) => base == out,
            _ => false,
        };
        match same {
            false => Ok(()),
            true => Err(refuse(
                bundle.path(),
                FailureKind::Refused,
                "it is the output itself",
            )
            .help("choose another --out; a finished bundle is never overwritten")),
        }
    }

    /// What `--dry-run --json` says of it.
    pub(crate) fn json(&self) -> Option<Value> {
        let bundle = self.bundle.as_ref()?;
        let manifest = bundle.manifest();
        Some(json!({
            "bundle": bundle.path(),
            "run_id": manifest.run_id,
            "taken_at": manifest.generations.last().map(|last| last.taken_at),
            "members": manifest.members.len(),
            "bytes": bundle.file_len(),
        }))
    }
}

fn attempted(path: &Path) -> String {
    format!("build upon the older bundle {}", path.display())
}

fn refuse(path: &Path, kind: FailureKind, why: impl std::fmt::Display) -> Failure {
    Failure::new(kind, attempted(path), why)
}

fn taken(manifest: &Manifest) -> String {
    let at = manifest.generations.last();
    let at = at.map_or(manifest.started_at, |last| last.taken_at);
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// What was copied out of older bundles, line by line; nothing where there was none.
pub(crate) fn copied(manifest: &Manifest) -> String {
    let mut text = String::new();
    for base in &manifest.bases {
        let all = base.copied_sum();
        let (members, bytes) = all_data(manifest);
        let _ = writeln!(
            text,
            "copied out of {} of {}: {} of {} members, {} of {}",
            base.name,
            base.taken_at.format("%Y-%m-%d %H:%M:%S UTC"),
            all.members,
            members,
            units::size(all.bytes),
            units::size(bytes)
        );
        text.push_str(&by_component(base, manifest));
    }
    text
}

fn by_component(base: &BaseBundle, manifest: &Manifest) -> String {
    let mut text = String::new();
    for (component, sum) in &base.copied {
        let all = manifest.components.get(component);
        let _ = writeln!(
            text,
            "  {component}: {} of {} members, {} of {}",
            sum.members,
            all.map_or(0, |all| all.members),
            units::size(sum.bytes),
            units::size(all.map_or(0, |all| all.stored_bytes))
        );
    }
    text
}

/// Members and stored bytes of everything but the bundle's description of itself.
fn all_data(manifest: &Manifest) -> (u64, u64) {
    let components = manifest.components.iter();
    components
        .filter(|(component, _)| **component != Component::Description)
        .fold((0, 0), |(members, bytes), (_, sum)| {
            (members + sum.members, bytes + sum.stored_bytes)
        })
}

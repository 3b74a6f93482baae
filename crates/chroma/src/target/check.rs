//! Everything that would make a restore of the directory fail, collected without touching it.

use std::{collections::BTreeSet, fs, path::Path};

use arkstream_format::{ChromaSummary, Component, Manifest};
use arkstream_pipeline::{
    Checked, Failure, FailureKind,
    os::{self, Space},
};

use super::{
    busy, content,
    members::{Wanted, faults, tree, wanted},
    place::Paths,
    stage::Dress,
};
use crate::DATABASE;

/// All checks. Blocks.
pub(super) fn check(paths: &Paths, manifest: &Manifest, allow_busy: bool) -> Checked {
    let mut checked = Checked::default();
    let files = wanted(manifest);
    check_bundle(manifest, &files, &mut checked);
    check_access(paths, &files, &mut checked);
    check_space(paths, &files, &mut checked);
    if let Some(summary) = &manifest.chroma {
        check_versions(&paths.live, summary, &mut checked);
    }
    match check_busy(&paths.live, allow_busy) {
        Ok(warnings) => checked.warnings.extend(warnings),
        Err(failure) => checked.problem(failure),
    }
    checked
}

/// Whether somebody holds the directory open. The warnings are for who allowed it.
pub(super) fn check_busy(directory: &Path, allow_busy: bool) -> Result<Vec<String>, Failure> {
    let found = busy::holders(directory)?;
    let mut warnings = Vec::new();
    if !found.holders.is_empty() {
        let holders: Vec<_> = found.holders.iter().map(ToString::to_string).collect();
        let holders = holders.join("; ");
        if !allow_busy {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("restore into {}", directory.display()),
                format!("the directory is in use: {holders}"),
            )
            .help(
                "stop Chroma, or Odoo where it runs inside; with --allow-busy-chroma the \
                 directory is switched nevertheless, and what these processes write afterwards \
                 is lost",
            ));
        }
        warnings.push(format!(
            "{} is in use, which was allowed: {holders}; restart them after the restore, what \
             they write until then is lost",
            directory.display()
        ));
    }
    match found.unseen {
        Some(0) => {}
        Some(count) => warnings.push(format!(
            "{count} processes of the owner of {} are out of sight of this user: make sure that \
             none of them is Chroma",
            directory.display()
        )),
        None => warnings.push(format!(
            "this system does not tell who holds {} open: make sure that Chroma is stopped",
            directory.display()
        )),
    }
    Ok(warnings)
}

fn check_bundle(manifest: &Manifest, files: &[Wanted], checked: &mut Checked) {
    let attempted = "take the Chroma directory from the bundle";
    let help = "leave chroma out of --components, or use a bundle that was made with --chroma";
    if files.is_empty() {
        checked.incompatible(attempted, "the bundle holds none", help);
        return;
    }
    if manifest.chroma.is_none() {
        let why = "its manifest does not say which versions of Chroma wrote it";
        checked.incompatible(attempted, why, help);
    }
    for fault in faults(files) {
        let help = "the bundle was not written by Arkstream, or was changed since; use another one";
        checked.problem(Failure::new(FailureKind::Damaged, attempted, fault).help(help));
    }
    for omission in &manifest.omissions {
        if omission.component == Component::Chroma {
            checked.warn(format!(
                "the bundle lacks {}: {}",
                omission.what, omission.reason
            ));
        }
    }
}

fn check_access(paths: &Paths, files: &[Wanted], checked: &mut Checked) {
    let folder = paths.workplace();
    if let Err(error) = os::check_folder_writable(folder) {
        let attempted = format!("write to {}", folder.display());
        checked.problem(super::durable::refused(attempted, error));
    }
    let live = paths.live.display();
    let Some(me) = os::user() else {
        checked.warn(format!(
            "this system has no owner and mode as the bundle knows them: what is restored to {live} may be \
             read by whoever may read {}",
            folder.display()
        ));
        return;
    };
    match Dress::of(paths, files).owner {
        Some(owner) if me != 0 && owner.user != me => checked.warn(format!(
            "{live} belongs to user {} and group {}; restored by user {me} it will \
             belong to {me}: run Arkstream as root or as that user to keep the owner",
            owner.user, owner.group
        )),
        Some(_) => {}
        None => {
            let above = fs::metadata(folder)
                .ok()
                .and_then(|found| os::owner(&found));
            let above = above.map_or(0, |owner| owner.user);
            if me == 0 && above != 0 {
                checked.warn(format!(
                    "{live} will belong to root, while {} belongs to user {above}: change the \
                     owner before Chroma opens it",
                    folder.display()
                ));
            }
        }
    }
}

fn check_space(paths: &Paths, files: &[Wanted], checked: &mut Checked) {
    let folder = paths.workplace();
    let attempted = || format!("see how much space is free at {}", folder.display());
    let Space { free, block } = match os::free_space(folder) {
        Ok(Some(found)) => found,
        Ok(None) => {
            checked.warn(format!(
                "the file system of {} does not say how much space is free",
                folder.display()
            ));
            return;
        }
        Err(error) => {
            checked.problem(super::durable::refused(attempted(), error));
            return;
        }
    };
    let whole = |bytes: u64| bytes.div_ceil(block).saturating_mul(block);
    let needed: u64 = files.iter().map(|file| whole(file.member.raw_len)).sum();
    let there: u64 = tree(&paths.staging)
        .map(|staged| staged.files.into_values().flatten().map(whole).sum())
        .unwrap_or_default();
    let needed = needed.saturating_sub(there);
    if needed > free {
        checked.problem(
            Failure::new(
                FailureKind::NoSpace,
                format!("stage the Chroma directory beside {}", paths.live.display()),
                format!("it takes {needed} bytes, and {free} bytes are free there"),
            )
            .help(format!(
                "free {} bytes on the file system of {}",
                needed - free,
                folder.display()
            )),
        );
    }
}

/// Chroma migrates a directory forward when it opens it, never back.
fn check_versions(live: &Path, bundle: &ChromaSummary, checked: &mut Checked) {
    let target = match content::tell(live) {
        Ok(Some(told)) => told.summary,
        Ok(None) => return,
        Err(why) => {
            checked.warn(format!(
                "the versions of {} cannot be read ({why}), so whether its Chroma is older than \
                 the bundle's is not known",
                live.join(DATABASE).display()
            ));
            return;
        }
    };
    if target.migrations.is_empty() {
        return;
    }
    let versions = |summary: &ChromaSummary| -> BTreeSet<(String, i64)> {
        let entries = summary.migrations.iter();
        entries
            .map(|entry| (entry.dir.clone(), entry.version))
            .collect()
    };
    let (ours, theirs) = (versions(&target), versions(bundle));
    let lacking: Vec<_> = theirs
        .difference(&ours)
        .map(|(dir, version)| format!("{dir} {version}"))
        .collect();
    if !lacking.is_empty() {
        checked.incompatible(
            format!("restore into {}", live.display()),
            format!(
                "it was written by an older Chroma than the bundle: it lacks the migrations {}",
                lacking.join(", ")
            ),
            "Chroma cannot go back: upgrade it, let it open its directory once, then run again; \
             or restore into a new directory",
        );
    }
    let newer = ours.difference(&theirs).count();
    if newer > 0 {
        checked.warn(format!(
            "{} was written by a newer Chroma than the bundle; Chroma will migrate what is \
             restored when it opens it ({newer} migrations)",
            live.display()
        ));
    }
    let odd: Vec<_> = bundle
        .migrations
        .iter()
        .filter(|entry| {
            target.migrations.iter().any(|mine| {
                (&mine.dir, mine.version) == (&entry.dir, entry.version)
                    && mine.hash.len() == entry.hash.len()
                    && mine.hash != entry.hash
            })
        })
        .map(|entry| format!("{} {}", entry.dir, entry.version))
        .collect();
    if !odd.is_empty() {
        checked.warn(format!(
            "the migrations {} differ between the bundle and {}: Chroma may refuse to open what \
             is restored",
            odd.join(", "),
            live.display()
        ));
    }
}

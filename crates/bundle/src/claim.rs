//! The unfinished bundle: locked, and begun anew or taken up.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arkstream_format::{FORMAT_VERSION, journal::Record, major_of};
use arkstream_pipeline::{Failure, FailureKind, fault, os};

use crate::{
    appender::Appender,
    disk::{Disk, DiskFile},
    hashing::{HashingFile, sha256_state},
    index::Index,
    journal::{Begin, JournalState, JournalWriter, read_journal, read_journal_on},
    resume::{Recovered, recover},
    space::SpaceWait,
    writer::{Beginning, Leftover, OutputPaths, Resumed},
};

/// Where the bundle is written.
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: OutputPaths,
}

fn attempted(paths: &OutputPaths) -> String {
    format!("create {}", paths.bundle.display())
}

fn refuse(paths: &OutputPaths, why: impl std::fmt::Display, help: &str) -> Failure {
    Failure::new(FailureKind::Refused, attempted(paths), why).help(help)
}

fn refused(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| {
        let attempted = format!("create {}", path.display());
        Failure::io(FailureKind::Refused, attempted, error)
    }
}

/// Opens and locks the unfinished bundle.
pub(crate) fn claim(place: &Place) -> Result<Box<dyn DiskFile>, Failure> {
    let Place { disk, paths } = place;
    let io = |error| {
        let failure = Failure::io(FailureKind::Refused, attempted(paths), error);
        match failure.advice() {
            Some(_) => failure,
            None => failure.help("choose an --out in a folder that exists and that you may write"),
        }
    };
    let exists = || {
        if disk.exists(&paths.bundle).map_err(io)? {
            return Err(refuse(
                paths,
                "it exists already",
                "choose another --out, or remove it yourself; a finished bundle is never overwritten",
            ));
        }
        Ok(())
    };
    exists()?;
    let file = disk.open_private(&paths.partial).map_err(io)?;
    let locked = file.lock().map_err(io)?;
    if !locked
        || !disk
            .still_names(&paths.partial, file.as_ref())
            .map_err(io)?
    {
        return Err(refuse(
            paths,
            "another run is writing it at this moment",
            "wait for it to end, or choose another --out",
        ));
    }
    // Another run may have published between the look and the lock.
    exists()?;
    Ok(file)
}

/// What the journal says of a run that can be continued; `None` when the bundle is begun anew.
pub(crate) fn begun(
    place: &Place,
    file: &dyn DiskFile,
    beginning: &Beginning,
    leftover: Leftover,
) -> Result<Option<(Begin, JournalState, bool)>, Failure> {
    let paths = &place.paths;
    let Leftover::Continue { recheck, insist } = leftover else {
        return Ok(None);
    };
    // A journal beside an empty file is what a kill after publishing leaves.
    if file.size().map_err(refused(&paths.partial))? == 0 {
        return match insist {
            false => Ok(None),
            true => Err(refuse(
                paths,
                "no interrupted run left anything there that could be resumed",
                "leave out --resume to begin, or name the bundle with --out",
            )),
        };
    }
    const START_OVER: &str = "use --fresh to discard it and start over, or choose another --out";
    let of = format!(
        "an interrupted run left the unfinished bundle {}",
        paths.partial.display()
    );
    let mut state = match read_journal_on(place.disk.as_ref(), &paths.journal) {
        Ok(state) => state,
        Err(error) => {
            let why = format!("{of}, whose journal cannot be read: {error}");
            return Err(refuse(paths, why, START_OVER));
        }
    };
    let Some(begin) = state.begin.take() else {
        let why = format!("{of} without a whole journal, so nothing of it can be trusted");
        return Err(refuse(paths, why, START_OVER));
    };
    if major_of(&begin.format_version) != major_of(FORMAT_VERSION) {
        let why = format!("{of} in format {}", begin.format_version);
        return Err(refuse(paths, why, START_OVER));
    }
    let differences = differences(&begin, beginning);
    if !differences.is_empty() {
        let why = format!(
            "{of}, begun {} for something else: {}",
            begin.at.format("%Y-%m-%d %H:%M UTC"),
            differences.join("; ")
        );
        return Err(refuse(paths, why, START_OVER));
    }
    Ok(Some((begin, state, recheck)))
}

/// The newest bundle beside `path` whose name begins with `prefix`, that an interrupted run left of
/// the same plan, and that no run writes at this moment.
///
/// # Errors
/// When the folder cannot be listed. Journals that cannot be read are passed over.
pub fn unfinished_beside(
    path: &Path,
    prefix: &str,
    plan: &BTreeMap<String, String>,
) -> io::Result<Option<PathBuf>> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (journal, name) = (entry.path(), entry.file_name());
        let ours = name.to_str().is_some_and(|name| name.starts_with(prefix));
        if ours
            && journal
                .extension()
                .is_some_and(|extension| extension == "journal")
        {
            let paths = OutputPaths::new(&journal.with_extension(""));
            if is_unfinished(&paths, plan).unwrap_or(false) {
                found.push(paths.bundle);
            }
        }
    }
    // Their names begin alike and go on with the time.
    Ok(found.into_iter().max())
}

fn is_unfinished(paths: &OutputPaths, plan: &BTreeMap<String, String>) -> io::Result<bool> {
    let begin = read_journal(&paths.journal)?.begin;
    if begin.is_none_or(|begin| begin.plan != *plan) {
        return Ok(false);
    }
    // The lock is held for a moment only, or its owner would find it taken.
    let is_empty = std::fs::metadata(&paths.partial)?.len() == 0;
    Ok(!is_empty && os::read_unless_written(&paths.partial)?.is_some())
}

fn differences(begin: &Begin, now: &Beginning) -> Vec<String> {
    let keys: BTreeSet<&String> = begin.plan.keys().chain(now.plan.keys()).collect();
    let shown = |value: Option<&String>| value.map_or("nothing".to_owned(), |v| format!("{v:?}"));
    keys.into_iter()
        .map(|key| (key, begin.plan.get(key), now.plan.get(key)))
        .filter(|(_, then, now)| then != now)
        .map(|(key, then, now)| format!("{key} was {}, is {}", shown(then), shown(now)))
        .collect()
}

/// Begins a bundle: an empty file, and a journal whose first line is durable.
///
/// The journal comes first. So at no moment a journal speaks of bytes that were discarded, and at none
/// the file has bytes without a journal.
pub(crate) fn start_journal(
    place: &Place,
    file: &dyn DiskFile,
    beginning: Beginning,
    wait: &SpaceWait,
) -> Result<JournalWriter, Failure> {
    let Place { disk, paths } = place;
    let begin = Record::Begin {
        format_version: FORMAT_VERSION.to_owned(),
        run_id: beginning.run_id,
        plan: beginning.plan,
        at: beginning.at,
    };
    let (disk, records) = (disk.as_ref(), &[begin]);
    let journal = JournalWriter::replace(disk, &paths.journal, 0, records, wait.clone())
        .map_err(refused(&paths.journal))?;
    file.set_size(0)
        .and_then(|()| file.sync_all())
        .map_err(refused(&paths.partial))?;
    Ok(journal)
}

/// Takes up what the journal proves: cuts off torn bytes of both files.
pub(crate) fn resume(
    place: Place,
    file: Box<dyn DiskFile>,
    begin: Begin,
    state: JournalState,
    recheck: bool,
    wait: SpaceWait,
) -> Result<(Appender, Resumed), Failure> {
    let Place { disk, paths } = place;
    let failed = |error| {
        let attempted = format!("continue {}", paths.partial.display());
        Failure::io(FailureKind::Refused, attempted, error)
    };
    let (generations, bases) = (state.generations.clone(), state.bases.clone());
    let mut index = Index::new(begin.run_id, begin.at);
    let valid_len = state.valid_len;
    let Recovered {
        members,
        dead,
        buried,
        missing,
        torn,
        len,
        sha256,
    } = recover(file.as_ref(), state, recheck).map_err(failed)?;
    let before = file.size().map_err(failed)?;
    let dead_records = buried.iter().cloned().map(|range| Record::Dead { range });
    let cut = Record::Cut {
        len,
        sha256: sha256_state(&sha256),
    };
    let records: Vec<Record> = dead_records.chain([cut]).collect();
    let journal = fault::point("journal.truncate")
        .and_then(|()| {
            let disk = disk.as_ref();
            JournalWriter::replace(disk, &paths.journal, valid_len, &records, wait.clone())
        })
        .map_err(failed)?;
    fault::point("bundle.truncate")
        .and_then(|()| file.set_size(len))
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    let resumed = Resumed {
        begun_at: begin.at,
        generations,
        bases,
        members: members.iter().filter(|member| !member.is_index()).count(),
        bytes: len,
        cut_off: before.saturating_sub(len),
        torn: torn.as_ref().map(|tail| {
            let bytes = tail.torn.end() - tail.torn.data_offset;
            (tail.torn.opening.name.clone(), bytes)
        }),
        damaged: buried
            .iter()
            .map(|range| range.reason.clone())
            .chain(missing)
            .collect(),
    };
    let out = HashingFile {
        file,
        at: len,
        sha256,
        wait,
    };
    index
        .resume(&members, &dead, &resumed.generations)
        .map_err(failed)?;
    let mut appender = Appender::new(disk, paths, out, len, journal, index);
    appender.dead = dead;
    appender.torn = torn;
    appender.take_over(members);
    Ok((appender, resumed))
}

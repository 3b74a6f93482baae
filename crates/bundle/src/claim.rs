//! The unfinished bundle: locked, and begun anew or taken up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use arkstream_format::{FORMAT_VERSION, journal::Record, major_of};
use arkstream_pipeline::{Failure, FailureKind, fault};

use crate::{
    appender::Appender,
    durable,
    hashing::{HashingFile, sha256_state},
    journal::{Begin, JournalState, JournalWriter, read_journal},
    resume::{Recovered, recover},
    space::SpaceWait,
    writer::{Beginning, Leftover, OutputPaths, Resumed},
};

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
pub(crate) fn claim(paths: &OutputPaths) -> Result<File, Failure> {
    let io = |error| {
        let failure = Failure::io(FailureKind::Refused, attempted(paths), error);
        match failure.advice() {
            Some(_) => failure,
            None => failure.help("choose an --out in a folder that exists and that you may write"),
        }
    };
    let exists = || {
        if paths.bundle.try_exists().map_err(io)? {
            return Err(refuse(
                paths,
                "it exists already",
                "choose another --out, or remove it yourself; a finished bundle is never overwritten",
            ));
        }
        Ok(())
    };
    exists()?;
    let file = durable::open_private(&paths.partial).map_err(io)?;
    let locked = durable::try_lock(&file).map_err(io)?;
    if !locked || !durable::still_names(&paths.partial, &file).map_err(io)? {
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
    paths: &OutputPaths,
    file: &File,
    beginning: &Beginning,
    leftover: Leftover,
) -> Result<Option<(Begin, JournalState, bool)>, Failure> {
    let Leftover::Continue { recheck, insist } = leftover else {
        return Ok(None);
    };
    // A journal beside an empty file is what a kill after publishing leaves.
    if file.metadata().map_err(refused(&paths.partial))?.len() == 0 {
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
    let mut state = match read_journal(&paths.journal) {
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
    let file = File::open(&paths.partial)?;
    Ok(file.metadata()?.len() > 0 && durable::try_lock(&file)?)
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

/// Begins a bundle: both files empty, the journal's first line durable.
pub(crate) fn start_journal(
    paths: &OutputPaths,
    file: &mut File,
    beginning: Beginning,
    wait: &SpaceWait,
) -> Result<JournalWriter, Failure> {
    let journal = durable::open_private(&paths.journal)
        .and_then(|journal| journal.set_len(0).map(|()| journal))
        .map_err(refused(&paths.journal))?;
    let mut journal = JournalWriter::new(journal, wait.clone());
    journal
        .push(&Record::Begin {
            format_version: FORMAT_VERSION.to_owned(),
            run_id: beginning.run_id,
            plan: beginning.plan,
            at: beginning.at,
        })
        .and_then(|()| file.set_len(0))
        .and_then(|()| file.sync_all())
        .and_then(|()| journal.commit())
        .and_then(|()| durable::sync_folder_of(&paths.bundle))
        .map_err(refused(&paths.partial))?;
    Ok(journal)
}

/// Takes up what the journal proves: cuts off torn bytes of both files.
pub(crate) fn resume(
    paths: OutputPaths,
    mut file: File,
    begin: Begin,
    state: JournalState,
    recheck: bool,
    wait: SpaceWait,
) -> Result<(Appender, Resumed), Failure> {
    let failed = |error| {
        let attempted = format!("continue {}", paths.partial.display());
        Failure::io(FailureKind::Refused, attempted, error)
    };
    let (generations, bases) = (state.generations.clone(), state.bases.clone());
    let valid_len = state.valid_len;
    let Recovered {
        members,
        dead,
        buried,
        missing,
        torn,
        len,
        sha256,
    } = recover(&file, state, recheck).map_err(failed)?;
    let before = file.metadata().map_err(failed)?.len();
    let mut journal = (|| {
        let mut journal = durable::open_private(&paths.journal)?;
        fault::point("journal.truncate")?;
        journal.set_len(valid_len)?;
        journal.seek(SeekFrom::End(0))?;
        let mut journal = JournalWriter::new(journal, wait.clone());
        for range in &buried {
            let range = range.clone();
            journal.push(&Record::Dead { range })?;
        }
        journal.push(&Record::Cut {
            len,
            sha256: sha256_state(&sha256),
        })?;
        Ok(journal)
    })()
    .map_err(failed)?;
    journal
        .commit()
        .and_then(|()| fault::point("bundle.truncate"))
        .and_then(|()| file.set_len(len))
        .and_then(|()| file.sync_all())
        .and_then(|()| file.seek(SeekFrom::Start(len)).map(drop))
        .map_err(failed)?;
    let resumed = Resumed {
        begun_at: begin.at,
        generations,
        bases,
        members: members.len(),
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
    let mut appender = Appender::new(paths, HashingFile { file, sha256, wait }, len, journal);
    appender.dead = dead;
    appender.torn = torn;
    appender.earlier = members
        .into_iter()
        .map(|member| (member.name.clone(), member))
        .collect();
    Ok((appender, resumed))
}

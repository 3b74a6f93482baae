//! `arkstream restore`, `undo`, `forget`, `restores`

mod leftovers;
mod places;
mod report;
mod targets;

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdin},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::json;

use arkstream_bundle::{BundleFile, LedgerFolder, records};
use arkstream_format::{Component, RestorePhase, RestoreRecord};
use arkstream_pipeline::{
    Budget, BundleReader, Cancel, Checked, Event, Failure, FailureKind, Restoring, os,
};
use arkstream_restorer::{Ledger, Recovered, Restore, Staged, describe, forget, recover, undo};

use targets::Given;

use crate::{
    args::{ForgetArgs, RestoreArgs, RestoresArgs, UndoArgs, WithJson},
    exit::{self, Code},
    interrupt::watch_signals,
    memory, output, progress,
    say::say,
    screen,
};

/// The state folder as the restorer sees it.
pub(crate) struct FolderLedger(LedgerFolder);

impl Ledger for FolderLedger {
    fn save(&self, record: &RestoreRecord) -> Result<(), Failure> {
        self.0.save(record)
    }
}

/// Restores a bundle.
pub(crate) async fn run(args: RestoreArgs) -> Result<Code, Failure> {
    let cancel = Cancel::default();
    watch_signals(&cancel);
    let state = state_dir(args.credentials.state_dir.as_deref())?;
    let ledger = Arc::new(FolderLedger(LedgerFolder::open(&state)?));
    let bundle: Arc<dyn BundleReader> = Arc::new(BundleFile::open(&args.bundle)?);
    let components = targets::components(&args, bundle.as_ref())?;
    let jobs = args.jobs.map_or_else(default_jobs, usize::from);
    let budget = memory::budget(args.memory, jobs)?;
    let mut restoring = Restoring {
        id: new_id(),
        began_at: chrono::Utc::now(),
        continues: false,
        kept: Default::default(),
        bundle: Arc::clone(&bundle),
        observer: progress::observer(args.progress),
        cancel: cancel.clone(),
        budget: Budget::new(budget),
        jobs,
    };
    if !args.dry_run
        && let Some(record) =
            leftovers::settle(&args, &components, &restoring, &ledger, &state).await?
    {
        restoring.id = record.restore_id;
        restoring.began_at = record.started_at;
        restoring.continues = true;
    }
    let targets = targets::open(&args, &components, &restoring, &state)?;
    announce(&restoring, &components);
    let name = os::canonical(&args.bundle)
        .unwrap_or_else(|_| args.bundle.clone())
        .display()
        .to_string();
    let mut restore = Restore::new(targets, restoring.clone(), ledger.clone(), &name);
    let checked = restore.check().await;
    // The bars of what was read; those of what is loaded come when it begins.
    screen::clear();
    cancel.check()?;
    for warning in &checked.warnings {
        say(format!("warning: {}", output::harmless(warning)));
    }
    if !checked.problems.is_empty() {
        return refuse(&args, &checked);
    }
    if args.dry_run {
        let plans = restore.rehearse().await?;
        return report::dry_run(&args, &plans, &checked.warnings);
    }
    if !args.yes {
        let plans = restore.rehearse().await?;
        output::print(&report::plan_text(&plans))?;
        if let Some(failure) = report::refused(&plans) {
            return Err(failure.clone());
        }
        confirm(&args)?;
    }
    let restored = restore.run().await?;
    let kept = restoring.kept.load(std::sync::atomic::Ordering::Relaxed);
    let resumed = restoring.continues.then_some(kept);
    report::finished(&args, &components, &restored, resumed)
}

/// All problems at once; the exit code is that of the gravest.
fn refuse(args: &RestoreArgs, checked: &Checked) -> Result<Code, Failure> {
    let rank = |kind: FailureKind| match kind {
        FailureKind::Interrupted => 0,
        FailureKind::Damaged => 1,
        FailureKind::Incompatible => 2,
        FailureKind::Usage => 3,
        FailureKind::Refused => 4,
        _ => 5,
    };
    let gravest = checked.problems.iter().min_by_key(|p| rank(p.kind));
    for problem in &checked.problems {
        exit::report(problem);
    }
    if args.json {
        let problems: Vec<_> = checked
            .problems
            .iter()
            .map(|p| json!({"problem": p.to_string(), "help": p.advice()}))
            .collect();
        output::print_json(&json!({"problems": problems, "warnings": checked.warnings}))?;
    }
    let count = checked.problems.len();
    say(format!(
        "{count} problem{}; nothing was changed",
        if count == 1 { "" } else { "s" }
    ));
    Ok(gravest.map_or(Code::Internal, Code::of))
}

fn announce(restoring: &Restoring, components: &[Component]) {
    for component in components {
        if let Some(sum) = restoring.bundle.manifest().components.get(component) {
            restoring.tell(Event::Planned {
                component: *component,
                bytes: sum.raw_bytes,
                items: sum.members,
            });
        }
    }
}

fn confirm(args: &RestoreArgs) -> Result<(), Failure> {
    let attempted = format!("restore {}", args.bundle.display());
    if !stdin().is_terminal() {
        return Err(Failure::new(
            FailureKind::Usage,
            attempted,
            "nobody is there to agree to the plan",
        )
        .help("give --yes to restore without a question, or --dry-run to see the plan"));
    }
    let _ = write!(stderr(), "Restore this? Type yes: ");
    let mut answer = String::new();
    let read = stdin().read_line(&mut answer);
    match read {
        Ok(_) if answer.trim() == "yes" => Ok(()),
        _ => Err(Failure::interrupted()),
    }
}

/// Undoes a restore, or ends one that was interrupted.
pub(crate) async fn run_undo(WithJson { args, json }: WithJson<UndoArgs>) -> Result<Code, Failure> {
    let state = state_dir(args.credentials.state_dir.as_deref())?;
    let ledger = FolderLedger(LedgerFolder::open(&state)?);
    let mut record = ledger.0.load(&args.id)?;
    let mut targets = targets::reopen(&record, &args.credentials, &Given::default())?;
    let staged = Staged::Remove;
    match recover(&mut record, &mut targets, &ledger, staged, args.force).await? {
        Recovered::Nothing | Recovered::Kept => {}
        done @ (Recovered::Discarded | Recovered::Reverted) => {
            return told(&record, json, &leftovers::describe(&args.id, done));
        }
        done @ (Recovered::Finished | Recovered::StillLive | Recovered::Forgotten) => {
            say(leftovers::describe(&args.id, done))
        }
    }
    let newer = newer(&record, &state)?;
    undo(
        &mut record,
        &mut targets,
        &ledger,
        args.force,
        newer.as_deref(),
    )
    .await?;
    let what = format!(
        "the restore {} is undone: everything is as it was before",
        args.id
    );
    told(&record, json, &what)
}

/// Says what became of a restore: in words, or by its record.
fn told(record: &RestoreRecord, json: bool, what: &str) -> Result<Code, Failure> {
    match json {
        true => output::print_json(record)?,
        false => output::print(&format!("{what}\n"))?,
    }
    Ok(Code::Complete)
}

/// Drops what an undo would need.
pub(crate) async fn run_forget(
    WithJson { args, json }: WithJson<ForgetArgs>,
) -> Result<Code, Failure> {
    let state = state_dir(args.credentials.state_dir.as_deref())?;
    let ledger = FolderLedger(LedgerFolder::open(&state)?);
    let mut record = ledger.0.load(&args.id)?;
    let newer = newer(&record, &state)?;
    let was_staging = record.phase == RestorePhase::Staging;
    let forgotten = async {
        let mut targets = targets::reopen(&record, &args.credentials, &Given::default())?;
        forget(
            &mut record,
            &mut targets,
            &ledger,
            args.force,
            newer.as_deref(),
        )
        .await
    }
    .await;
    match forgotten {
        // It has touched nothing live, and what it was to load into may be gone for good.
        Err(failure) if was_staging && args.force => {
            say(format!(
                "warning: {failure}; what was staged, if anything, is left where it is: {}",
                places::staged(&record).join(", ")
            ));
            record.phase = RestorePhase::Discarded;
            record.updated_at = chrono::Utc::now();
            ledger.save(&record)?;
        }
        outcome => outcome?,
    }
    let what = match was_staging {
        true => format!("the restore {} is given up", args.id),
        false => format!("the former state before the restore {} is dropped", args.id),
    };
    told(&record, json, &what)
}

/// A later restore of the same place, if there is one.
fn newer(record: &RestoreRecord, state: &Path) -> Result<Option<String>, Failure> {
    let all: Vec<RestoreRecord> = records(state)?.into_iter().flatten().collect();
    Ok(places::newer(record, &all).map(|newer| newer.restore_id.clone()))
}

/// Lists restores.
pub(crate) fn run_list(args: &RestoresArgs) -> Result<Code, Failure> {
    let state = state_dir(args.state_dir.as_deref())?;
    let mut code = Code::Complete;
    let mut found = Vec::new();
    for record in records(&state)? {
        match record {
            Ok(record) => found.push(record),
            Err(failure) => {
                exit::report(&failure);
                code = Code::LeftOut;
            }
        }
    }
    found.retain(|record| {
        args.all
            || !matches!(
                record.phase,
                RestorePhase::Reverted | RestorePhase::Discarded | RestorePhase::Forgotten
            )
    });
    if args.json {
        output::print_json(&found)?;
        return Ok(code);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|record| {
            let components: Vec<&str> = record.targets.iter().map(|t| t.component.name()).collect();
            vec![
                record.restore_id.clone(),
                record
                    .started_at
                    .format("%Y-%m-%d %H:%M:%S UTC")
                    .to_string(),
                components.join(","),
                describe(record.phase).to_owned(),
                record.bundle.clone(),
            ]
        })
        .collect();
    if rows.is_empty() {
        output::print("no restore is kept\n")?;
    } else {
        output::print(&output::table(
            &["restore", "began", "components", "state", "bundle"],
            &rows,
        ))?;
    }
    Ok(code)
}

/// The state folder, from the root: it goes into records that are read from another folder.
fn state_dir(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = unresolved_state_dir(named)?;
    std::path::absolute(&dir).map_err(|error| {
        let attempted = format!("find the state folder {}", dir.display());
        Failure::io(FailureKind::Usage, attempted, error)
    })
}

fn unresolved_state_dir(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(dir) = named {
        return Ok(dir.to_owned());
    }
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = var("XDG_STATE_HOME") {
        return Ok(PathBuf::from(dir).join("arkstream"));
    }
    if cfg!(windows)
        && let Some(dir) = var("LOCALAPPDATA")
    {
        return Ok(PathBuf::from(dir).join("arkstream"));
    }
    match var("HOME") {
        Some(home) => Ok(PathBuf::from(home).join(".local/state/arkstream")),
        None => Err(Failure::new(
            FailureKind::Usage,
            "find the state folder",
            "neither --state-dir nor HOME is set",
        )
        .help("name a folder with --state-dir")),
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4))
}

/// 16 digits and letters: usable in names of schemas, databases and files.
fn new_id() -> String {
    uuid::Uuid::new_v4()
        .simple()
        .to_string()
        .chars()
        .take(16)
        .collect()
}

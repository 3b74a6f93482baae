//! `arkstream backup`

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::json;

use arkstream_archiver::{Backup, BackupPlan, Outcome};
use arkstream_bundle::{
    Beginning, BundleFile, BundleWriter, Effort, Leftover, Opened, OutputPaths, Resumed, SpaceWait,
    unfinished_beside,
};
use arkstream_format::{ModelStatus, RunId};
use arkstream_pipeline::{Budget, Cancel, Event, Failure, FailureKind, Run, Stats};

use crate::{
    args::{BackupArgs, CompressionChoice, ProgressMode},
    commands::{
        base::{self, Base},
        report as page,
    },
    exit::Code,
    interrupt::{or_interrupted, watch_signals},
    logging::LogBuffer,
    memory, output, progress,
    say::say,
    settings::Settings,
    sources::{self, Stack},
    spreadsheet::{self, Spreadsheet},
    stats, units,
};

/// How long a lost server is waited for.
const RETRY_FOR: Duration = Duration::from_secs(300);

/// Runs a backup from its arguments, the environment and the configuration file.
pub(crate) async fn run(mut args: BackupArgs, log: LogBuffer) -> Result<Code, Failure> {
    let settings = Settings::read(args.sources.config.as_deref())?;
    settings.fill(&mut args.sources)?;
    args.out = args.out.or(settings.out.clone());
    args.memory = args.memory.or(settings.memory()?);
    args.compression = args.compression.or(settings.compression);
    args.retry_for = args.retry_for.or(settings.retry_for()?);
    args.wait_for_space = args.wait_for_space.or(settings.wait_for_space()?);
    args.xlsx |= settings.xlsx;
    args.temp = args.temp.or(settings.temp.clone());
    args.no_report |= settings.no_report;
    run_with(args, log).await
}

/// Runs a backup to its last line, by these arguments alone.
pub(crate) async fn run_with(args: BackupArgs, log: LogBuffer) -> Result<Code, Failure> {
    let jobs = sources::jobs(&args.sources);
    let budget = memory::budget(args.memory, jobs)?;

    let run_id = RunId(uuid::Uuid::new_v4().simple().to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %run_id, jobs, memory = budget,
        "backup"
    );
    let cancel = Cancel::default();
    watch_signals(&cancel);
    let mut base = Base::open(args.base.as_deref())?;
    let Stack {
        sources,
        describe,
        mut notes,
    } = or_interrupted(&cancel, sources::open(&args.sources, log)).await?;
    notes.append(&mut base.notes);
    for note in &notes {
        tracing::info!("{note}");
        if matches!(
            args.progress,
            ProgressMode::Auto | ProgressMode::Bar | ProgressMode::Plain
        ) {
            say(output::harmless(note));
        }
    }
    let mut backup = Backup::new(sources, run_id.clone(), env!("CARGO_PKG_VERSION"))
        .retry_for(args.retry_for.unwrap_or(RETRY_FOR));
    let plan = or_interrupted(&cancel, backup.plan()).await?;
    let path = bundle_path(&args, &plan)?;
    tracing::info!(bundle = %path.display(), "output");
    base.refuse_output(&path)?;
    if args.dry_run {
        return print_plan(&args, &plan, &notes, &path, &base);
    }

    let temp = args.temp.clone().unwrap_or_else(|| folder_of(&path));
    if args.xlsx {
        spreadsheet::check_temp(&temp)?;
    }

    let observer = progress::observer(args.progress);
    let wait = SpaceWait {
        limit: args.wait_for_space.unwrap_or_default(),
        cancel: cancel.clone(),
        observer: Arc::clone(&observer),
    };
    let begun_at = Utc::now();
    let opened = open_bundle(&args, &plan, run_id, &path, begun_at, wait, base.bundle)?;
    let Opened {
        writer,
        resumed,
        generations,
        bases,
    } = opened;
    let writer = Arc::new(writer.with_effort(effort(args.compression)));
    let mut run = Run::new(writer.clone(), observer, cancel, Budget::new(budget), jobs);
    run.begun_at = begun_at;
    run.generations = generations;
    run.bases = bases;
    if let Some(resumed) = &resumed {
        run.begun_at = resumed.begun_at;
        tell_resumed(&run, resumed);
    }
    if args.xlsx {
        backup = backup.afterwards(Spreadsheet {
            bundle: writer.clone(),
            temp,
        });
    }
    let outcome = backup
        .run(&run, writer, &plan, describe.as_ref())
        .await
        .map_err(|failure| with_leftover(failure, &path))?;
    let (stats, budget, jobs) = (Arc::clone(&run.stats), run.budget.clone(), run.jobs);
    // With it go the lists of the sink.
    drop(run);
    let page = match args.no_report {
        true => None,
        false => Some(page_beside(&outcome)),
    };
    let used = Used {
        stats,
        budget,
        jobs,
    };
    report(&args, &outcome, resumed.as_ref(), page, &used)
}

/// What the stages of the run did, and with how much.
struct Used {
    stats: Arc<Stats>,
    budget: Budget,
    jobs: usize,
}

/// Writes the page that says what is in the bundle. The bundle is published and good, whatever becomes
/// of its page; so a page that cannot be written is left out, like anything else that is: said, and told
/// by the exit code.
fn page_beside(outcome: &Outcome) -> Result<PathBuf, Failure> {
    let written = page::write_beside(&outcome.published);
    written.inspect_err(|failure| {
        say(output::harmless(&format!(
            "left out: the report: {failure}\n  help: the bundle is published and good; `arkstream report` \
             writes the page"
        )));
    })
}

fn effort(choice: Option<CompressionChoice>) -> Effort {
    match choice {
        None => Effort::default(),
        Some(CompressionChoice::Fast) => Effort::Fast,
        Some(CompressionChoice::Balanced) => Effort::Balanced,
        Some(CompressionChoice::Small) => Effort::Small,
        Some(CompressionChoice::None) => Effort::None,
    }
}

/// The bundle: the one that is named; in a folder, what an interrupted run left of the same plan, or
/// a new one.
fn bundle_path(args: &BackupArgs, plan: &BackupPlan) -> Result<PathBuf, Failure> {
    let path = output::bundle_path(args.out.as_deref(), chrono::Local::now());
    if args.fresh || args.out.as_deref() == Some(path.as_path()) {
        return Ok(path);
    }
    let identity = plan.identity();
    let unfinished = unfinished_beside(&path, output::NAME_PREFIX, &identity);
    let unfinished = unfinished.map_err(|error| {
        Failure::io(
            FailureKind::Refused,
            format!("look for unfinished bundles beside {}", path.display()),
            error,
        )
    })?;
    Ok(unfinished.unwrap_or(path))
}

fn open_bundle(
    args: &BackupArgs,
    plan: &BackupPlan,
    run_id: RunId,
    path: &Path,
    begun_at: DateTime<Utc>,
    wait: SpaceWait,
    base: Option<BundleFile>,
) -> Result<Opened, Failure> {
    let leftover = if args.fresh {
        Leftover::Discard
    } else {
        Leftover::Continue {
            recheck: args.recheck,
            insist: args.resume,
        }
    };
    let paths = OutputPaths::new(path);
    let beginning = Beginning {
        run_id,
        plan: plan.identity(),
        at: begun_at,
    };
    BundleWriter::open_upon(paths, beginning, leftover, wait, base)
}

fn tell_resumed(run: &Run, resumed: &Resumed) {
    let mut text = format!(
        "continuing the bundle begun {}: {} members, {}, are kept as far as they are proven unchanged",
        resumed.begun_at.format("%Y-%m-%d %H:%M UTC"),
        resumed.members,
        units::size(resumed.bytes)
    );
    if let Some((name, bytes)) = &resumed.torn {
        let _ = write!(text, "; {name} was torn after {}", units::size(*bytes));
    }
    if resumed.cut_off > 0 {
        let _ = write!(text, "; {} are cut off", units::size(resumed.cut_off));
    }
    run.tell(Event::Resumed(text));
    for damaged in &resumed.damaged {
        run.tell(Event::Warning(format!("{damaged}; it is made again")));
    }
}

/// After a failure the unfinished bundle stays; whoever reads the message must know.
fn with_leftover(failure: Failure, path: &std::path::Path) -> Failure {
    let kept = format!(
        "nothing stands under {}; {0}.partial and its journal are kept: run the same command again to \
         continue, or with --fresh to start over",
        path.display()
    );
    let help = match failure.advice() {
        Some(advice) => format!("{advice}\n        {kept}"),
        None => kept,
    };
    failure.help(help)
}

fn print_plan(
    args: &BackupArgs,
    plan: &BackupPlan,
    notes: &[String],
    path: &std::path::Path,
    base: &Base,
) -> Result<Code, Failure> {
    if args.json {
        let components: Vec<_> = plan
            .components
            .iter()
            .map(|planned| {
                let items: Vec<_> = planned
                    .plan
                    .items
                    .iter()
                    .map(|item| json!({"name": item.name, "bytes": item.bytes}))
                    .collect();
                json!({
                    "component": planned.component,
                    "bytes": planned.plan.bytes(),
                    "items": items,
                    "notes": planned.plan.notes,
                })
            })
            .collect();
        output::print_json(&json!({
            "bundle": path, "plan": components, "notes": notes, "fingerprint": plan.fingerprint(),
            "base": base.json(),
        }))?;
        return Ok(Code::Complete);
    }
    let what = match OutputPaths::new(path).partial.exists() && !args.fresh {
        true => "continue",
        false => "write",
    };
    let mut text = format!("would {what} {}\n\n", path.display());
    let rows: Vec<Vec<String>> = plan
        .components
        .iter()
        .map(|planned| {
            vec![
                planned.component.to_string(),
                planned.plan.items.len().to_string(),
                units::size(planned.plan.bytes()),
            ]
        })
        .collect();
    text.push_str(&output::table(&["component", ">items", ">about"], &rows));
    for planned in &plan.components {
        let _ = writeln!(text, "\n{}:", planned.component);
        for item in planned.plan.items.iter().take(200) {
            let _ = writeln!(text, "  {:>10}  {}", units::size(item.bytes), item.name);
        }
        if planned.plan.items.len() > 200 {
            let _ = writeln!(text, "  … and {} more", planned.plan.items.len() - 200);
        }
        for note in &planned.plan.notes {
            let _ = writeln!(text, "  note: {note}");
        }
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    text.push_str("\nnothing was changed\n");
    output::print(&text)?;
    Ok(Code::Complete)
}

fn report(
    args: &BackupArgs,
    outcome: &Outcome,
    resumed: Option<&Resumed>,
    page: Option<Result<PathBuf, Failure>>,
    used: &Used,
) -> Result<Code, Failure> {
    let manifest = &outcome.published.manifest;
    let rows: u64 = manifest.components.values().map(|sum| sum.rows).sum();
    let models = outcome
        .models
        .iter()
        .filter(|m| matches!(m.status, ModelStatus::Exported | ModelStatus::Empty))
        .count();
    if args.json {
        let redone: Vec<_> = outcome.redone.iter().map(|((component, reason), members)| {
            json!({"component": component, "reason": reason, "members": members})
        }).collect();
        output::print_json(&json!({
            "bundle": outcome.published.path,
            "bytes": outcome.published.bytes,
            "sha256": outcome.published.sha256,
            "rows": rows,
            "models": models,
            "components": manifest.components,
            "omissions": outcome.omissions,
            "duration_seconds": outcome.elapsed.as_secs_f64(),
            "barrier_skew_ms": outcome.generation.barrier_skew_ms,
            "chroma_hold_ms": outcome.generation.chroma_hold_ms,
            "resumed": resumed.map(|resumed| json!({
                "generation": outcome.generation.number,
                "begun_at": resumed.begun_at,
                "found_members": resumed.members,
                "found_bytes": resumed.bytes,
                "kept_members": outcome.published.kept.members,
                "kept_bytes": outcome.published.kept.bytes,
                "damaged": resumed.damaged,
                "redone": redone,
            })),
            "bases": manifest.bases,
            "redone": redone,
            "report": page.as_ref().and_then(|page| page.as_ref().ok()),
            "report_error": page.as_ref().and_then(|page| page.as_ref().err()).map(Failure::to_string),
            "peak_memory_bytes": memory::peak(),
            "stats": args.stats.then(|| stats::json(&used.stats, &used.budget, used.jobs)),
        }))?;
    } else {
        let mut text = format!(
            "{}\n{} from {} models and {} tables, {} rows, in {}\n",
            outcome.published.path.display(),
            units::size(outcome.published.bytes),
            models,
            manifest.tables.len(),
            rows,
            units::duration(outcome.elapsed)
        );
        if let Some(resumed) = resumed {
            let kept = outcome.published.kept;
            let _ = writeln!(
                text,
                "continued as generation {}: {} of {} members and {} of {} kept",
                outcome.generation.number,
                kept.members,
                resumed.members,
                units::size(kept.bytes),
                units::size(resumed.bytes),
            );
        }
        text.push_str(&base::copied(manifest));
        for ((component, reason), members) in &outcome.redone {
            let _ = writeln!(text, "  made again: {members} of {component}: {reason}");
        }
        if !outcome.omissions.is_empty() {
            let _ = writeln!(text, "left out ({}):", outcome.omissions.len());
            for omission in outcome.omissions.iter().take(50) {
                let _ = writeln!(
                    text,
                    "  {}: {}: {}",
                    omission.component, omission.what, omission.reason
                );
            }
        }
        if let Some(Ok(page)) = &page {
            let _ = writeln!(text, "report: {}", page.display());
        }
        if args.stats {
            let table = stats::table(&used.stats, outcome.elapsed, &used.budget, used.jobs);
            let _ = write!(text, "\n{table}");
        }
        output::print(&text)?;
    }
    let no_page = matches!(page, Some(Err(_)));
    Ok(if outcome.omissions.is_empty() && !no_page {
        Code::Complete
    } else {
        Code::LeftOut
    })
}

/// The default name needs a folder that exists.
pub(crate) fn output_folder(out: Option<&std::path::Path>) -> PathBuf {
    folder_of(&output::bundle_path(out, chrono::Local::now()))
}

/// The folder that a file stands in.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

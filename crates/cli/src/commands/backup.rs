//! `arkstream backup`

use std::{fmt::Write as _, path::PathBuf, sync::Arc};

use serde_json::json;

use arkstream_archiver::{Backup, BackupPlan, Outcome};
use arkstream_bundle::{BundleWriter, Leftover, OutputPaths};
use arkstream_format::{ModelStatus, RunId};
use arkstream_pipeline::{Budget, Cancel, Failure, Run};

use crate::{
    args::{BackupArgs, ProgressMode},
    exit::Code,
    interrupt::{or_interrupted, watch_signals},
    logging::LogBuffer,
    memory, output, progress,
    say::say,
    settings::Settings,
    sources::{self, Stack},
    units,
};

/// Runs a backup from its arguments, the environment and the configuration file.
pub(crate) async fn run(mut args: BackupArgs, log: LogBuffer) -> Result<Code, Failure> {
    let settings = Settings::read(args.sources.config.as_deref())?;
    settings.fill(&mut args.sources)?;
    args.out = args.out.or(settings.out.clone());
    args.memory = args.memory.or(settings.memory()?);
    run_with(args, log).await
}

/// Runs a backup to its last line, by these arguments alone.
pub(crate) async fn run_with(args: BackupArgs, log: LogBuffer) -> Result<Code, Failure> {
    let jobs = sources::jobs(&args.sources);
    let budget = memory::budget(args.memory, jobs)?;
    let path = output::bundle_path(args.out.as_deref(), chrono::Local::now());

    let run_id = RunId(uuid::Uuid::new_v4().simple().to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), %run_id, jobs, memory = budget, bundle = %path.display(),
        "backup"
    );
    let cancel = Cancel::default();
    watch_signals(&cancel);
    let Stack {
        sources,
        describe,
        notes,
    } = or_interrupted(&cancel, sources::open(&args.sources, log)).await?;
    for note in &notes {
        tracing::info!("{note}");
        if matches!(
            args.progress,
            ProgressMode::Auto | ProgressMode::Bar | ProgressMode::Plain
        ) {
            say(output::harmless(note));
        }
    }
    let mut backup = Backup::new(sources, run_id.clone(), env!("CARGO_PKG_VERSION"));
    let plan = or_interrupted(&cancel, backup.plan()).await?;
    if args.dry_run {
        return print_plan(&args, &plan, &notes, &path);
    }

    let leftover = if args.fresh {
        Leftover::Discard
    } else {
        Leftover::Refuse
    };
    let writer = BundleWriter::create(
        OutputPaths::new(&path),
        run_id,
        plan.fingerprint(),
        leftover,
    )?;
    let writer = Arc::new(writer);
    let observer = progress::observer(args.progress);
    let run = Run::new(writer.clone(), observer, cancel, Budget::new(budget), jobs);
    let outcome = backup
        .run(&run, writer, &plan, describe.as_ref())
        .await
        .map_err(|failure| with_leftover(failure, &path))?;
    report(&args, &outcome)
}

/// After a failure the unfinished bundle stays; whoever reads the message must know.
fn with_leftover(failure: Failure, path: &std::path::Path) -> Failure {
    let kept = format!(
        "nothing stands under {}; the unfinished {0}.partial and its journal are kept, --fresh starts over",
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
        }))?;
        return Ok(Code::Complete);
    }
    let mut text = format!("would write {}\n\n", path.display());
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

fn report(args: &BackupArgs, outcome: &Outcome) -> Result<Code, Failure> {
    let manifest = &outcome.published.manifest;
    let rows: u64 = manifest.components.values().map(|sum| sum.rows).sum();
    let models = outcome
        .models
        .iter()
        .filter(|m| matches!(m.status, ModelStatus::Exported | ModelStatus::Empty))
        .count();
    if args.json {
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
            "peak_memory_bytes": memory::peak(),
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
        output::print(&text)?;
    }
    Ok(if outcome.omissions.is_empty() {
        Code::Complete
    } else {
        Code::LeftOut
    })
}

/// The default name needs a folder that exists.
pub(crate) fn output_folder(out: Option<&std::path::Path>) -> PathBuf {
    let path = output::bundle_path(out, chrono::Local::now());
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

//! `arkstream copy`

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use arkstream_bundle::{BundleFile, Copied, CopyOrder, bundles_in, copy_bundle};
use arkstream_pipeline::{Cancel, Event, Failure, FailureKind, Observer, Silent};

use crate::{
    args::CopyArgs,
    exit::{self, Code},
    interrupt::watch_signals,
    memory, output, progress, units,
};

/// One copy and how it ended.
struct Done {
    source: PathBuf,
    to: PathBuf,
    outcome: Result<Copied, Failure>,
    elapsed: Duration,
}

pub(crate) async fn run(args: CopyArgs) -> Result<Code, Failure> {
    let cancel = Cancel::default();
    watch_signals(&cancel);
    tokio::task::spawn_blocking(move || copy_all(&args, &cancel))
        .await
        .map_err(|error| Failure::new(FailureKind::Internal, "copy", error))?
}

fn copy_all(args: &CopyArgs, cancel: &Cancel) -> Result<Code, Failure> {
    let start = Instant::now();
    let observer = progress::observer(args.progress);
    let have = had(&args.have, observer.as_ref())?;
    if !args.source.is_dir() {
        let to = target(&args.source, &args.to);
        let done = copy_one(args, &have, &args.source, &to, &observer, cancel);
        let copied = done.outcome.as_ref().map_err(Failure::clone)?;
        match args.json {
            true => output::print_json(&with_totals(copied_json(&done, copied), start))?,
            false => output::print(&describe(&done, copied))?,
        }
        return Ok(Code::Complete);
    }
    if !args.to.is_dir() {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("copy the bundles of {}", args.source.display()),
            format!("{} is no folder", args.to.display()),
        )
        .help("name a folder that exists; none is created"));
    }
    let sources = bundles_in(&args.source)?;
    if sources.is_empty() {
        return Err(Failure::new(
            FailureKind::Refused,
            format!("copy the bundles of {}", args.source.display()),
            "no file in it is called *.zip",
        )
        .help("name the folder that the bundles are in; folders below it are not looked into"));
    }
    let mut all = Vec::new();
    for source in sources {
        let to = target(&source, &args.to);
        // What was just copied may be among them.
        let have = had(&args.have, &Silent)?;
        let done = copy_one(args, &have, &source, &to, &observer, cancel);
        let end = match &done.outcome {
            Ok(copied) => {
                if !args.json {
                    output::print(&describe(&done, copied))?;
                }
                false
            }
            Err(failure) => {
                exit::report(failure);
                // The next one would fare no better.
                matches!(
                    failure.kind,
                    FailureKind::Interrupted | FailureKind::NoSpace
                )
            }
        };
        all.push(done);
        if end {
            break;
        }
    }
    conclude(args, &all, start)
}

/// The sums of a folder, and the exit code: that of the first bundle that failed.
fn conclude(args: &CopyArgs, all: &[Done], start: Instant) -> Result<Code, Failure> {
    let copies = || {
        all.iter()
            .filter_map(|done| Some((done, done.outcome.as_ref().ok()?)))
    };
    let sum = |of: fn(&Copied) -> u64| copies().map(|(_, copied)| of(copied)).sum::<u64>();
    let failures = || {
        all.iter()
            .filter_map(|done| Some((done, done.outcome.as_ref().err()?)))
    };
    if args.json {
        let object = json!({
            "copies": copies().map(|(done, copied)| copied_json(done, copied)).collect::<Vec<_>>(),
            "failed": failures().map(|(done, failure)| json!({
                "source": done.source,
                "copy": done.to,
                "error": failure.to_string(),
                "help": failure.advice(),
                "exit_code": Code::of(failure) as u8,
            })).collect::<Vec<_>>(),
            "bytes": sum(|copied| copied.bytes),
            "transferred_bytes": sum(|copied| copied.transferred),
            "reused_bytes": sum(|copied| copied.reused),
            "kept_bytes": sum(|copied| copied.kept),
        });
        output::print_json(&with_totals(object, start))?;
    } else {
        let mut text = format!(
            "{} bundles, {}, {} of it transferred, in {}\n",
            copies().count(),
            units::size(sum(|copied| copied.bytes)),
            units::size(sum(|copied| copied.transferred)),
            units::duration(start.elapsed())
        );
        if failures().next().is_some() {
            let _ = writeln!(text, "not copied ({}):", failures().count());
            for (done, failure) in failures() {
                let _ = writeln!(text, "  {}: {}", done.source.display(), failure.why());
            }
        }
        output::print(&text)?;
    }
    let first = failures().next().map(|(_, failure)| Code::of(failure));
    Ok(first.unwrap_or(Code::Complete))
}

/// The files that are named, and the bundles of folders that are.
fn had(named: &[PathBuf], observer: &dyn Observer) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        for path in bundles_in(path)? {
            match BundleFile::open(&path) {
                Ok(_) => files.push(path),
                Err(failure) => observer.event(&Event::Note(format!(
                    "{} is not used: {}",
                    path.display(),
                    failure.why()
                ))),
            }
        }
    }
    Ok(files)
}

fn copy_one(
    args: &CopyArgs,
    have: &[PathBuf],
    source: &Path,
    to: &Path,
    observer: &Arc<dyn Observer>,
    cancel: &Cancel,
) -> Done {
    let start = Instant::now();
    let order = CopyOrder {
        source,
        to,
        have,
        replace: args.replace,
        read_back: args.verify,
    };
    Done {
        source: source.to_owned(),
        to: to.to_owned(),
        outcome: copy_bundle(&order, observer.as_ref(), cancel),
        elapsed: start.elapsed(),
    }
}

/// The copy's name: as it was given, or the source's in a folder.
fn target(source: &Path, to: &Path) -> PathBuf {
    let folder = to.is_dir() || to.as_os_str().to_string_lossy().ends_with('/');
    match source.file_name() {
        Some(name) if folder => to.join(name),
        _ => to.to_owned(),
    }
}

fn describe(done: &Done, copied: &Copied) -> String {
    let mut text = format!("{}\n{}", done.to.display(), units::size(copied.bytes));
    if copied.already_there {
        text.push_str(" were there already, every byte proven");
    } else {
        let _ = write!(text, ": {} transferred", units::size(copied.transferred));
        for (bytes, what) in [
            (copied.reused, "from what was there"),
            (copied.kept, "kept of the unfinished copy"),
        ] {
            if bytes > 0 {
                let _ = write!(text, ", {} {what}", units::size(bytes));
            }
        }
        if copied.read_back {
            text.push_str("; read back");
        }
        if copied.mended > 0 {
            let _ = write!(text, ", {} made good", units::size(copied.mended));
        }
    }
    let _ = writeln!(text, "; in {}", units::duration(done.elapsed));
    text
}

fn copied_json(done: &Done, copied: &Copied) -> Value {
    json!({
        "source": done.source,
        "copy": done.to,
        "bytes": copied.bytes,
        "transferred_bytes": copied.transferred,
        "reused_bytes": copied.reused,
        "kept_bytes": copied.kept,
        "mended_bytes": copied.mended,
        "read_back": copied.read_back,
        "already_there": copied.already_there,
        "replaced": copied.replaced,
        "sha256": copied.sha256,
        "duration_seconds": done.elapsed.as_secs_f64(),
    })
}

fn with_totals(mut object: Value, start: Instant) -> Value {
    object["duration_seconds"] = json!(start.elapsed().as_secs_f64());
    object["peak_memory_bytes"] = json!(memory::peak());
    object
}

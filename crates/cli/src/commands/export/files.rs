//! `arkstream export csv|jsonl|parquet`: a file a table, in a folder that appears as a whole.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
    time::Instant,
};

use serde_json::json;

use arkstream_bundle::{BundleFile, UnfinishedFolder};
use arkstream_format::{Component, PartEntry, TableEntry};
use arkstream_pipeline::{BundleReader, Cancel, Event, Failure, FailureKind, fault};
use arkstream_query::{Format, Rows, file_name, lost_parts, stored_bytes};

use super::chosen::{Chosen, choose};
use crate::{args::ExportArgs, exit::Code, memory, output, progress, units};

/// Most lost parts that are printed; `--json` has all.
const SHOWN: usize = 50;

/// One file.
struct Done {
    name: String,
    table: String,
    model: Option<String>,
    rows: u64,
    bytes: u64,
}

/// What a salvaged bundle does not hold of a table.
struct Omitted {
    table: String,
    member: String,
    rows: u64,
}

pub(super) fn run(args: &ExportArgs, format: Format, cancel: &Cancel) -> Result<Code, Failure> {
    let start = Instant::now();
    let bundle: Arc<dyn BundleReader> = Arc::new(BundleFile::open(&args.bundle)?);
    let chosen = choose(bundle.manifest(), &args.models)?;
    let folder = UnfinishedFolder::begin(&args.dir)?;
    let observer = progress::observer(args.progress);
    let component = Component::Models;
    observer.event(&Event::Planned {
        component,
        bytes: chosen
            .iter()
            .map(|chosen| stored_bytes(bundle.as_ref(), chosen.table))
            .sum(),
        items: chosen.len() as u64,
    });
    observer.event(&Event::Started { component });
    let (mut done, mut omitted) = (Vec::new(), Vec::new());
    for chosen in &chosen {
        omitted.extend(lost(&bundle, chosen.table));
        let written = write(&bundle, chosen, format, &folder, cancel)?;
        let Some(written) = written else { continue };
        observer.event(&Event::Read {
            component,
            bytes: stored_bytes(bundle.as_ref(), chosen.table),
        });
        done.push(written);
    }
    folder.publish()?;
    observer.event(&Event::Finished { component });
    report(args, &bundle, &done, &omitted, start)?;
    Ok(match omitted.is_empty() {
        true => Code::Complete,
        false => Code::LeftOut,
    })
}

fn lost(bundle: &Arc<dyn BundleReader>, table: &TableEntry) -> Vec<Omitted> {
    let omitted = |part: &PartEntry| Omitted {
        table: table.table.clone(),
        member: part.member.clone(),
        rows: part.rows,
    };
    lost_parts(bundle.as_ref(), table)
        .into_iter()
        .map(omitted)
        .collect()
}

/// Writes one table; `None` where the bundle has lost all of it.
fn write(
    bundle: &Arc<dyn BundleReader>,
    chosen: &Chosen<'_>,
    format: Format,
    folder: &UnfinishedFolder,
    cancel: &Cancel,
) -> Result<Option<Done>, Failure> {
    let table = chosen.table;
    if lost_parts(bundle.as_ref(), table).len() == table.parts.len() && !table.parts.is_empty() {
        return Ok(None);
    }
    let rows = Rows::open_remaining(Arc::clone(bundle), table)?;
    let name = format!("{}.{}", file_name(&chosen.name), format.extension());
    let file = folder.create(&name)?;
    let mut out = Counted {
        out: BufWriter::with_capacity(256 << 10, &file),
        bytes: 0,
    };
    let mut count = 0;
    let mut writer = format.begin(&mut out, &rows.schema())?;
    for batch in rows {
        cancel.check()?;
        fault::check("export.batch")?;
        let batch = batch?;
        count += batch.num_rows() as u64;
        writer
            .write(&batch)
            .map_err(|failure| of(failure, &place(folder, &name)))?;
    }
    writer
        .finish()
        .map_err(|failure| of(failure, &place(folder, &name)))?;
    let bytes = out.bytes;
    drop(out);
    file.sync_all().map_err(|error| {
        let attempted = format!("write {}", place(folder, &name));
        Failure::io(FailureKind::Refused, attempted, error)
    })?;
    Ok(Some(Done {
        name,
        table: table.table.clone(),
        model: table.model.clone(),
        rows: count,
        bytes,
    }))
}

fn place(folder: &UnfinishedFolder, name: &str) -> String {
    folder.target().join(name).display().to_string()
}

/// Says of which file a failure is.
fn of(failure: Failure, place: &str) -> Failure {
    failure.and(format!("it was to go to {place}"))
}

struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn report(
    args: &ExportArgs,
    bundle: &Arc<dyn BundleReader>,
    done: &[Done],
    omitted: &[Omitted],
    start: Instant,
) -> Result<(), Failure> {
    let rows: u64 = done.iter().map(|done| done.rows).sum();
    let bytes: u64 = done.iter().map(|done| done.bytes).sum();
    let before = of_the_backup(bundle);
    if args.json {
        return output::print_json(&json!({
            "folder": args.dir,
            "files": done.iter().map(|done| json!({
                "file": done.name,
                "table": done.table,
                "model": done.model,
                "rows": done.rows,
                "bytes": done.bytes,
            })).collect::<Vec<_>>(),
            "rows": rows,
            "bytes": bytes,
            "omissions": omitted.iter().map(|omitted| json!({
                "table": omitted.table,
                "member": omitted.member,
                "rows": omitted.rows,
            })).collect::<Vec<_>>(),
            "omissions_of_the_backup": before,
            "duration_seconds": start.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak(),
        }));
    }
    let mut text = format!(
        "{}\n{} files, {rows} rows, {} in {}\n",
        args.dir.display(),
        done.len(),
        units::size(bytes),
        units::duration(start.elapsed())
    );
    if before > 0 {
        let _ = writeln!(
            text,
            "the backup itself left out {before}: {}",
            shower(&args.bundle)
        );
    }
    if !omitted.is_empty() {
        let _ = writeln!(
            text,
            "left out ({}), lost before the bundle was salvaged:",
            omitted.len()
        );
        for omitted in omitted.iter().take(SHOWN) {
            let _ = writeln!(
                text,
                "  {}: {} rows of {}",
                omitted.table, omitted.rows, omitted.member
            );
        }
        if omitted.len() > SHOWN {
            let _ = writeln!(
                text,
                "  … and {} more (--json has all)",
                omitted.len() - SHOWN
            );
        }
    }
    output::print(&text)
}

fn shower(bundle: &Path) -> String {
    format!("`arkstream show {}` lists it", bundle.display())
}

/// How much of the rows the backup left out.
fn of_the_backup(bundle: &Arc<dyn BundleReader>) -> usize {
    let omissions = bundle.manifest().omissions.iter();
    omissions
        .filter(|omission| omission.component == Component::Models)
        .count()
}

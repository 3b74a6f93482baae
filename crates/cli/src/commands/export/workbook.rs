//! `arkstream export xlsx`: the workbook, and beside it the folder of the texts that do not fit into cells.
//!
//! The folder is named first and the workbook last, so a workbook never stands without its texts. A run that
//! was killed between the two left the folder and the unfinished workbook; the next one removes both.

use std::{
    fmt::Write as _,
    fs,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde_json::json;

use arkstream_bundle::{BundleFile, UnfinishedFile, UnfinishedFolder, remove_folder};
use arkstream_format::{ModelEntry, member_names};
use arkstream_pipeline::{BundleReader, Cancel, Failure, FailureKind};
use arkstream_xlsx::{LargeFields, Order, Report, SheetOrder, all_sheets};

use super::chosen::choose;
use crate::{
    args::XlsxArgs,
    commands::{backup::folder_of, inspect::read_member},
    exit::Code,
    memory, output, progress, spreadsheet, units,
};

pub(super) fn run(args: &XlsxArgs, cancel: &Cancel) -> Result<Code, Failure> {
    let start = Instant::now();
    let budget = memory::budget(args.memory, 1)?;
    let file = BundleFile::open(&args.bundle)?;
    let models = models(&file)?;
    let bundle: Arc<dyn BundleReader> = Arc::new(file);
    let sheets = sheets(bundle.as_ref(), &args.models)?;
    let mut large = Beside::new(&args.out)?;
    let out = UnfinishedFile::begin(&args.out)?;
    large.tidy(&out)?;
    let generation = spreadsheet::last_generation(bundle.manifest())?;
    let order = Order {
        sheets,
        bundle: bundle.clone(),
        models: &models,
        memory: budget / 2,
        temp: args.temp.clone().unwrap_or_else(|| folder_of(&args.out)),
        max_rows: args.sheet_rows,
        taken_at: generation.taken_at,
        facts: spreadsheet::facts(&args.bundle.display().to_string(), generation),
        observer: progress::observer(args.progress),
        cancel: cancel.clone(),
    };
    let mut buffered = BufWriter::with_capacity(1 << 20, out.file());
    let report = arkstream_xlsx::write(&order, &mut large, &mut buffered)?;
    buffered.flush().map_err(|error| {
        let attempted = format!("write {}", args.out.display());
        Failure::io(FailureKind::Refused, attempted, error)
    })?;
    drop(buffered);
    cancel.check()?;
    large.publish()?;
    if let Err(failure) = out.publish() {
        large.take_back();
        return Err(failure);
    }
    tell(args, &large, &report, start)?;
    Ok(match report.missing {
        0 => Code::Complete,
        _ => Code::LeftOut,
    })
}

/// What the bundle says of its models.
fn models(bundle: &BundleFile) -> Result<Vec<ModelEntry>, Failure> {
    if bundle.member(member_names::MODEL_LIST).is_none() {
        // A salvaged bundle may have lost it; then there are no one2many and many2many columns.
        return Ok(Vec::new());
    }
    let json = read_member(bundle, member_names::MODEL_LIST)?;
    serde_json::from_slice(&json).map_err(|error| {
        let attempted = format!("read {}", member_names::MODEL_LIST);
        Failure::new(FailureKind::Damaged, attempted, error)
    })
}

fn sheets<'a>(
    bundle: &'a dyn BundleReader,
    patterns: &[String],
) -> Result<Vec<SheetOrder<'a>>, Failure> {
    if patterns.is_empty() {
        return Ok(all_sheets(bundle));
    }
    let chosen = choose(bundle.manifest(), patterns)?.into_iter();
    Ok(chosen
        .map(|chosen| SheetOrder {
            table: chosen.table,
            name: chosen.name,
        })
        .collect())
}

/// The folder beside the workbook. It is begun with the first text.
struct Beside {
    path: PathBuf,
    folder: Option<UnfinishedFolder>,
    existed: bool,
    published: bool,
}

impl Beside {
    fn new(out: &Path) -> Result<Self, Failure> {
        let mut path = match out.extension() {
            Some(end) if end.eq_ignore_ascii_case("xlsx") => out.with_extension(""),
            _ => out.to_owned(),
        }
        .into_os_string();
        path.push(".files");
        let path = PathBuf::from(path);
        let existed = path.try_exists().map_err(|error| {
            let attempted = format!("look for {}", path.display());
            Failure::io(FailureKind::Refused, attempted, error)
        })?;
        let mut partial = out.as_os_str().to_owned();
        partial.push(".partial");
        if existed && !Path::new(&partial).exists() {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("write {}", path.display()),
                "it exists already",
            )
            .help("choose another name for the workbook, or remove the folder yourself"));
        }
        Ok(Self {
            path,
            folder: None,
            existed,
            published: false,
        })
    }

    /// Removes what a killed run left: the unfinished folder, or the one that it had named before it could
    /// name its workbook.
    fn tidy(&self, out: &UnfinishedFile) -> Result<(), Failure> {
        if !self.existed {
            return UnfinishedFolder::tidy(&self.path);
        }
        let ours = out.was_left_behind()
            && fs::read_dir(&self.path).is_ok_and(|entries| {
                entries
                    .flatten()
                    .all(|entry| entry.file_name() == "odoo_data")
            });
        if !ours {
            return Err(Failure::new(
                FailureKind::Refused,
                format!("write {}", self.path.display()),
                "it exists already, and holds other things than an export wrote",
            )
            .help("choose another name for the workbook, or remove the folder yourself"));
        }
        remove_folder(&self.path)
    }

    /// Removes the folder whose workbook got no name. If that fails too, the next run refuses and says why.
    fn take_back(&self) {
        if self.published {
            let _ = remove_folder(&self.path);
        }
    }

    fn publish(&mut self) -> Result<(), Failure> {
        if let Some(folder) = self.folder.take() {
            folder.publish()?;
            self.published = true;
        }
        Ok(())
    }
}

impl LargeFields for Beside {
    fn put(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let folder = match &mut self.folder {
            Some(folder) => folder,
            none => none.insert(UnfinishedFolder::begin(&self.path)?),
        };
        let mut file = folder.create(name)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| {
                let attempted = format!("write {}", self.path.join(name).display());
                Failure::io(FailureKind::Refused, attempted, error)
            })
    }
}

fn tell(args: &XlsxArgs, large: &Beside, report: &Report, start: Instant) -> Result<(), Failure> {
    let bytes = fs::metadata(&args.out).map_or(0, |found| found.len());
    if args.json {
        return output::print_json(&json!({
            "workbook": args.out,
            "folder": large.published.then_some(&large.path),
            "bytes": bytes,
            "sheets": report.sheets,
            "rows": report.rows,
            "lines": report.lines,
            "large_fields": report.large_fields,
            "binaries_left_out": report.binaries,
            "left_out": report.missing,
            "temporary_files": report.temporary_files,
            "temporary_bytes": report.temporary_bytes,
            "duration_seconds": start.elapsed().as_secs_f64(),
            "peak_memory_bytes": memory::peak(),
        }));
    }
    let mut text = format!(
        "{}\n{} in {}; {}\n",
        args.out.display(),
        units::size(bytes),
        units::duration(start.elapsed()),
        spreadsheet::describe(report)
    );
    if large.published {
        let _ = writeln!(text, "{} holds the long texts", large.path.display());
    }
    if report.binaries > 0 {
        let _ = writeln!(
            text,
            "{} binaries are too long for a cell, and in the bundle only",
            report.binaries
        );
    }
    if report.missing > 0 {
        let _ = writeln!(
            text,
            "left out ({}): rows, names or fields; the sheet \"About\" lists them",
            report.missing
        );
    }
    output::print(&text)
}

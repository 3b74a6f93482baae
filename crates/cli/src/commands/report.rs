//! `arkstream report`, and the page beside each new bundle.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use arkstream_bundle::{BundleFile, durable, read_back};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, Published};
use arkstream_report::{Facts, PROLOGUE, is_report, render};

use crate::{args::ReportArgs, exit::Code, output};

/// `arkstream report`
pub(crate) fn run(args: &ReportArgs) -> Result<Code, Failure> {
    let (path, bundle) = (&args.bundle, BundleFile::open(&args.bundle)?);
    let page = page_of(path, &bundle, checksum_beside(path))?;
    let out = match args.out.as_deref() {
        Some(out) if out == Path::new("-") => {
            output::print(&page)?;
            return Ok(Code::Complete);
        }
        Some(out) => out.to_owned(),
        None => beside(&args.bundle),
    };
    write(&out, &page)?;
    output::print(&format!("{}\n", out.display()))?;
    Ok(Code::Complete)
}

/// Writes the page of a new bundle beside it.
///
/// # Errors
/// When the bundle cannot be read again, or the page cannot be written.
pub(crate) fn write_beside(published: &Published) -> Result<PathBuf, Failure> {
    let (path, out) = (&published.path, beside(&published.path));
    let bundle = read_back(path, &published.manifest)?;
    let page = page_of(path, bundle.as_ref(), Some(published.sha256.clone()))?;
    write(&out, &page)?;
    Ok(out)
}

/// `bundle.zip.report.html`
fn beside(bundle: &Path) -> PathBuf {
    let mut path = bundle.as_os_str().to_owned();
    path.push(".report.html");
    path.into()
}

fn page_of(
    path: &Path,
    bundle: &dyn BundleReader,
    sha256: Option<String>,
) -> Result<String, Failure> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let facts = Facts::read(
        bundle,
        &name.to_string_lossy(),
        sha256,
        env!("CARGO_PKG_VERSION"),
    )?;
    Ok(render(&facts))
}

/// What `<bundle>.sha256` says of this bundle. A page without it is no worse than one with it, so a
/// file that is not there or says something else is nothing to fail for.
fn checksum_beside(bundle: &Path) -> Option<String> {
    let mut path = bundle.as_os_str().to_owned();
    path.push(".sha256");
    let mut line = String::new();
    let file = File::open(path).ok()?;
    file.take(4096).read_to_string(&mut line).ok()?;
    let (sum, name) = line.trim_end().split_once("  ")?;
    let hexadecimal = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
    let same = bundle.file_name()? == name;
    (hexadecimal && same).then(|| sum.to_owned())
}

/// Writes the page under its name as a whole. What stands there is replaced only if it is such a page.
fn write(out: &Path, page: &str) -> Result<(), Failure> {
    let attempted = || format!("write the report {}", out.display());
    let refused = |error| Failure::io(FailureKind::Refused, attempted(), error);
    if !replaceable(out).map_err(refused)? {
        return Err(Failure::new(
            FailureKind::Refused,
            attempted(),
            "what stands there is no report of Arkstream",
        )
        .help("choose another name with --out, or remove it yourself"));
    }
    durable::write_or_leave_nothing(out, page.as_bytes()).map_err(refused)
}

fn replaceable(out: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(there) if !there.is_file() => return Ok(false),
        Ok(_) => {}
    }
    let mut beginning = Vec::new();
    let file = File::open(out)?;
    file.take(PROLOGUE as u64).read_to_end(&mut beginning)?;
    Ok(is_report(&beginning))
}

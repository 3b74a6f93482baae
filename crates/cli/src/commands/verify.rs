//! `arkstream verify`

use std::{fmt::Write as _, path::Path, time::Instant};

use serde_json::{Value, json};

use arkstream_bundle::{BundleFile, survey};
use arkstream_format::Manifest;
use arkstream_pipeline::{
    BundleReader, Cancel, ContentCheck, Event, Failure, FailureKind, Finding, Severity,
};
use arkstream_restorer::{VerifyOptions, VerifyReport, verify};

use crate::{
    args::VerifyArgs,
    checks::{chroma::ChromaCheck, graph::DumpCheck, rows::RowsCheck},
    exit::Code,
    output, progress, units,
};

/// Most findings that are printed; `--json` has all.
const SHOWN: usize = 50;

pub(crate) fn run(args: &VerifyArgs) -> Result<Code, Failure> {
    let start = Instant::now();
    let bundle = match BundleFile::open(&args.bundle) {
        Ok(bundle) => bundle,
        Err(failure) if failure.kind == FailureKind::Damaged => {
            return report_unreadable(args, &failure, start);
        }
        Err(failure) => return Err(failure),
    };
    let report = verify_bundle(&bundle, args)?;
    if args.json {
        output::print_json(&report_json(&args.bundle, &report, start))?;
    } else {
        output::print(&describe(&args.bundle, &report))?;
    }
    Ok(match () {
        () if report.is_damaged() => Code::Damaged,
        () if report.interrupted => Code::Interrupted,
        () if is_incomplete(bundle.manifest()) => Code::LeftOut,
        () => Code::Complete,
    })
}

/// Whether the bundle was salvaged and something is lost.
fn is_incomplete(manifest: &Manifest) -> bool {
    let salvage = manifest.salvage.as_ref();
    salvage.is_some_and(|salvage| !salvage.lost.is_empty())
}

/// Verifies with all content checks, showing progress.
fn verify_bundle(bundle: &BundleFile, args: &VerifyArgs) -> Result<VerifyReport, Failure> {
    let observer = progress::observer(args.progress);
    for (component, sum) in &bundle.manifest().components {
        observer.event(&Event::Planned {
            component: *component,
            bytes: sum.raw_bytes,
            items: sum.members,
        });
        observer.event(&Event::Started {
            component: *component,
        });
    }
    let options = VerifyOptions {
        sample_percent: args.sample,
        seed: std::process::id().into(),
        workers: None,
    };
    let mut checks: Vec<Box<dyn ContentCheck>> = vec![
        Box::new(RowsCheck::default()),
        Box::new(DumpCheck),
        Box::new(ChromaCheck),
    ];
    let report = verify(
        bundle,
        &mut checks,
        &options,
        observer.as_ref(),
        &Cancel::default(),
    );
    for component in bundle.manifest().components.keys() {
        observer.event(&Event::Finished {
            component: *component,
        });
    }
    Ok(report)
}

fn describe(path: &Path, report: &VerifyReport) -> String {
    let mut text = String::new();
    for finding in report.findings.iter().take(SHOWN) {
        let word = match finding.severity {
            Severity::Damage => "DAMAGED",
            Severity::Note => "note",
        };
        let _ = writeln!(text, "{word}: {finding}");
    }
    if report.findings.len() > SHOWN {
        let _ = writeln!(
            text,
            "… and {} more findings",
            report.findings.len() - SHOWN
        );
    }
    let _ = writeln!(
        text,
        "{}: {} chunks, {} read; checked: framing, hashes{}{}",
        path.display(),
        report.chunks,
        units::size(report.bytes),
        if report.checks.is_empty() { "" } else { ", " },
        report.checks.join(", ")
    );
    if report.is_damaged() {
        let _ = writeln!(
            text,
            "DAMAGED: {} members are damaged, {} are good",
            report.damaged_members.len(),
            report.good_members
        );
        let _ = writeln!(
            text,
            "`arkstream salvage {} NEW.zip` makes a new bundle of what is good",
            path.display()
        );
    } else {
        let _ = writeln!(text, "good: all {} members", report.good_members);
    }
    text
}

fn report_json(path: &Path, report: &VerifyReport, start: Instant) -> Value {
    json!({
        "bundle": path,
        "verdict": if report.is_damaged() { "damaged" } else { "good" },
        "chunks": report.chunks,
        "bytes": report.bytes,
        "good_members": report.good_members,
        "damaged_members": report.damaged_members,
        "checks": report.checks,
        "interrupted": report.interrupted,
        "duration_seconds": start.elapsed().as_secs_f64(),
        "findings": report.findings.iter().map(finding_json).collect::<Vec<_>>(),
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "severity": match finding.severity { Severity::Damage => "damage", Severity::Note => "note" },
        "member": finding.place.member,
        "chunk": finding.place.chunk,
        "bytes": finding.place.bytes.map(|(first, end)| [first, end]),
        "what": finding.what,
    })
}

/// Without its manifest a bundle can only be judged by the ZIP directory.
fn report_unreadable(
    args: &VerifyArgs,
    failure: &Failure,
    start: Instant,
) -> Result<Code, Failure> {
    let entries = survey(&args.bundle);
    if args.json {
        let entries = entries.map(|entries| {
            entries
                .iter()
                .map(|entry| json!({"name": entry.name, "damage": entry.damage}))
                .collect::<Vec<_>>()
        });
        output::print_json(&json!({
            "bundle": args.bundle,
            "verdict": "damaged",
            "duration_seconds": start.elapsed().as_secs_f64(),
            "findings": [{"severity": "damage", "what": failure.to_string()}],
            "entries": entries.unwrap_or_default(),
        }))?;
        return Ok(Code::Damaged);
    }
    let mut text = format!("DAMAGED: {failure}\n");
    match entries {
        Err(error) => {
            let _ = writeln!(text, "there is no readable ZIP directory either: {error}");
        }
        Ok(entries) => {
            text.push_str("by length and CRC-32 of the ZIP directory:\n");
            for entry in entries.iter().filter(|entry| entry.damage.is_some()) {
                let damage = entry.damage.as_deref().unwrap_or_default();
                let _ = writeln!(text, "  DAMAGED {}: {damage}", entry.name);
            }
            let good = entries
                .iter()
                .filter(|entry| entry.damage.is_none())
                .count();
            let _ = writeln!(text, "  {good} of {} entries are good", entries.len());
        }
    }
    let _ = writeln!(
        text,
        "`arkstream salvage {} NEW.zip` makes a new bundle of all that is still proven good",
        args.bundle.display()
    );
    output::print(&text)?;
    Ok(Code::Damaged)
}

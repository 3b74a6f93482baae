//! Verification of a whole bundle, or of a sample of it.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use arkstream_format::{Manifest, Metadata, member_names};
use arkstream_pipeline::{
    BundleReader, Cancel, ContentCheck, Event, Finding, Observer, Severity, read_whole,
};

use crate::inventory;

/// How much is verified.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Reads only this share of the chunks, from 0 to 100, evenly spread and chosen by `seed`;
    /// contents are not checked then. `None` reads everything.
    pub sample_percent: Option<f64>,
    /// Which chunks a sample takes.
    pub seed: u64,
    /// Threads; `None` takes one a core.
    pub workers: Option<NonZeroUsize>,
}

/// What verification found.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// Everything found, damage first.
    pub findings: Vec<Finding>,
    /// Chunks read.
    pub chunks: u64,
    /// Raw bytes read.
    pub bytes: u64,
    /// Members of which nothing that was looked at is damaged.
    pub good_members: u64,
    /// Members that are damaged.
    pub damaged_members: Vec<String>,
    /// Content checks that ran.
    pub checks: Vec<&'static str>,
    /// Whether the user interrupted it.
    pub interrupted: bool,
}

impl VerifyReport {
    /// Whether anything is damaged.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Damage)
    }
}

/// Verifies a bundle.
pub fn verify(
    bundle: &dyn BundleReader,
    checks: &mut [Box<dyn ContentCheck>],
    options: &VerifyOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> VerifyReport {
    let mut report = VerifyReport {
        findings: bundle.check_framing(),
        ..VerifyReport::default()
    };
    report.findings.extend(inventory::check(bundle.manifest()));
    check_chunks(bundle, options, observer, cancel, &mut report);
    let damaged: BTreeSet<String> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .filter_map(|finding| finding.place.member.clone())
        .collect();
    if options.sample_percent.is_none() && !cancel.is_raised() {
        check_contents(bundle, checks, &damaged, cancel, &mut report);
    }
    report.damaged_members = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .filter_map(|finding| finding.place.member.clone())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    report.good_members = bundle
        .manifest()
        .members
        .iter()
        .filter(|member| report.damaged_members.binary_search(&member.name).is_err())
        .count() as u64;
    report.interrupted = cancel.is_raised();
    report
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report
}

/// Reads chunks on all cores.
fn check_chunks(
    bundle: &dyn BundleReader,
    options: &VerifyOptions,
    observer: &dyn Observer,
    cancel: &Cancel,
    report: &mut VerifyReport,
) {
    let work = chunks_to_read(bundle.manifest(), options);
    let workers = options
        .workers
        .or_else(|| thread::available_parallelism().ok())
        .map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let findings = Mutex::new(Vec::new());
    let bytes = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((member, chunk)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if cancel.is_raised() {
                        return;
                    }
                    let Some(member) = bundle.manifest().members.get(*member as usize) else {
                        continue;
                    };
                    match bundle.read_chunk(member, *chunk as usize) {
                        Ok(raw) => {
                            bytes.fetch_add(raw.len() as u64, Ordering::Relaxed);
                            observer.event(&Event::Read {
                                component: member.component,
                                bytes: raw.len() as u64,
                            });
                        }
                        Err(finding) => findings
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(finding),
                    }
                }
            });
        }
    });
    let mut findings = findings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    findings.sort_by_key(|finding| finding.place.bytes);
    report.findings.extend(findings);
    report.chunks = work.len() as u64;
    report.bytes = bytes.into_inner();
}

/// Member and chunk numbers. A sample takes every chunk with the same chance.
fn chunks_to_read(manifest: &Manifest, options: &VerifyOptions) -> Vec<(u32, u32)> {
    let all = manifest.members.iter().enumerate().flat_map(|(m, member)| {
        (0..member.chunks.len()).map(move |chunk| (m as u32, chunk as u32))
    });
    let Some(percent) = options.sample_percent else {
        return all.collect();
    };
    // A chunk is taken when its hash lies in the lower `percent` of all values.
    let limit = (percent.clamp(0.0, 100.0) / 100.0 * u64::MAX as f64) as u64;
    all.filter(|(member, chunk)| mix(options.seed, *member, *chunk) <= limit)
        .collect()
}

/// SplitMix64 of a chunk's place.
fn mix(seed: u64, member: u32, chunk: u32) -> u64 {
    let mut z = seed ^ (u64::from(member) << 32 | u64::from(chunk));
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn check_contents(
    bundle: &dyn BundleReader,
    checks: &mut [Box<dyn ContentCheck>],
    damaged: &BTreeSet<String>,
    cancel: &Cancel,
    report: &mut VerifyReport,
) {
    report.findings.extend(check_metadata(bundle, damaged));
    report.checks.push("metadata");
    for check in checks {
        let mut skipped = 0;
        let mut lost = false;
        for member in &bundle.manifest().members {
            if cancel.is_raised() {
                return;
            }
            if !check.wants(member) {
                continue;
            }
            lost |= bundle
                .manifest()
                .salvage
                .as_ref()
                .is_some_and(|s| s.hurts(member.component));
            if damaged.contains(&member.name) {
                skipped += 1;
            } else {
                report.findings.extend(check.check(bundle, member));
            }
        }
        if lost {
            report.findings.push(Finding::note(format!(
                "{}: not checked as a whole, for members of it are lost",
                check.name()
            )));
        } else if skipped == 0 {
            report.findings.extend(check.conclude(bundle));
            report.checks.push(check.name());
        } else {
            report.findings.push(Finding::note(format!(
                "{}: not checked as a whole, for {skipped} of its members are damaged",
                check.name()
            )));
        }
    }
}

/// The checksum in `metadata.json` must be that of the other members.
fn check_metadata(bundle: &dyn BundleReader, damaged: &BTreeSet<String>) -> Vec<Finding> {
    let members = &bundle.manifest().members;
    let Some(member) = members.iter().find(|m| m.name == member_names::METADATA) else {
        return vec![Finding::damage(
            Default::default(),
            "metadata.json is not in the bundle",
        )];
    };
    if damaged.contains(&member.name) {
        return Vec::new();
    }
    match read_whole(bundle, member) {
        Err(finding) => vec![finding],
        Ok(bytes) => match serde_json::from_slice::<Metadata>(&bytes) {
            Err(error) => vec![Finding::in_member(
                member,
                format!("not understood: {error}"),
            )],
            Ok(metadata) if metadata.checksum != Manifest::checksum_of(members) => {
                vec![Finding::in_member(
                    member,
                    "its checksum is not that of the other members",
                )]
            }
            Ok(_) => Vec::new(),
        },
    }
}

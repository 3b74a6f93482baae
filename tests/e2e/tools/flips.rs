//! Damage: every flipped bit is found, and its place named.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use arkstream_bundle::BundleFile;
use arkstream_pipeline::{Cancel, Failure, FailureKind, Finding, Severity, Silent};
use arkstream_restorer::{VerifyOptions, verify};
use serde_json::Value;

use super::{Random, large_bundle, members, number, small_bundle, text};
use crate::support::{Run, arkstream, run, scratch, sh, soak};

/// A copy of a bundle that may be damaged, and healed again.
struct Patient {
    path: PathBuf,
    file: File,
    good: Vec<u8>,
}

impl Patient {
    fn new(bundle: &Path) -> Self {
        let path = scratch("patient").join("bundle.zip");
        std::fs::copy(bundle, &path).expect("a copy");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .expect("ours");
        let good = std::fs::read(&path).expect("the bundle");
        Self { path, file, good }
    }

    fn len(&self) -> u64 {
        self.good.len() as u64
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).expect("written");
    }

    fn heal(&self) {
        self.file.set_len(self.len()).expect("its length");
        self.write(0, &self.good);
    }

    /// Runs `then` with one bit flipped.
    fn with_flip<T>(&self, bit: u64, then: impl FnOnce() -> T) -> T {
        let at = bit / 8;
        let byte = self.good[usize::try_from(at).expect("small")];
        self.write(at, &[byte ^ (1 << (bit % 8))]);
        let outcome = then();
        self.write(at, &[byte]);
        outcome
    }

    /// What verification says: that it cannot be opened, or what it found.
    fn damage(&self) -> Result<Vec<Finding>, Failure> {
        let bundle = BundleFile::open(&self.path)?;
        let options = VerifyOptions {
            workers: std::num::NonZeroUsize::new(1),
            ..VerifyOptions::default()
        };
        let report = verify(&bundle, &mut [], &options, &Silent, &Cancel::default());
        Ok(report
            .findings
            .into_iter()
            .filter(|f| f.severity == Severity::Damage)
            .collect())
    }

    fn command(&self) -> Run {
        run(arkstream()
            .args(["verify", "--json", "--progress", "none"])
            .arg(&self.path))
    }

    fn manifest(&self) -> Value {
        let folder = scratch("manifest");
        sh(
            &folder,
            &format!("unzip -q '{}' manifest.json", self.path.display()),
        );
        serde_json::from_str(
            &std::fs::read_to_string(folder.join("manifest.json")).expect("a file"),
        )
        .expect("JSON")
    }
}

/// What the manifest says lies at an offset: member, and chunk if it is in one.
fn place(manifest: &Value, at: u64) -> Option<(&str, Option<usize>)> {
    let member = members(manifest)
        .iter()
        .rev()
        .find(|member| number(&member["header_offset"]) <= at)?;
    let chunks = member["chunks"].as_array().expect("a list");
    let chunk = chunks.iter().position(|chunk| {
        let offset = number(&chunk["offset"]);
        (offset..offset + number(&chunk["stored_len"])).contains(&at)
    });
    Some((text(&member["name"]), chunk))
}

/// Where the manifest begins: what follows is itself, the ZIP directory and the archive comment.
fn end_of_members(manifest: &Value, good: &[u8]) -> u64 {
    let last = members(manifest).last().expect("a member");
    let data_end = number(&last["data_offset"]) + number(&last["stored_len"]);
    let name = b"manifest.json";
    // Its local header is the first behind the last member's data that names it.
    let from = usize::try_from(data_end).expect("small");
    let named = good[from..]
        .windows(name.len())
        .position(|window| window == name)
        .expect("a header");
    data_end + named as u64 - 30
}

#[test]
fn every_flipped_bit_is_found_and_its_place_named() {
    let patient = Patient::new(small_bundle());
    assert_eq!(patient.damage().expect("it opens"), []);
    let manifest = patient.manifest();
    let end = end_of_members(&manifest, &patient.good);
    let mut random = Random(0xF11B);
    let rounds = soak(2_000, 40_000);
    let (mut in_chunks, mut in_frames, mut unopened) = (0, 0, 0);
    for _ in 0..rounds {
        let bit = random.below(patient.len() * 8);
        let at = bit / 8;
        match patient.with_flip(bit, || patient.damage()) {
            Ok(findings) => {
                let covers = |f: &Finding| {
                    f.place
                        .bytes
                        .is_some_and(|(from, to)| (from..to).contains(&at))
                };
                let found = findings.iter().find(|f| covers(f));
                let found =
                    found.unwrap_or_else(|| panic!("bit {bit} at {at} is not named: {findings:?}"));
                if at < end {
                    let (member, chunk) = place(&manifest, at).expect("a member");
                    assert_eq!(
                        found.place.member.as_deref(),
                        Some(member),
                        "{at}: {found:?}"
                    );
                    assert_eq!(found.place.chunk, chunk, "{at}: {found:?}");
                    let others = findings.iter().filter_map(|f| f.place.member.as_deref());
                    assert!(
                        others.into_iter().all(|name| name == member),
                        "only {member} is damaged: {findings:?}"
                    );
                    in_chunks += usize::from(chunk.is_some());
                    in_frames += usize::from(chunk.is_none());
                } else {
                    in_frames += 1;
                }
            }
            Err(failure) => {
                assert_eq!(
                    failure.kind,
                    FailureKind::Damaged,
                    "bit {bit} at {at}: {failure}"
                );
                assert!(
                    at >= end,
                    "bit {bit} at {at} keeps the bundle from being opened: {failure}"
                );
                unopened += 1;
            }
        }
    }
    assert_eq!(in_chunks + in_frames + unopened, rounds);
    assert!(
        in_chunks > 0 && in_frames > 0 && unopened > 0,
        "{in_chunks} {in_frames} {unopened}"
    );
    assert_eq!(patient.damage().expect("healed"), []);
}

/// The end of the file leads to everything else: here each bit is tried.
#[test]
fn every_bit_of_the_archive_comment_and_end_record_is_guarded() {
    let patient = Patient::new(small_bundle());
    for bit in (patient.len() - 200) * 8..patient.len() * 8 {
        match patient.with_flip(bit, || patient.damage()) {
            Ok(findings) => assert!(!findings.is_empty(), "bit {bit} is not guarded"),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Damaged, "bit {bit}: {failure}");
            }
        }
    }
}

#[test]
fn the_command_finds_flipped_bits_exits_with_4_and_says_what_is_still_good() {
    let patient = Patient::new(small_bundle());
    let manifest = patient.manifest();
    let end = end_of_members(&manifest, &patient.good);
    let all = members(&manifest).len() as u64;
    let mut random = Random(0xC0DE);
    for round in 0..soak(60, 1_000) {
        // Two of three in what is worth most: the members.
        let within = if round % 3 == 0 { patient.len() } else { end };
        let bit = random.below(within * 8);
        let run = patient.with_flip(bit, || patient.command()).expect_code(4);
        let report = run.json();
        assert_eq!(report["verdict"], "damaged");
        let findings = report["findings"].as_array().expect("a list");
        assert!(
            findings.iter().any(|f| f["severity"] == "damage"),
            "{report:#}"
        );
        if bit / 8 < end {
            let (member, chunk) = place(&manifest, bit / 8).expect("a member");
            assert_eq!(
                report["damaged_members"],
                Value::from(vec![member]),
                "{report:#}"
            );
            assert_eq!(number(&report["good_members"]), all - 1);
            let named = findings.iter().find(|f| {
                let bytes = f["bytes"].as_array();
                bytes.is_some_and(|b| (number(&b[0])..number(&b[1])).contains(&(bit / 8)))
            });
            let named = named.unwrap_or_else(|| panic!("{bit}: {report:#}"));
            assert_eq!(
                named["chunk"],
                chunk.map_or(Value::Null, Value::from),
                "{named}"
            );
        }
    }
    assert_eq!(patient.command().ok().json()["verdict"], "good");
    // For people.
    let bit = number(&members(&manifest)[0]["data_offset"]) * 8;
    let name = text(&members(&manifest)[0]["name"]);
    let words = patient.with_flip(bit, || {
        run(arkstream().arg("verify").arg(&patient.path))
            .expect_code(4)
            .stdout
    });
    for expected in [
        "DAMAGED",
        name,
        "chunk 0",
        "bytes ",
        &format!("{} are good", all - 1),
    ] {
        assert!(words.contains(expected), "{expected:?} is not in {words}");
    }
}

#[test]
fn a_truncated_bundle_is_damaged_wherever_it_ends() {
    let patient = Patient::new(small_bundle());
    let manifest = patient.manifest();
    let mut lengths: Vec<u64> = members(&manifest)
        .iter()
        .map(|m| number(&m["header_offset"]))
        .collect();
    lengths.extend([
        1,
        22,
        patient.len() - 1,
        patient.len() - 22,
        end_of_members(&manifest, &patient.good),
    ]);
    let mut random = Random(0x7A11);
    lengths.extend((0..soak(100, 3_000)).map(|_| random.below(patient.len())));
    for length in lengths {
        patient.file.set_len(length).expect("its length");
        match patient.damage() {
            Ok(findings) => assert!(
                !findings.is_empty(),
                "{length} bytes are taken for a whole bundle"
            ),
            Err(failure) => assert_eq!(failure.kind, FailureKind::Damaged, "{length}: {failure}"),
        }
        patient.heal();
    }
    patient.file.set_len(patient.len() / 2).expect("its length");
    let run = run(arkstream().arg("verify").arg(&patient.path)).expect_code(4);
    assert!(run.stdout.contains("DAMAGED"), "{}", run.stdout);
}

#[test]
fn bytes_behind_the_end_are_found() {
    let patient = Patient::new(small_bundle());
    patient.write(patient.len(), b"more");
    match patient.damage() {
        Ok(findings) => assert!(!findings.is_empty()),
        Err(failure) => assert_eq!(failure.kind, FailureKind::Damaged, "{failure}"),
    }
    patient.command().expect_code(4);
}

/// Two chunks of equal length in each other's place: every length and every ZIP structure is right.
#[test]
fn swapped_chunks_are_found() {
    let patient = Patient::new(&large_bundle().path);
    let manifest = patient.manifest();
    let large = members(&manifest)
        .iter()
        .max_by_key(|m| number(&m["raw_len"]))
        .expect("a member");
    let chunks = large["chunks"].as_array().expect("a list");
    assert_eq!(chunks.len(), 4, "{large}");
    let slice = |chunk: &Value| {
        let from = usize::try_from(number(&chunk["offset"])).expect("small");
        from..from + usize::try_from(number(&chunk["stored_len"])).expect("small")
    };
    let (first, second) = (slice(&chunks[0]), slice(&chunks[1]));
    assert_eq!(first.len(), second.len());
    patient.write(first.start as u64, &patient.good[second.clone()]);
    patient.write(second.start as u64, &patient.good[first]);
    let found = patient.damage().expect("it opens");
    let named: Vec<Option<usize>> = found.iter().map(|f| f.place.chunk).collect();
    assert_eq!(named, [Some(0), Some(1)], "{found:?}");
    let report = patient.command().expect_code(4).json();
    assert_eq!(
        report["damaged_members"],
        Value::from(vec![large["name"].clone()])
    );

    // What is damaged is not given out, neither as a stream nor as a file.
    let name = text(&large["name"]);
    let cat = run(arkstream().arg("cat").arg(&patient.path).arg(name))
        .expect_code(4)
        .says(&[name, "chunk 0"]);
    assert_eq!(cat.stdout, "");
    let folder = scratch("damaged");
    run(arkstream()
        .arg("extract")
        .arg(&patient.path)
        .arg(&folder)
        .arg(name))
    .expect_code(4)
    .says(&[name]);
    assert_eq!(crate::support::files_below(&folder), [""; 0]);
    // The rest still is.
    run(arkstream()
        .arg("extract")
        .arg(&patient.path)
        .arg(&folder)
        .arg("odoo_data/models/"))
    .ok();
}

/// Nothing that is done to the bytes makes the reader panic, or a damaged bundle pass.
#[test]
fn mutated_bundles_never_pass_and_never_panic() {
    let patient = Patient::new(small_bundle());
    let mut random = Random(0xF022);
    for round in 0..soak(1_000, 100_000) {
        let mut bytes = patient.good.clone();
        for _ in 0..=random.below(4) {
            let len = bytes.len() as u64;
            let at = usize::try_from(random.below(len)).expect("small");
            // Half of the time near the end, where everything hangs on each byte.
            let at = if random.below(2) == 0 {
                at
            } else {
                bytes.len() - 1 - at % 4096.min(bytes.len())
            };
            let run = usize::try_from(random.below(64))
                .expect("small")
                .min(bytes.len() - at);
            match random.below(5) {
                0 => bytes[at..at + run].fill(0xFF),
                1 => bytes[at..at + run]
                    .iter_mut()
                    .for_each(|byte| *byte = random.next() as u8),
                2 => drop(bytes.drain(at..at + run)),
                3 => {
                    let copied: Vec<u8> = bytes[at..at + run].to_vec();
                    bytes.splice(at..at, copied);
                }
                _ => bytes[at] = bytes[at].wrapping_add(1),
            }
        }
        if bytes == patient.good {
            continue;
        }
        patient
            .file
            .set_len(bytes.len() as u64)
            .expect("its length");
        patient.write(0, &bytes);
        if let Ok(findings) = patient.damage() {
            assert!(!findings.is_empty(), "round {round} passes");
        }
    }
}

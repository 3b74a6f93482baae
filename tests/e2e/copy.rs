//! `arkstream copy`: killed, interrupted, out of space, onto older bundles, whole folders.

mod commands;
mod faults;
mod kills;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;

use arkstream_bundle::{Beginning, BundleWriter, Leftover, OutputPaths, SpaceWait};
use arkstream_format::{Component, Compression, Manifest, RunId};
use arkstream_pipeline::{
    Budget, BundleSink as _, Cancel, MemberFacts, MemberSpec, Silent, Sink as _,
};

use crate::support::{Random, arkstream, runtime, scratch, sh};

/// Bytes of the parts that every variant shares: chunks of 4 MiB.
const SHARED: usize = 40 << 20;
/// Bytes of the part that differs.
const OWN: usize = 1 << 20;

/// A bundle of some 41 MB. Variants share all chunks but those of one part, in the middle.
fn bundle(variant: u64) -> &'static Path {
    static MADE: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| (0..3).map(write_bundle).collect());
    &made[usize::try_from(variant).expect("small")]
}

fn write_bundle(variant: u64) -> PathBuf {
    let paths = OutputPaths::new(&scratch("bundle").join(format!("bundle-{variant}.zip")));
    let wait = SpaceWait {
        limit: Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    };
    let at = "2026-01-02T03:04:05Z".parse().expect("a time");
    let beginning = Beginning {
        run_id: RunId(format!("{variant:032}")),
        plan: Default::default(),
        at,
    };
    let spec = |name: &str, component, compression| MemberSpec {
        name: name.to_owned(),
        component,
        compression,
        modified_at: at,
        mode: 0o600,
        budget: Budget::new(64 << 20),
    };
    let (writer, _) =
        BundleWriter::open(paths, beginning, Leftover::Discard, wait).expect("a new bundle");
    let published = runtime().block_on(async {
        let parts = [
            ("chroma/data.bin", Component::Chroma, 0, SHARED / 2),
            ("models/superseded", Component::Models, 90 + variant, 50_000),
            ("models/part-00000.parquet", Component::Models, 1, OWN),
            (
                "models/part-00001.parquet",
                Component::Models,
                100 + variant,
                OWN,
            ),
            ("filestore/ab/file", Component::Filestore, 2, SHARED / 2),
            ("filestore/ab/empty", Component::Filestore, 0, 0),
        ];
        for (name, component, seed, len) in parts {
            let compression = match component {
                Component::Models => Compression::Stored,
                _ => Compression::Deflate,
            };
            let mut member = writer
                .begin(spec(name, component, compression))
                .await
                .expect("it opens");
            for piece in noise(seed, len).chunks(1 << 20) {
                member
                    .write(Bytes::copy_from_slice(piece))
                    .await
                    .expect("written");
            }
            member.finish(MemberFacts::default()).await.expect("done");
        }
        writer
            .retract("models/superseded", "superseded")
            .await
            .expect("retracted");
        writer.publish(manifest(variant, at)).await.expect("named")
    });
    published.path
}

fn manifest(variant: u64, at: chrono::DateTime<chrono::Utc>) -> Manifest {
    let manifest = serde_json::json!({
        "format_version": arkstream_format::FORMAT_VERSION, "run_id": format!("{variant:032}"),
        "generator": {"name": "test", "version": "0"}, "started_at": at, "generations": [],
        "components": {}, "members": [], "tables": []
    });
    serde_json::from_value(manifest).expect("a manifest")
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// `arkstream copy` with `--json`.
fn copy(source: &Path, to: &Path) -> Command {
    let mut command = arkstream();
    command.args(["copy", "--json", "--progress", "none"]);
    command.arg(source).arg(to);
    command
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

#[track_caller]
fn number(report: &Value, key: &str) -> u64 {
    let value = &report[key];
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {report:#}"))
}

/// The copy is its source, has its checksum, and nothing else stays.
#[track_caller]
fn is_identical(source: &Path, copy: &Path) {
    let folder = copy.parent().expect("a folder");
    sh(
        folder,
        &format!("cmp '{}' '{}'", source.display(), copy.display()),
    );
    let name = copy.file_name().expect("a name").to_string_lossy();
    sh(folder, &format!("sha256sum --strict -c '{name}.sha256'"));
    for suffix in [".partial", ".copy", ".copy.partial", ".sha256.partial"] {
        assert!(!beside(copy, suffix).exists(), "{suffix} stays");
    }
}

fn random(seed: u64) -> Random {
    Random(seed.wrapping_mul(0x9e37_79b9).wrapping_add(17))
}

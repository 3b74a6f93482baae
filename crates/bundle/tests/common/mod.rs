//! Members and manifests for tests.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod killed;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use arkstream_bundle::{
    Beginning, BundleWriter, Leftover, OutputPaths, SpaceWait, salvage::SalvageOptions,
};
use arkstream_format::{Component, Compression, Generator, Manifest, Member, RunId};
use arkstream_pipeline::{Budget, Cancel, Failure, MemberFacts, MemberSpec, Silent};

pub(crate) fn moment() -> DateTime<Utc> {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

pub(crate) fn manifest() -> Manifest {
    Manifest::empty(RunId("00".into()), Generator::new("test", "0"), moment())
}

pub(crate) fn spec(name: &str, compression: Compression) -> MemberSpec {
    MemberSpec {
        name: name.into(),
        component: Component::Filestore,
        compression,
        modified_at: moment(),
        mode: 0o640,
        budget: Budget::new(32 << 20),
    }
}

pub(crate) fn noise(seed: u8, len: usize) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut out);
    out.into()
}

pub(crate) fn text(len: usize) -> Bytes {
    let mut out = Vec::new();
    for i in 0.. {
        if out.len() >= len {
            break;
        }
        out.extend_from_slice(format!("INSERT INTO t VALUES ({i}, 'row {i}');\n").as_bytes());
    }
    out.truncate(len);
    out.into()
}

pub(crate) fn rows(rows: u64) -> MemberFacts {
    MemberFacts {
        rows: Some(rows),
        proof: None,
    }
}

pub(crate) fn beginning(plan: &str) -> Beginning {
    Beginning {
        at: Utc::now(),
        run_id: RunId("00".into()),
        plan: [("what".to_owned(), plan.to_owned())].into(),
    }
}

pub(crate) fn writer(folder: &Path) -> (OutputPaths, Arc<BundleWriter>) {
    let paths = OutputPaths::new(&folder.join("bundle.zip"));
    let leftover = Leftover::Continue {
        recheck: false,
        insist: false,
    };
    let (writer, resumed) =
        BundleWriter::open(paths.clone(), beginning("plan"), leftover, no_wait()).unwrap();
    assert_eq!(resumed, None);
    (paths, Arc::new(writer))
}

/// A full disk is a failure at once.
pub(crate) fn no_wait() -> SpaceWait {
    SpaceWait {
        limit: std::time::Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    }
}

/// Salvages `source` to `out.zip` in `folder`.
pub(crate) fn salvage_options(folder: &Path, source: &Path) -> SalvageOptions {
    SalvageOptions {
        source: source.to_owned(),
        out: OutputPaths::new(&folder.join("out.zip")),
        run_id: RunId("salvage".into()),
        version: "0".into(),
        at: moment(),
        fresh: false,
        unproven: None,
        wait: no_wait(),
        observer: Arc::new(Silent),
        cancel: Cancel::default(),
    }
}

/// A `metadata.json` for bundles that have none.
pub(crate) fn described(_: Option<&[u8]>, _: &Manifest, _: &[Member]) -> Result<Vec<u8>, Failure> {
    Ok(b"{}".to_vec())
}

/// Rounds in `make test`, and in `make soak`.
pub(crate) fn soak(few: u64, many: u64) -> u64 {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(_) => many,
        None => few,
    }
}

/// A small random generator, so that a failing seed can be run again.
pub(crate) struct Random(blake3::OutputReader);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit.max(1)
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
}

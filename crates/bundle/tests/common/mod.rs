//! Members and manifests for tests.
#![allow(dead_code, clippy::unwrap_used)]

pub(crate) mod killed;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use arkstream_bundle::{Beginning, BundleWriter, Leftover, OutputPaths, SpaceWait};
use arkstream_format::{Component, Compression, Generator, Manifest, RunId};
use arkstream_pipeline::{Budget, Cancel, MemberFacts, MemberSpec, Silent};

pub(crate) fn moment() -> DateTime<Utc> {
    "2026-01-02T03:04:05.678Z".parse().unwrap()
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        format_version: arkstream_format::FORMAT_VERSION.into(),
        run_id: RunId("00".into()),
        generator: Generator {
            name: "test".into(),
            version: "0".into(),
        },
        started_at: moment(),
        generations: Vec::new(),
        components: Default::default(),
        members: Vec::new(),
        dead_ranges: Vec::new(),
        tables: Vec::new(),
        omissions: Vec::new(),
        references: Vec::new(),
        chroma: None,
        graph: None,
        sealing: None,
        bases: Vec::new(),
    }
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

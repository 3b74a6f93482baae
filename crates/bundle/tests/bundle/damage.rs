//! A damaged bundle is not taken for a good one.

use std::{fs, path::Path};

use arkstream_bundle::{BundleFile, survey};
use arkstream_format::Manifest;
use arkstream_pipeline::{BundleReader, BundleSink, FailureKind, Severity};

use crate::{
    common::{manifest, writer},
    tiny_bundle,
};

/// Everything that verification without content checks finds.
fn damage_of(path: &Path) -> Vec<String> {
    let bundle = match BundleFile::open(path) {
        Ok(bundle) => bundle,
        Err(failure) => {
            assert!(
                matches!(
                    failure.kind,
                    FailureKind::Damaged | FailureKind::Incompatible
                ),
                "{failure}"
            );
            return vec![failure.to_string()];
        }
    };
    let mut found: Vec<String> = bundle
        .check_framing()
        .into_iter()
        .filter(|finding| finding.severity == Severity::Damage)
        .map(|finding| finding.to_string())
        .collect();
    for member in &bundle.manifest().members {
        for index in 0..member.chunks.len() {
            if let Err(finding) = bundle.read_chunk(member, index) {
                found.push(finding.to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn every_single_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_bundle(folder.path()).await;
    let good = fs::read(&path).unwrap();
    assert_eq!(damage_of(&path), Vec::<String>::new());
    // Every byte of the file, one bit each; which bit rotates.
    let mut bad = good.clone();
    for at in 0..good.len() {
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        assert!(!damage_of(&path).is_empty(), "byte {at} of {}", good.len());
        bad[at] = good[at];
    }
}

#[tokio::test]
async fn truncations_swaps_and_garbage_are_found_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_bundle(folder.path()).await;
    let good = fs::read(&path).unwrap();
    for len in (0..good.len()).step_by(97) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(!damage_of(&path).is_empty(), "cut to {len}");
    }
    let mut longer = good.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    assert!(!damage_of(&path).is_empty(), "a byte more");
    let mut stream = blake3::Hasher::new().finalize_xof();
    let mut random = move |below: usize| {
        let mut bytes = [0; 8];
        stream.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % below as u64) as usize
    };
    let soak = std::env::var_os("ARKSTREAM_SOAK").is_some();
    for round in 0..if soak { 100_000 } else { 3000 } {
        let mut bad = good.clone();
        for _ in 0..=random(4) {
            let (a, b) = (random(bad.len()), random(bad.len()));
            match random(3) {
                0 => bad[a] = bad[a].wrapping_add(1 + random(255) as u8),
                1 => bad.swap(a, b),
                _ => {
                    let len = random(64).min(bad.len() - a.max(b));
                    let copy = bad[a..a + len].to_vec();
                    bad[b..b + len].copy_from_slice(&copy);
                }
            }
        }
        fs::write(&path, &bad).unwrap();
        let found = damage_of(&path);
        assert_eq!(found.is_empty(), bad == good, "round {round}");
        let _ = survey(&path);
    }
}

#[tokio::test]
async fn a_newer_format_is_told_from_a_damaged_comment() {
    let folder = tempfile::tempdir().unwrap();
    let (_, newer) = writer(folder.path());
    let of_the_future = Manifest {
        format_version: "2.0.0".into(),
        ..manifest()
    };
    let path = newer.publish(of_the_future).await.unwrap().path;
    assert_eq!(
        BundleFile::open(&path).unwrap_err().kind,
        FailureKind::Incompatible
    );
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).rposition(|at| at == b"2.0.0").unwrap();
    bytes[at] = b'3';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        BundleFile::open(&path).unwrap_err().kind,
        FailureKind::Damaged
    );
}

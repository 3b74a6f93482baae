//! Bundles: opened, read, surveyed, resumed.

use std::{collections::HashSet, fs, path::Path, sync::Arc, time::Duration};

use arkstream_bundle::{
    Beginning, BundleFile, BundleWriter, Leftover, OutputPaths, SpaceWait, fuzzing, read_journal,
    survey,
};
use arkstream_format::{
    CHUNK_SIZE, Component, Crc32, Digest, Generator, Manifest, RunId, check_name, member_names,
};
use arkstream_pipeline::{BundleReader as _, BundleSink as _, Cancel, Failure, Silent, Sink as _};
use chrono::{DateTime, Utc};

use super::{format::journal_of, two};
use crate::scratch;

/// Any file is opened or refused. What is opened is read as [`bundle_sealed`] says.
pub fn bundle_open(data: &[u8]) {
    scratch::file(data, |path| {
        if let Ok(bundle) = BundleFile::open(path) {
            read_all(&bundle, path);
        }
    });
}

/// A manifest that is proven, whatever it says, over any bytes: the input is its JSON, a NUL, and
/// what stands before it. No byte is given out that does not have its hashes and its lengths, and a
/// bundle without a finding is an archive that another reader finds whole, with the same names.
pub fn bundle_sealed(data: &[u8]) {
    let (json, body) = two(data);
    let Ok(manifest) = serde_json::from_slice::<Manifest>(json) else {
        return;
    };
    // A record has 16 bits for the length of a name.
    if manifest.members.iter().any(|m| m.name.len() > 4096) {
        return;
    }
    let file = fuzzing::seal(&manifest, json, body);
    scratch::file(&file, |path| {
        if let Ok(bundle) = BundleFile::open(path) {
            assert_eq!(bundle.manifest(), &manifest);
            read_all(&bundle, path);
        }
    });
}

/// Whether nothing was found.
fn read_all(bundle: &BundleFile, path: &Path) -> bool {
    let manifest = bundle.manifest();
    let mut good = bundle.check_framing().is_empty();
    for member in &manifest.members {
        for (index, chunk) in member.chunks.iter().enumerate() {
            match bundle.read_chunk(member, index) {
                Ok(raw) => {
                    assert!(raw.len() <= CHUNK_SIZE);
                    assert_eq!(raw.len() as u64, u64::from(chunk.raw_len));
                    assert_eq!(Digest::of(&raw), chunk.blake3);
                    assert_eq!(Crc32::of(&raw), chunk.crc32);
                }
                Err(finding) => {
                    assert_eq!(finding.place.member.as_deref(), Some(member.name.as_str()));
                    good = false;
                }
            }
        }
        let behind = bundle.read_chunk(member, member.chunks.len());
        assert!(behind.is_err(), "there is no chunk behind the last");
    }
    if !good {
        return false;
    }
    let names: Vec<&str> = manifest.members.iter().map(|m| m.name.as_str()).collect();
    assert!(names.iter().all(|name| check_name(name).is_ok()));
    let unique: HashSet<&&str> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "two members have one name");
    let surveyed = survey(path).unwrap();
    for entry in &surveyed {
        assert_eq!(entry.damage, None, "{}", entry.name);
    }
    let found: Vec<&str> = surveyed.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(found, [&names[..], &[member_names::MANIFEST]].concat());
    true
}

/// Any file is surveyed or refused, in as many entries as it has room for.
pub fn zip_survey(data: &[u8]) {
    const CENTRAL_HEADER: usize = 46;
    scratch::file(data, |path| {
        if let Ok(found) = survey(path) {
            assert!(found.len() <= data.len() / CENTRAL_HEADER);
        }
    });
}

/// Whatever an interrupted run is said to have left (journal lines without checksums, a NUL, the
/// unfinished bundle): it is refused, or continued to a bundle of which every byte is proven, with
/// every member that was said to be kept.
pub fn resume(data: &[u8]) {
    let (lines, partial) = two(data);
    scratch::folder(|folder| {
        let paths = OutputPaths::new(&folder.join("bundle.zip"));
        for path in [&paths.bundle, &paths.sha256] {
            let _ = fs::remove_file(path);
        }
        fs::write(&paths.partial, partial).unwrap();
        fs::write(&paths.journal, journal_of(lines)).unwrap();
        let Some(begin) = read_journal(&paths.journal).ok().and_then(|s| s.begin) else {
            return;
        };
        let beginning = Beginning {
            run_id: RunId("0".repeat(32)),
            plan: begin.plan,
            at: begin.at,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let Ok(kept) = runtime.block_on(resume_all(&paths, beginning)) else {
            return;
        };
        let bundle = BundleFile::open(&paths.bundle).unwrap();
        if !read_all(&bundle, &paths.bundle) && !is_lied_to(&bundle, &paths.bundle) {
            panic!("a published bundle is whole: {:?}", bundle.check_framing());
        }
        for name in kept {
            assert!(bundle.member(&name).is_some(), "{name} was kept");
        }
    });
}

/// Whether a chunk has the hash of what is stored and is something else when it is read: nobody looks
/// before, for nothing but a forged line of the journal makes it so.
fn is_lied_to(bundle: &BundleFile, path: &Path) -> bool {
    let file = fs::read(path).unwrap();
    bundle.manifest().members.iter().any(|member| {
        (0..member.chunks.len()).any(|index| {
            let chunk = &member.chunks[index];
            let stored = &file[chunk.offset as usize..][..chunk.stored_len as usize];
            bundle.read_chunk(member, index).is_err()
                && chunk.stored_blake3.unwrap_or(chunk.blake3) == Digest::of(stored)
        })
    })
}

async fn resume_all(paths: &OutputPaths, beginning: Beginning) -> Result<Vec<String>, Failure> {
    let wait = SpaceWait {
        limit: Duration::ZERO,
        cancel: Cancel::default(),
        observer: Arc::new(Silent),
    };
    let leftover = Leftover::Continue {
        recheck: false,
        insist: false,
    };
    let (writer, _) = BundleWriter::open(paths.clone(), beginning, leftover, wait)?;
    let mut kept = Vec::new();
    for component in Component::ALL {
        for member in writer.earlier(component).await? {
            kept.extend(writer.keep(&member.name, None).await?.map(|kept| kept.name));
        }
    }
    writer.publish(manifest(DateTime::UNIX_EPOCH)).await?;
    Ok(kept)
}

fn manifest(started_at: DateTime<Utc>) -> Manifest {
    Manifest::empty(
        RunId("0".repeat(32)),
        Generator::new("fuzz", "0"),
        started_at,
    )
}

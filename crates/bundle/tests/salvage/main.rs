//! Damaged bundles, salvaged: every undamaged chunk comes back, nothing damaged does.
//!
//! The judge of these tests knows the undamaged bundle and where it was hit, and nothing of how a
//! salvage works.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use arkstream_bundle::{
    BundleFile,
    salvage::{Salvaged, Truth, salvage},
};
use arkstream_format::{Compression, Manifest, Member, Salvage, member_names};
use arkstream_pipeline::{
    BundleReader as _, BundleSink as _, Failure, FailureKind, MemberFacts, Sink as _,
};
use common::{
    Random, described, manifest, moment, noise, salvage_options, soak, spec, text, writer,
};

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod others;

/// The bundle before it was damaged.
struct Original {
    bytes: Vec<u8>,
    manifest: Manifest,
    contents: BTreeMap<String, Bytes>,
    manifest_offset: u64,
}

fn contents() -> Vec<(String, Bytes, Compression, bool)> {
    let mut contents = Vec::new();
    let mut add = |name: String, bytes, compression, streamed| {
        contents.push((name, bytes, compression, streamed));
    };
    use Compression::{Deflate, Stored};
    for i in 0..20 {
        add(format!("first/{i}.txt"), text(500 + 37 * i), Deflate, false);
    }
    add("large/noise.bin".into(), noise(1, 13 << 20), Deflate, true);
    add("large/dump.sql".into(), text(30 << 20), Deflate, true);
    add(
        "rows/part-00000.parquet".into(),
        noise(2, 6 << 20),
        Stored,
        false,
    );
    add("large/plain.bin".into(), noise(3, 9 << 20), Stored, true);
    add("empty".into(), Bytes::new(), Deflate, true);
    for i in 0..1100 {
        let len = 20 + i % 50;
        add(
            format!("tiny/{i:04}"),
            noise((i % 250) as u8, len),
            Deflate,
            false,
        );
    }
    add("last/dump.sql".into(), text(9 << 20), Deflate, true);
    for i in 0..10 {
        add(
            format!("last/{i}.bin"),
            noise(100 + i as u8, 30_000),
            Deflate,
            false,
        );
    }
    contents
}

/// More than what makes an index due.
fn gone_bytes() -> Bytes {
    noise(8, 17 << 20)
}

async fn write(folder: &Path, described: Manifest) -> (PathBuf, BTreeMap<String, Bytes>) {
    let (_, writer) = writer(folder);
    let mut written = BTreeMap::new();
    for (name, bytes, compression, streamed) in contents() {
        if name == "rows/part-00000.parquet" {
            // Dead bytes of both kinds: given up in the middle, and superseded.
            let mut torn = writer
                .begin(spec("given-up", Compression::Deflate))
                .await
                .unwrap();
            torn.write(text(20 << 20)).await.unwrap();
            torn.abandon("the source changed").await.unwrap();
            // Listed by an index before it is retracted.
            let gone = spec("gone", Compression::Stored);
            writer
                .put(gone, gone_bytes(), MemberFacts::default())
                .await
                .unwrap();
            let after = spec("after", Compression::Deflate);
            writer
                .put(after, text(100), MemberFacts::default())
                .await
                .unwrap();
            written.insert("after".to_owned(), text(100));
            writer.retract("gone", "it went away").await.unwrap();
            let old = spec("large/plain.bin", Compression::Stored);
            writer
                .put(old, noise(9, 70_000), MemberFacts::default())
                .await
                .unwrap();
            writer
                .retract("large/plain.bin", "superseded")
                .await
                .unwrap();
        }
        if streamed {
            let mut member = writer.begin(spec(&name, compression)).await.unwrap();
            for piece in bytes.chunks(1 << 20) {
                member.write(Bytes::copy_from_slice(piece)).await.unwrap();
            }
            member.finish(MemberFacts::default()).await.unwrap();
        } else {
            let facts = MemberFacts::default();
            writer
                .put(spec(&name, compression), bytes.clone(), facts)
                .await
                .unwrap();
        }
        written.insert(name, bytes);
    }
    (writer.publish(described).await.unwrap().path, written)
}

async fn original() -> Original {
    let folder = tempfile::tempdir().unwrap();
    let (path, contents) = write(folder.path(), manifest()).await;
    let bundle = BundleFile::open(&path).unwrap();
    assert_eq!(bundle.check_framing(), []);
    let bytes = fs::read(&path).unwrap();
    let manifest = bundle.manifest().clone();
    let indexes = manifest.members.iter().filter(|member| member.is_index());
    assert!(
        indexes.count() >= 4,
        "index members were written on the way"
    );
    let last = manifest.members.last().unwrap();
    assert!(last.is_index(), "the last index stands before the manifest");
    Original {
        manifest_offset: last.data_offset + last.stored_len,
        bytes,
        manifest,
        contents,
    }
}

/// Salvages these bytes.
async fn salvaged(folder: &Path, bytes: &[u8]) -> Result<Salvaged, Failure> {
    let source = folder.join("damaged.zip");
    fs::write(&source, bytes).unwrap();
    salvage(salvage_options(folder, &source), &described).await
}

fn read_all(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bundle = BundleFile::open(path).unwrap();
    assert_eq!(bundle.check_framing(), [], "what comes out is sound");
    let mut members = BTreeMap::new();
    for member in &bundle.manifest().members {
        if member.is_index() {
            continue;
        }
        let mut bytes = Vec::new();
        for index in 0..member.chunks.len() {
            bytes.extend_from_slice(&bundle.read_chunk(member, index).unwrap());
        }
        members.insert(member.name.clone(), bytes);
    }
    members
}

/// What was done to the file.
#[derive(Debug, Default)]
struct Damage {
    flipped: Vec<u64>,
    cut: Option<u64>,
}

impl Damage {
    fn apply(&self, good: &[u8], random: &mut Random) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for at in &self.flipped {
            bytes[*at as usize] ^= 1 << random.below(8);
        }
        if let Some(len) = self.cut {
            bytes.truncate(len as usize);
        }
        bytes
    }

    fn spares(&self, start: u64, end: u64) -> bool {
        self.cut.is_none_or(|len| end <= len)
            && !self.flipped.iter().any(|at| (start..end).contains(at))
    }
}

impl Original {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn member(&self, name: &str) -> &Member {
        let mut members = self.manifest.members.iter();
        members.find(|member| member.name == name).unwrap()
    }

    /// Where a member of the file ends, the next thing's beginning.
    fn end_of(&self, member: &Member) -> u64 {
        let members = self.manifest.members.iter().map(|m| m.header_offset);
        let dead = self.manifest.dead_ranges.iter().map(|d| d.offset);
        let next = members
            .chain(dead)
            .filter(|at| *at > member.header_offset)
            .min();
        next.unwrap_or(self.manifest_offset)
    }

    /// Whether something that survived says which hashes the member's chunks have.
    fn is_covered(&self, member: &Member, damage: &Damage) -> bool {
        if damage.spares(self.manifest_offset, self.len()) {
            return true;
        }
        let index = self
            .manifest
            .members
            .iter()
            .find(|m| m.is_index() && m.header_offset > member.header_offset)
            .unwrap();
        damage.spares(index.header_offset, self.end_of(index))
    }

    /// Holds what came out against what was undamaged.
    fn judge(&self, damage: &Damage, out: &Salvaged) {
        let found = read_all(&out.published.path);
        let lost = &out.published.manifest.salvage.as_ref().unwrap().lost;
        let (mut all_whole, mut undamaged) = (true, 0);
        for member in self.manifest.members.iter().filter(|m| !m.is_index()) {
            let name = &member.name;
            let expected = &self.contents[name];
            let covered = self.is_covered(member, damage);
            let is_good = |chunk: &arkstream_format::Chunk| {
                damage.spares(chunk.offset, chunk.offset + u64::from(chunk.stored_len))
            };
            let good = member.chunks.iter().all(is_good);
            all_whole &= found.contains_key(name);
            if !covered {
                // A header is all that is left of one that was cut off.
                if damage.cut.is_some_and(|cut| cut > member.data_offset) && !good {
                    let told = lost.iter().any(|l| l.member.as_deref() == Some(name));
                    assert!(told, "{name} was cut off");
                }
                continue;
            }
            assert_eq!(
                found.contains_key(name),
                good,
                "{name}: whole or not, {damage:?}"
            );
            let told = lost.iter().any(|lost| lost.member.as_deref() == Some(name));
            assert_eq!(told, !good, "{name}: told to be lost or not");
            let mut start = 0;
            for chunk in &member.chunks {
                let end = start + chunk.raw_len as usize;
                if is_good(chunk) {
                    undamaged += 1;
                    let whole = found.get(name).map(|bytes| &bytes[start..end]);
                    let piece = || piece(&found, name, start, end);
                    let back = whole.or_else(piece);
                    let back = back.unwrap_or_else(|| panic!("{name} {start}..{end} is gone"));
                    assert!(back == &expected[start..end]);
                } else {
                    assert!(
                        piece(&found, name, start, end).is_none(),
                        "{name} {start}..{end}"
                    );
                }
                start = end;
            }
        }
        for (name, bytes) in &found {
            // What was given up or retracted may come back where the index that says so is lost.
            let told = self.is_covered(self.member("rows/part-00000.parquet"), damage);
            let given_up = match name.as_str() {
                "given-up" => text(20 << 20),
                "gone" => gone_bytes(),
                "large/plain.bin" => noise(9, 70_000),
                _ => Bytes::new(),
            };
            if !told && !bytes.is_empty() && given_up.starts_with(bytes) {
                continue;
            }
            if let Some(expected) = self.contents.get(name) {
                assert!(bytes == expected, "{name} is not what it was");
            } else if let Some(rest) = name.strip_prefix(member_names::SALVAGED_DIR) {
                let (member, range) = rest.rsplit_once('/').unwrap();
                let (start, end) = range.split_once('-').unwrap();
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                assert!(bytes == &self.contents[member][start..end], "{name}");
            } else {
                assert_eq!(name, member_names::METADATA, "nothing else comes back");
            }
        }
        if all_whole && damage.cut.is_none() {
            let hidden = out.salvage.described.then_some(0);
            assert!(
                hidden.is_none() || lost.iter().all(|l| l.member.is_none()),
                "{lost:?}"
            );
        }
        assert!(!lost.is_empty() || all_whole, "nothing is lost in silence");
        println!(
            "{} chunks undamaged and covered, {} lost",
            undamaged,
            lost.len()
        );
    }
}

/// The bytes of a member from the piece that holds them.
fn piece<'a>(
    found: &'a BTreeMap<String, Vec<u8>>,
    member: &str,
    start: usize,
    end: usize,
) -> Option<&'a [u8]> {
    let folder = format!("{}{member}/", member_names::SALVAGED_DIR);
    found.iter().find_map(|(name, bytes)| {
        let (first, last) = name.strip_prefix(&folder)?.split_once('-')?;
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (first <= start && end <= last).then(|| &bytes[start - first..end - first])
    })
}

/// Names of what is lost; none where not even that is known.
fn lost(out: &Salvaged) -> Vec<Option<&str>> {
    let lost = out.salvage.lost.iter();
    lost.map(|lost| lost.member.as_deref()).collect()
}

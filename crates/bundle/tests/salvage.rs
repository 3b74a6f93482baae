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

mod common;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_bundle_cut_anywhere_every_undamaged_chunk_comes_back() {
    let original = original().await;
    for seed in 0..soak(6, 150) {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        // Near the end, where indexes, manifest and directory are, as often as anywhere.
        let cut = match random.below(3) {
            0 => original.len() - random.below(original.len() - original.manifest_offset + 300_000),
            _ => 1 + random.below(original.len() - 1),
        };
        let damage = Damage {
            cut: Some(cut),
            flipped: Vec::new(),
        };
        let folder = tempfile::tempdir().unwrap();
        let bytes = damage.apply(&original.bytes, &mut random);
        match salvaged(folder.path(), &bytes).await {
            Ok(out) => original.judge(&damage, &out),
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
                assert!(cut < 2000, "{failure} cut at {cut}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_flipped_bits_only_the_chunks_they_hit_are_lost() {
    let original = original().await;
    for seed in 1000..1000 + soak(6, 150) {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let mut damage = Damage::default();
        for _ in 0..1 + random.below(100) {
            damage.flipped.push(random.below(original.len()));
        }
        if random.below(2) == 0 {
            // Without the manifest the copies of the index have to do.
            let tail = original.len() - original.manifest_offset;
            damage
                .flipped
                .push(original.manifest_offset + random.below(tail));
        }
        if random.below(4) == 0 {
            let indexes = original.manifest.members.iter().filter(|m| m.is_index());
            let hit = indexes
                .clone()
                .nth(random.below(indexes.count() as u64) as usize)
                .unwrap();
            damage
                .flipped
                .push(hit.header_offset + random.below(hit.stored_len));
        }
        let folder = tempfile::tempdir().unwrap();
        let bytes = damage.apply(&original.bytes, &mut random);
        let out = salvaged(folder.path(), &bytes).await.unwrap();
        original.judge(&damage, &out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_the_framing_is_damaged_nothing_is_lost() {
    let original = original().await;
    // Manifest and directory: hit, or gone.
    for cut in [None, Some(original.manifest_offset + 10)] {
        only_the_framing(&original, cut).await;
    }
}

async fn only_the_framing(original: &Original, cut: Option<u64>) {
    let mut damage = Damage {
        cut,
        flipped: Vec::new(),
    };
    if cut.is_none() {
        damage.flipped.push(original.manifest_offset + 100);
        damage.flipped.push(original.len() - 30);
    }
    for member in original
        .manifest
        .members
        .iter()
        .filter(|m| !m.is_index())
        .step_by(7)
    {
        damage.flipped.push(member.header_offset + 8);
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes = damage.apply(&original.bytes, &mut Random::new(1));
    let out = salvaged(folder.path(), &bytes).await.unwrap();
    assert_eq!(out.truth, Truth::Index);
    assert_eq!(out.salvage.lost, []);
    assert!(out.salvage.described && out.salvage.proven_by_crc.is_empty());
    assert_eq!(out.saved.len(), original.contents.len());
    original.judge(&damage, &out);
    // The content is the same in the same order, so the checksum of metadata.json is.
    let (before, after) = (&original.manifest, &out.published.manifest);
    let written = after
        .members
        .iter()
        .filter(|m| m.name != member_names::METADATA);
    assert_eq!(
        Manifest::checksum_of(&before.members),
        Manifest::checksum_of(written)
    );
    assert_eq!(after.started_at, before.started_at);
}

/// As bundles were before they had copies of the index, and where all of them are hit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_index_whole_members_are_proven_by_their_crc() {
    let original = original().await;
    for with_directory in [true, false] {
        without_any_index(&original, with_directory).await;
    }
}

async fn without_any_index(original: &Original, with_directory: bool) {
    let mut damage = Damage::default();
    damage.flipped.push(original.manifest_offset + 100);
    let member = |name: &str| {
        original
            .manifest
            .members
            .iter()
            .find(|m| m.name == name)
            .unwrap()
    };
    for member in original.manifest.members.iter().filter(|m| m.is_index()) {
        damage.flipped.push(member.data_offset + 5);
    }
    let hurt = ["large/dump.sql", "tiny/0007"];
    damage.flipped.push(member(hurt[0]).chunks[4].offset + 1000);
    damage.flipped.push(member(hurt[1]).data_offset + 3);
    if with_directory {
        // It knows better: a name, and a header.
        damage.flipped.push(member("tiny/0100").header_offset + 33);
        damage.flipped.push(member("tiny/0101").header_offset + 2);
    } else {
        damage.cut = Some(original.manifest_offset + 50);
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("damaged.zip");
    fs::write(&source, damage.apply(&original.bytes, &mut Random::new(2))).unwrap();
    let mut options = salvage_options(folder.path(), &source);
    options.unproven = Some(folder.path().join("unproven"));
    let out = salvage(options, &described).await.unwrap();
    assert_eq!(out.truth, Truth::Headers);
    assert!(!out.salvage.described);
    let mut found = read_all(&out.published.path);
    for (name, bytes) in &original.contents {
        let whole = !hurt.contains(&name.as_str());
        let found = found.remove(name).map(|found| found == *bytes);
        assert_eq!(found, whole.then_some(true), "{name}");
    }
    found.remove(member_names::METADATA);
    // What was given up or retracted is a whole entry as well; only a directory says that it is dead.
    let others: Vec<&str> = found.keys().map(String::as_str).collect();
    let dead: &[&str] = match with_directory {
        true => &[],
        false => &["given-up", "gone"],
    };
    assert_eq!(others, dead);
    assert!(out.saved.iter().all(|saved| saved.proof == "crc32"));
    assert_eq!(out.salvage.proven_by_crc.len(), out.saved.len());
    let lost: Vec<_> = out
        .salvage
        .lost
        .iter()
        .filter_map(|l| l.member.as_deref())
        .collect();
    assert_eq!(lost, hurt);
    // Up to the flipped bit the dump decodes, and what decodes can be had, but not in the bundle.
    let told = out
        .unproven
        .iter()
        .find(|bytes| bytes.name == hurt[0])
        .unwrap();
    let extracted = fs::read(told.file.as_ref().unwrap()).unwrap();
    assert_eq!(extracted.len() as u64, told.raw_len);
    let good = 4 << 22;
    assert!(told.chunks >= 4 && extracted[..good] == original.contents[hurt[0]][..good]);
}

/// A bundle that was stored inside this one brings nothing of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_inside_the_bundle_is_a_member_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let (path, _) = write(&inner, manifest()).await;
    let inner = Bytes::from(fs::read(path).unwrap());
    let (_, writer) = writer(folder.path());
    let facts = MemberFacts::default;
    let own = noise(77, 5000);
    let first = spec("first/0.txt", Compression::Deflate);
    writer.put(first, own.clone(), facts()).await.unwrap();
    let stored = spec("attached/inner.zip", Compression::Stored);
    writer.put(stored, inner.clone(), facts()).await.unwrap();
    let published = writer.publish(manifest()).await.unwrap();
    for cut in [published.bytes - 10, published.bytes / 2] {
        let mut bytes = fs::read(&published.path).unwrap();
        bytes.truncate(cut as usize);
        let folder = tempfile::tempdir().unwrap();
        let out = salvaged(folder.path(), &bytes).await.unwrap();
        let found = read_all(&out.published.path);
        assert!(found["first/0.txt"] == own, "not that of the other bundle");
        let whole = cut > published.bytes / 2;
        assert_eq!(
            found.get("attached/inner.zip").map(|b| *b == inner),
            whole.then_some(true)
        );
        assert_eq!(found.len(), if whole { 3 } else { 2 }, "{:?}", found.keys());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_bundle_is_salvaged_by_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (paths, writer) = writer(folder.path());
    let facts = MemberFacts::default;
    writer
        .put(spec("a", Compression::Deflate), text(90_000), facts())
        .await
        .unwrap();
    let large = noise(12, 40 << 20);
    let mut torn = writer
        .begin(spec("large", Compression::Deflate))
        .await
        .unwrap();
    torn.write(large.slice(..36 << 20)).await.unwrap();
    torn.abandon("killed").await.unwrap();
    writer.sync().await.unwrap();
    let failure = salvage(salvage_options(folder.path(), &paths.partial), &described)
        .await
        .unwrap_err();
    assert!(failure.why().contains("is writing it"), "{failure}");
    drop(writer);
    let other = tempfile::tempdir().unwrap();
    let source = other.path().join("b.zip.partial");
    fs::copy(&paths.partial, &source).unwrap();
    fs::copy(&paths.journal, other.path().join("b.zip.journal")).unwrap();
    let out = salvage(salvage_options(other.path(), &source), &described)
        .await
        .unwrap();
    assert_eq!(out.truth, Truth::Journal);
    let found = read_all(&out.published.path);
    assert!(found["a"] == text(90_000));
    let back = piece(&found, "large", 0, 16 << 20).expect("its durable chunks");
    assert!(back == &large[..16 << 20]);
    let lost: Vec<_> = out
        .salvage
        .lost
        .iter()
        .map(|l| l.member.as_deref())
        .collect();
    assert_eq!(lost, [Some("large"), None]);
    assert!(source.exists(), "what is salvaged stays as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_never_overwritten_and_a_salvaged_bundle_can_be_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = write(folder.path(), manifest()).await;
    let mut bytes = fs::read(&path).unwrap();
    let bundle = BundleFile::open(&path).unwrap();
    let dump = bundle.member("large/dump.sql").unwrap();
    bytes[dump.chunks[2].offset as usize + 9] ^= 4;
    let first = salvaged(folder.path(), &bytes).await.unwrap();
    let failure = salvaged(folder.path(), &bytes).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");

    let mut again = fs::read(&first.published.path).unwrap();
    let bundle = BundleFile::open(&first.published.path).unwrap();
    let hit = bundle.member("large/noise.bin").unwrap();
    again[hit.chunks[1].offset as usize] ^= 1;
    let second = tempfile::tempdir().unwrap();
    let out = salvaged(second.path(), &again).await.unwrap();
    let lost: Vec<_> = out
        .salvage
        .lost
        .iter()
        .filter_map(|l| l.member.as_deref())
        .collect();
    assert_eq!(
        lost,
        ["large/dump.sql", "large/noise.bin"],
        "what was lost stays lost"
    );
    let found = read_all(&out.published.path);
    assert!(piece(&found, "large/dump.sql", 0, 8 << 20).is_some());
    assert!(piece(&found, "large/noise.bin", 8 << 20, 12 << 20).is_some());
    assert_eq!(out.published.manifest.omissions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_salvage_goes_on_with_what_it_had_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, contents) = write(folder.path(), manifest()).await;
    let bytes = fs::read(&path).unwrap();
    let in_the_way = folder.path().join("out.zip.sha256");
    fs::create_dir(&in_the_way).unwrap();
    let failure = salvaged(folder.path(), &bytes).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(!folder.path().join("out.zip").exists());
    fs::remove_dir(&in_the_way).unwrap();
    let out = salvaged(folder.path(), &bytes).await.unwrap();
    assert_eq!(out.published.kept.members, contents.len() as u64 + 1);
    assert_eq!(out.published.manifest.dead_ranges, []);
    let found = read_all(&out.published.path);
    assert!(contents.iter().all(|(name, bytes)| found[name] == *bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_never_panics_and_never_becomes_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [
        Vec::new(),
        vec![0; 5000],
        noise(5, 1 << 20).to_vec(),
        b"PK\x03\x04".repeat(9000),
    ] {
        let failure = salvaged(folder.path(), &bytes).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Damaged, "{failure}");
        assert!(!folder.path().join("out.zip").exists());
    }
    let (_, writer) = writer(folder.path());
    for i in 0..30 {
        let bytes = if i % 2 == 0 {
            text(3000)
        } else {
            noise(i, 900)
        };
        let facts = MemberFacts::default();
        writer
            .put(spec(&format!("m/{i}"), Compression::Deflate), bytes, facts)
            .await
            .unwrap();
    }
    let good = fs::read(writer.publish(manifest()).await.unwrap().path).unwrap();
    for seed in 0..soak(150, 5000) {
        let mut random = Random::new(seed);
        let mut bad = good.clone();
        for _ in 0..=random.below(6) {
            let (a, b) = (
                random.below(bad.len() as u64) as usize,
                random.below(bad.len() as u64) as usize,
            );
            match random.below(4) {
                0 => bad[a] = random.below(256) as u8,
                1 => bad.swap(a, b),
                2 => drop(bad.splice(a.min(b)..(a.min(b) + 40).min(a.max(b)), [])),
                _ => {
                    let len = (random.below(400) as usize).min(bad.len() - a.max(b));
                    let copy = bad[a..a + len].to_vec();
                    bad[b..b + len].copy_from_slice(&copy);
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let Ok(out) = salvaged(folder.path(), &bad).await else {
            continue;
        };
        for (name, bytes) in read_all(&out.published.path) {
            let Some(i) = name.strip_prefix("m/") else {
                continue;
            };
            let i: u8 = i.parse().unwrap();
            let expected = if i.is_multiple_of(2) {
                text(3000)
            } else {
                noise(i, 900)
            };
            assert!(bytes == expected, "seed {seed}: {name}");
        }
    }
}

#[test]
fn what_a_loss_hurts_is_the_component_it_belongs_to() {
    use arkstream_format::{Component, LostMember};
    let lost = |member: Option<&str>, component| LostMember {
        member: member.map(str::to_owned),
        component,
        rows: None,
        ranges: Vec::new(),
        pieces: Vec::new(),
    };
    let mut salvage = Salvage {
        source: "a".into(),
        source_bytes: 1,
        source_run_id: None,
        at: moment(),
        described: true,
        proven_by_crc: Vec::new(),
        lost: vec![
            lost(Some("databases/chroma_data/x"), Some(Component::Chroma)),
            lost(Some(member_names::LOG), Some(Component::Description)),
        ],
    };
    assert!(salvage.hurts(Component::Chroma) && !salvage.hurts(Component::Models));
    salvage.lost = vec![lost(
        Some(member_names::MODEL_LIST),
        Some(Component::Description),
    )];
    assert!(salvage.hurts(Component::Models) && !salvage.hurts(Component::Graph));
    salvage.lost = vec![lost(None, None)];
    assert!(salvage.hurts(Component::Graph));
}

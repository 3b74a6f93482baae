//! Bundles inside bundles, unfinished and salvaged ones, nonsense, and interrupted salvages.

use super::*;

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
    let lost = lost(&out);
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
    let lost: Vec<_> = lost(&out).into_iter().flatten().collect();
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
        let salvage = out.published.manifest.salvage.unwrap();
        for (name, bytes) in read_all(&out.published.path) {
            let Some(i) = name.strip_prefix("m/") else {
                continue;
            };
            let is_member = |i: u8| match i.is_multiple_of(2) {
                true => bytes == text(3000),
                false => bytes == noise(i, 900),
            };
            // What a CRC-32 alone proves has a name that nothing does.
            let good = match salvage.proven_by_crc.contains(&name) {
                true => (0..30).any(is_member),
                false => i.parse().is_ok_and(is_member),
            };
            assert!(good, "seed {seed}: {name}");
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

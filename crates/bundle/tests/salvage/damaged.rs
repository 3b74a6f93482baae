//! Cut and flipped anywhere: what is undamaged comes back, at whatever proof is left.

use super::*;

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
    let lost: Vec<_> = lost(&out).into_iter().flatten().collect();
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

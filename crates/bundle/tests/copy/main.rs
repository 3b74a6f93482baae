//! Copies that were torn, damaged, left by another bundle, or made onto an older one: the end is the
//! source, byte for byte, or a refusal.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::OnceCell;

use arkstream_bundle::{BundleFile, Copied, CopyOrder, OutputPaths, copy_bundle};
use arkstream_format::Compression;
use arkstream_pipeline::{
    BundleReader as _, BundleSink as _, Cancel, Failure, FailureKind, MemberFacts, Silent,
    Sink as _,
};
use common::{manifest, noise, rows, spec, text, writer};

#[path = "../common/mod.rs"]
mod common;
mod refusals;

/// A bundle of about 21 MB with every kind of piece. `variant` changes one of its parts.
async fn write_bundle(variant: u8) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (paths, writer) = writer(folder.path());
    let streamed = [
        ("a/dump.sql", text(9 << 20)),
        ("b/vectors.bin", noise(2, 9 << 20)),
    ];
    for (name, bytes) in streamed {
        let mut member = writer
            .begin(spec(name, Compression::Deflate))
            .await
            .unwrap();
        for piece in bytes.chunks(1 << 20) {
            member.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        member.finish(MemberFacts::default()).await.unwrap();
    }
    let whole = [
        ("c/empty", Bytes::new(), Compression::Deflate),
        (
            "c/superseded",
            noise(40 + variant, 300_000),
            Compression::Stored,
        ),
        (
            "d/part-00000.parquet",
            noise(3, 6 << 20),
            Compression::Stored,
        ),
        (
            "d/part-00001.parquet",
            noise(50 + variant, 500_000),
            Compression::Stored,
        ),
        (
            "e/part-00002.parquet",
            noise(4, 5 << 20),
            Compression::Stored,
        ),
    ];
    for (name, bytes, compression) in whole {
        writer
            .put(spec(name, compression), bytes, rows(1))
            .await
            .unwrap();
    }
    writer.retract("c/superseded", "superseded").await.unwrap();
    writer.publish(manifest()).await.unwrap();
    let sum = fs::read_to_string(&paths.sha256).unwrap();
    (fs::read(&paths.bundle).unwrap(), sum)
}

/// The same in a folder, with its checksum. It is made once.
async fn bundle(folder: &Path, variant: u8) -> PathBuf {
    static MADE: [OnceCell<(Vec<u8>, String)>; 3] = [const { OnceCell::const_new() }; 3];
    let made = MADE[usize::from(variant)].get_or_init(|| write_bundle(variant));
    let (bytes, sum) = made.await;
    fs::create_dir_all(folder).unwrap();
    let paths = OutputPaths::new(&folder.join("bundle.zip"));
    fs::write(&paths.bundle, bytes).unwrap();
    fs::write(&paths.sha256, sum).unwrap();
    paths.bundle
}

struct World {
    folder: tempfile::TempDir,
    source: PathBuf,
    good: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = bundle(&folder.path().join("source"), 1).await;
        let good = fs::read(&source).unwrap();
        Self {
            folder,
            source,
            good,
        }
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("copy.zip")
    }

    fn copy_with(&self, have: &[PathBuf], replace: bool) -> Result<Copied, Failure> {
        let order = CopyOrder {
            source: &self.source,
            to: &self.to(),
            have,
            replace,
            read_back: false,
        };
        copy_bundle(&order, &Silent, &Cancel::default())
    }

    fn copy(&self) -> Result<Copied, Failure> {
        self.copy_with(&[], false)
    }

    /// The copy is the source, has its checksum, and nothing else is left.
    #[track_caller]
    fn is_identical(&self) {
        assert!(fs::read(self.to()).unwrap() == self.good, "it differs");
        let paths = OutputPaths::new(&self.to());
        assert!(!paths.partial.exists());
        assert!(!beside(&self.to(), ".copy").exists());
        let sum = fs::read_to_string(&paths.sha256).unwrap();
        let of_source = fs::read_to_string(OutputPaths::new(&self.source).sha256).unwrap();
        assert_eq!(sum[..64], of_source[..64]);
        assert!(sum.ends_with("  copy.zip\n"), "{sum}");
    }

    fn start_over(&self) {
        for name in ["", ".partial", ".copy", ".sha256"] {
            let _ = fs::remove_file(beside(&self.to(), name));
        }
    }

    fn partial(&self) -> PathBuf {
        beside(&self.to(), ".partial")
    }

    fn leave_torn(&self, bytes: &[u8]) {
        self.start_over();
        fs::write(self.partial(), bytes).unwrap();
    }

    /// A record that vouches for so many bytes.
    fn record(&self, written: u64) {
        let record = arkstream_format::CopyRecord {
            version: arkstream_format::CopyRecord::VERSION,
            manifest: BundleFile::open(&self.source).unwrap().manifest_digest(),
            bytes: self.good.len() as u64,
            written,
        };
        let text = serde_json::to_vec(&record).unwrap();
        fs::write(beside(&self.to(), ".copy"), text).unwrap();
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Numbers that depend on a seed alone.
struct Random(blake3::OutputReader);

impl Random {
    fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        Self(hasher.update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % limit.max(1) as u64) as usize
    }
}

fn soak(few: u64, many: u64) -> u64 {
    match std::env::var_os("ARKSTREAM_SOAK") {
        Some(value) if value == "1" => many,
        _ => few,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_the_source_byte_for_byte() {
    let world = World::new().await;
    let copied = world.copy().unwrap();
    assert_eq!(copied.bytes, world.good.len() as u64);
    assert_eq!(copied.transferred, copied.bytes);
    assert_eq!((copied.reused, copied.kept, copied.mended), (0, 0, 0));
    assert!(!copied.read_back && !copied.already_there && !copied.replaced);
    world.is_identical();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(world.to()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // Again: it is there already, and every byte of it is proven.
    let again = world.copy().unwrap();
    assert!(again.already_there);
    assert_eq!((again.transferred, again.kept), (0, again.bytes));
    assert_eq!(again.sha256, copied.sha256);
    world.is_identical();
}

/// Cut anywhere, with garbage or zeros wherever, with and without a record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_copies_continue_and_end_identical() {
    let world = World::new().await;
    let len = world.good.len();
    for seed in 0..soak(12, 300) {
        let mut random = Random::new(seed);
        let cut = random.below(len + 1);
        let mut torn = world.good[..cut].to_vec();
        let what = random.below(5);
        let mut spoilt = 0;
        match what {
            // Zeros at the end, perhaps more of them than the source has bytes.
            0 => torn.resize(torn.len() + random.below(len), 0),
            1 if cut > 0 => {
                let (at, run) = (random.below(cut), 1 + random.below(200_000));
                let end = cut.min(at + run);
                torn[at..end].copy_from_slice(&noise(9, end - at));
                spoilt = end - at;
            }
            2 => {
                torn.extend_from_slice(&noise(8, random.below(3 << 20)));
            }
            3 if cut > 0 => {
                let at = random.below(cut);
                torn[at] ^= 1 << random.below(8);
                spoilt = 1;
            }
            _ => {}
        }
        world.leave_torn(&torn);
        let recorded = random.below(3) > 0;
        if recorded {
            world.record(random.below(cut + 1) as u64);
        }
        let copied = world
            .copy()
            .unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        world.is_identical();
        assert_eq!(
            copied.transferred + copied.kept,
            copied.bytes,
            "seed {seed}: {copied:?}"
        );
        // Not more than what is missing or spoilt, and the piece at each edge of it.
        let missing = (len - cut) as u64 + spoilt as u64;
        assert!(
            copied.transferred <= missing + 3 * (4 << 20) + 4096,
            "seed {seed}: {missing} were missing, {copied:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_record_vouches_for_is_read_back_and_made_good() {
    let world = World::new().await;
    let mut torn = world.good[..15 << 20].to_vec();
    torn[1 << 20..2 << 20].fill(0);
    torn[9 << 20] ^= 4;
    world.leave_torn(&torn);
    world.record(14 << 20);
    let copied = world.copy().unwrap();
    assert!(copied.read_back);
    assert!(copied.mended > 0 && copied.mended <= 12 << 20, "{copied:?}");
    assert_eq!(copied.transferred + copied.kept, copied.bytes, "{copied:?}");
    world.is_identical();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_another_bundle_is_never_trusted_by_its_place() {
    let world = World::new().await;
    let other = bundle(&world.folder.path().join("other"), 2).await;
    let torn = fs::read(&other).unwrap();
    world.leave_torn(&torn[..torn.len() - 1000]);
    // Its record would let all of it pass.
    let mut record =
        serde_json::json!({"version": 1, "bytes": world.good.len(), "written": 15 << 20});
    record["manifest"] =
        serde_json::to_value(BundleFile::open(&other).unwrap().manifest_digest()).unwrap();
    fs::write(beside(&world.to(), ".copy"), record.to_string()).unwrap();
    let copied = world.copy().unwrap();
    world.is_identical();
    assert!(!copied.read_back, "nothing was passed over");
    // What is equal at its place is kept, by its hash.
    assert!(copied.kept > 12 << 20, "{copied:?}");
    assert!(copied.transferred >= 500_000, "{copied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn onto_an_older_bundle_only_what_differs_is_transferred() {
    let world = World::new().await;
    let older = bundle(&world.folder.path().join("older"), 2).await;
    let few = |copied: &Copied| {
        assert!(
            copied.transferred * 10 <= copied.bytes,
            "{} of {}",
            copied.transferred,
            copied.bytes
        );
        assert_eq!(copied.transferred + copied.reused, copied.bytes);
    };
    // Named.
    few(&world
        .copy_with(std::slice::from_ref(&older), false)
        .unwrap());
    world.is_identical();
    world.start_over();
    // Under the final name: refused, and as it was; replaced on request.
    fs::copy(&older, world.to()).unwrap();
    fs::write(beside(&world.to(), ".sha256"), "of the older one").unwrap();
    let refused = world.copy().unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(
        refused.why().contains("another bundle stands there"),
        "{refused}"
    );
    assert!(
        refused.advice().unwrap().contains("--replace"),
        "{refused:?}"
    );
    assert!(fs::read(world.to()).unwrap() == fs::read(&older).unwrap());
    assert!(!world.partial().exists());
    let copied = world.copy_with(&[], true).unwrap();
    few(&copied);
    assert!(copied.replaced);
    world.is_identical();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_copy_that_is_named_supplies_what_is_good_of_it() {
    let world = World::new().await;
    let torn = world.folder.path().join("torn.zip");
    let mut bytes = world.good[..world.good.len() - 100_000].to_vec();
    bytes[5 << 20] ^= 1;
    fs::write(&torn, bytes).unwrap();
    let copied = world.copy_with(&[torn], false).unwrap();
    world.is_identical();
    assert!(copied.reused > 12 << 20, "{copied:?}");
    assert_eq!(copied.transferred + copied.reused, copied.bytes);
}

/// Wherever a bit of an older bundle is flipped, the copy is whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_an_older_bundle_is_fetched_from_the_source() {
    let world = World::new().await;
    let older = bundle(&world.folder.path().join("older"), 2).await;
    let good = fs::read(&older).unwrap();
    for seed in 0..soak(6, 100) {
        let mut random = Random::new(seed);
        let mut bad = good.clone();
        for _ in 0..=random.below(4) {
            // Its manifest stands behind the last 20,000 bytes.
            let at = random.below(bad.len() - 20_000);
            bad[at] ^= 1 << random.below(8);
        }
        fs::write(&older, &bad).unwrap();
        world.start_over();
        let copied = world
            .copy_with(std::slice::from_ref(&older), false)
            .unwrap();
        world.is_identical();
        assert!(copied.reused > 0, "seed {seed}: {copied:?}");
    }
}

/// Wherever a bit of the source is flipped: nothing under the final name, the place named; and another
/// copy of the bundle supplies what is damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_the_source_is_named_and_nothing_is_published() {
    let world = World::new().await;
    let spare = world.folder.path().join("spare.zip");
    fs::copy(&world.source, &spare).unwrap();
    let manifest = BundleFile::open(&world.source).unwrap().manifest().clone();
    let mut places: Vec<usize> = manifest
        .members
        .iter()
        .flat_map(|member| {
            let chunks = member.chunks.iter().map(|chunk| chunk.offset as usize + 17);
            chunks.chain([member.header_offset as usize + 12])
        })
        .collect();
    places.push(manifest.dead_ranges[0].offset as usize + 1000);
    // The directory's first entry stands behind the manifest; its date here.
    let end = world
        .good
        .windows(4)
        .rposition(|four| four == b"PK\x05\x06")
        .unwrap();
    let directory = u32::from_le_bytes(world.good[end + 16..end + 20].try_into().unwrap());
    places.push(directory as usize + 13);
    let mut random = Random::new(4);
    for round in 0..soak(8, places.len() as u64) {
        let at = places[match soak(0, 1) {
            0 => random.below(places.len()),
            _ => round as usize,
        }];
        let mut bad = world.good.clone();
        bad[at] ^= 0x10;
        fs::write(&world.source, &bad).unwrap();
        world.start_over();
        let failure = world.copy().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Damaged, "{at}: {failure}");
        assert!(failure.why().contains("bytes "), "{failure}");
        assert!(!world.to().exists() && world.partial().exists());
        let member = manifest
            .members
            .iter()
            .find(|member| {
                member.chunks.iter().any(|chunk| {
                    let start = chunk.offset as usize;
                    (start..start + chunk.stored_len as usize).contains(&at)
                })
            })
            .map(|member| &member.name);
        if let Some(name) = member {
            assert!(failure.why().contains(name.as_str()), "{failure}");
            // What was copied stays, and what is damaged comes from elsewhere.
            let copied = world
                .copy_with(std::slice::from_ref(&spare), false)
                .unwrap();
            assert!(copied.reused > 0);
            world.is_identical();
        }
        // Once the source is whole again, the copy goes on.
        fs::write(&world.source, &world.good).unwrap();
        let _ = world.copy().unwrap();
        world.is_identical();
    }
}

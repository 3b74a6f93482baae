//! Bundles that are built upon an older one: whatever happened to the sources, to the older bundle or to
//! the run, they hold what there is now, and need nothing of the older one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use arkstream_bundle::{BundleFile, BundleWriter, Leftover, Opened, OutputPaths, SpaceWait};
use arkstream_format::{Component, Compression, FileProof, Generation, Manifest, Member, Proof};
use arkstream_pipeline::{
    BundleSink as _, Cancel, Event, MemberFacts, Observer, Published, Sink as _,
};
use common::{
    Random, beginning,
    killed::{Contents, check, kill},
    manifest, noise, soak, spec, text,
};

#[path = "../common/mod.rs"]
mod common;
mod offers;

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Observer for Warnings {
    fn event(&self, event: &Event) {
        if let Event::Warning(warning) = event {
            self.0.lock().unwrap().push(warning.clone());
        }
    }
}

/// Files with a version each, which proves them, and streams that have to be read.
#[derive(Clone, Default)]
struct World {
    contents: Contents,
    versions: BTreeMap<String, u64>,
    clock: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        for (name, bytes, streamed) in [
            ("a/small.txt", text(3000), false),
            ("a/empty", Bytes::new(), false),
            ("b/noise.bin", noise(1, 700_000), false),
            ("c/dump.sql", text(9 << 20), true),
            ("d/large.txt", text(5 << 20), false),
            ("e/part-00000.parquet", noise(3, 1 << 20), false),
            ("g/last.sql", text(300_000), true),
        ] {
            world.set(name, bytes, streamed);
        }
        world
    }

    fn set(&mut self, name: &str, bytes: Bytes, streamed: bool) {
        self.clock += 1;
        self.versions.insert(name.to_owned(), self.clock);
        self.contents.insert(name.to_owned(), (bytes, streamed));
    }

    fn proof(&self, name: &str) -> Proof {
        Proof::File(FileProof {
            inode: self.versions[name],
            size: self.contents[name].0.len() as u64,
            mtime_ns: 0,
            ctime_ns: 0,
            seen_ns: i64::MAX,
        })
    }

    /// Something changes, at any place and in length, comes or goes.
    fn change(&mut self, random: &mut Random) {
        let index = random.below(self.contents.len() as u64) as usize;
        let (name, (bytes, streamed)) = self.contents.iter().nth(index).unwrap();
        let (name, streamed, mut bytes) = (name.clone(), *streamed, bytes.to_vec());
        match random.below(4) {
            // In place, as a page of a database is.
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 0x55;
            }
            1 => bytes.truncate(random.below(bytes.len() as u64 + 1) as usize),
            2 => bytes.extend_from_slice(&noise(7, random.below(2 << 20) as usize)),
            _ if self.contents.len() > 3 => {
                self.contents.remove(&name);
                self.versions.remove(&name);
                let new = format!("n/{}", self.clock);
                return self.set(&new, text(random.below(5 << 20) as usize), streamed);
            }
            _ => {}
        }
        self.set(&name, bytes.into(), streamed);
    }

    /// What a run does: keeps what is proven, writes the rest. Stops before a member, as a kill does.
    async fn write(&self, writer: &BundleWriter, until: usize) {
        let earlier = writer.earlier(Component::Filestore).await.unwrap();
        let earlier: BTreeMap<String, Member> =
            earlier.into_iter().map(|m| (m.name.clone(), m)).collect();
        for (name, (bytes, streamed)) in self.contents.iter().take(until) {
            let proof = self.proof(name);
            let proven = earlier.get(name).filter(|m| m.proof == Some(proof.clone()));
            if let (Some(_), false) = (proven, streamed)
                && let Some(kept) = writer.keep(name, None).await.unwrap()
            {
                assert_eq!(kept.raw_len, bytes.len() as u64);
                continue;
            }
            let spec = spec(name, Compression::Deflate);
            let facts = MemberFacts {
                rows: None,
                proof: (!streamed).then_some(proof),
            };
            if *streamed || bytes.len() > 4 << 20 {
                let mut member = writer.begin(spec).await.unwrap();
                for piece in bytes.chunks(1 << 20) {
                    member.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                member.finish(facts).await.unwrap();
            } else {
                writer.put(spec, bytes.clone(), facts).await.unwrap();
            }
        }
        writer.sync().await.unwrap();
    }
}

struct Run {
    writer: Arc<BundleWriter>,
    opened: (Vec<Generation>, Manifest),
    warnings: Arc<Warnings>,
}

async fn open(paths: &OutputPaths, base: Option<&Path>) -> Run {
    let warnings = Arc::new(Warnings::default());
    loop {
        let leftover = Leftover::Continue {
            recheck: false,
            insist: false,
        };
        let wait = SpaceWait {
            limit: Duration::ZERO,
            cancel: Cancel::default(),
            observer: warnings.clone(),
        };
        let base = base.map(|path| BundleFile::open(path).unwrap());
        match BundleWriter::open_upon(paths.clone(), beginning("plan"), leftover, wait, base) {
            Ok(Opened {
                writer,
                generations,
                bases,
                ..
            }) => {
                let manifest = Manifest {
                    bases,
                    ..manifest()
                };
                return Run {
                    writer: Arc::new(writer),
                    opened: (generations, manifest),
                    warnings,
                };
            }
            // The lock goes with the thread of the writer before.
            Err(failure) if failure.why().contains("another run") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}

impl Run {
    async fn publish(&self) -> Published {
        let manifest = self.opened.1.clone();
        self.writer.publish(manifest).await.unwrap()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.0.lock().unwrap().clone()
    }
}

async fn whole(world: &World, folder: &Path, name: &str, base: Option<&Path>) -> (Run, Published) {
    let paths = OutputPaths::new(&folder.join(name));
    let run = open(&paths, base).await;
    world.write(&run.writer, usize::MAX).await;
    let published = run.publish().await;
    check(&published, &world.contents);
    (run, published)
}

fn member<'a>(published: &'a Published, name: &str) -> &'a Member {
    let mut members = published.manifest.members.iter();
    members.find(|member| member.name == name).unwrap()
}

fn stored(member: &Member) -> u64 {
    member.chunks.iter().map(|c| u64::from(c.stored_len)).sum()
}

fn copied(member: &Member) -> Option<u64> {
    member.copied.map(|copied| copied.bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unchanged_is_copied_and_the_older_bundle_is_not_needed_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let (_, first) = whole(&world, folder.path(), "1.zip", None).await;
    assert!(
        first
            .manifest
            .members
            .iter()
            .all(|member| member.copied.is_none())
    );
    let (_, second) = whole(&world, folder.path(), "2.zip", Some(&first.path)).await;
    fs::remove_file(&first.path).unwrap();
    let members = second.manifest.members.iter();
    for member in members.filter(|member| !member.is_index()) {
        assert_eq!(copied(member), Some(stored(member)), "{}", member.name);
    }
    let [base] = &second.manifest.bases[..] else {
        panic!("{:?}", second.manifest.bases);
    };
    assert_eq!((base.number, &*base.name), (1, "1.zip"));
    assert_eq!(base.copied_sum().members, world.contents.len() as u64);

    world.set("a/small.txt", text(4000), false);
    let (_, third) = whole(&world, folder.path(), "3.zip", Some(&second.path)).await;
    fs::remove_file(&second.path).unwrap();
    check(&third, &world.contents);
    assert_eq!(copied(member(&third, "a/small.txt")), None);
    assert_eq!(third.manifest.bases.len(), 1, "the one before is forgotten");
    assert_eq!(third.manifest.dead_ranges, []);
    assert_eq!(
        third.manifest.bases[0].copied_sum().members,
        world.contents.len() as u64 - 1
    );
}

/// As a page of a database changes, and everything behind it stays where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_stream_the_chunks_that_are_equal_are_copied_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let (_, first) = whole(&world, folder.path(), "1.zip", None).await;
    let mut dump = world.contents["c/dump.sql"].0.to_vec();
    dump[5 << 20] ^= 1;
    world.set("c/dump.sql", dump.into(), true);
    let (_, second) = whole(&world, folder.path(), "2.zip", Some(&first.path)).await;
    let there = member(&second, "c/dump.sql");
    let own = u64::from(there.chunks[1].stored_len);
    assert_eq!(there.chunks.len(), 3);
    assert_eq!(copied(there), Some(stored(there) - own));
    let sum = second.manifest.bases[0].copied[&Component::Filestore];
    assert_eq!(sum.members, world.contents.len() as u64 - 1);
}

/// One flipped bit anywhere in the data of the older bundle costs what it hit, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_in_the_older_bundle_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let (_, first) = whole(&world, folder.path(), "1.zip", None).await;
    let good = fs::read(&first.path).unwrap();
    let mut random = Random::new(3);
    for round in 0..soak(8, 300) {
        let members = first.manifest.members.iter();
        let members: Vec<_> = members.filter(|member| !member.is_index()).collect();
        let hit = members[random.below(members.len() as u64) as usize];
        if hit.chunks.is_empty() {
            continue;
        }
        let index = random.below(hit.chunks.len() as u64) as usize;
        let chunk = &hit.chunks[index];
        let at = chunk.offset + random.below(chunk.stored_len.into());
        let mut bytes = good.clone();
        bytes[at as usize] ^= 1 << random.below(8);
        let base = folder.path().join("damaged.zip");
        fs::write(&base, bytes).unwrap();
        let name = format!("{round}.new.zip");
        let (run, published) = whole(&world, folder.path(), &name, Some(&base)).await;
        let warnings = run.warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains(&hit.name),
            "{} chunk {index}: {warnings:?}",
            hit.name
        );
        let now = member(&published, &hit.name);
        let expected = match world.contents[&hit.name].1 {
            // The other chunks of a stream are good.
            true => stored(now) - u64::from(now.chunks[index].stored_len),
            // Made anew, it is hashed chunk by chunk like a stream.
            false => copied(now).unwrap_or_default(),
        };
        assert_eq!(copied(now).unwrap_or_default(), expected, "{}", hit.name);
        assert!(expected < stored(now));
        assert_eq!(published.manifest.dead_ranges, [], "{}", hit.name);
        let whole = published.manifest.bases[0].copied_sum().members;
        assert_eq!(whole, members.len() as u64 - 1);
        fs::remove_file(published.path).unwrap();
    }
}

/// Cut off while it was open: an open file is what it was, or it ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_bundle_that_is_cut_off_meanwhile_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new();
    let (_, first) = whole(&world, folder.path(), "1.zip", None).await;
    let paths = OutputPaths::new(&folder.path().join("2.zip"));
    let run = open(&paths, Some(&first.path)).await;
    fs::File::options()
        .write(true)
        .open(&first.path)
        .unwrap()
        .set_len(100)
        .unwrap();
    world.write(&run.writer, usize::MAX).await;
    let published = run.publish().await;
    check(&published, &world.contents);
    assert!(run.warnings().len() > 1);
    assert_eq!(published.manifest.dead_ranges, []);
}

/// Kills, changes, damage, with and without the older bundle, and upon others.
async fn run_upon_older_ones(seed: u64) {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let mut older: Vec<PathBuf> = Vec::new();
    for number in 0..3 {
        let paths = OutputPaths::new(&folder.path().join(format!("{number}.zip")));
        let any = |random: &mut Random| {
            let which = random.below(older.len() as u64 + 1) as usize;
            older.get(which).cloned()
        };
        for _ in 0..random.below(3) {
            let run = open(&paths, any(&mut random).as_deref()).await;
            let until = random.below(world.contents.len() as u64 + 1) as usize;
            world.write(&run.writer, until).await;
            kill(&paths, &mut random);
            drop(run);
            if random.below(2) == 0 {
                world.change(&mut random);
            }
        }
        let base = older.last().cloned().or_else(|| any(&mut random));
        let run = open(&paths, base.as_deref()).await;
        world.write(&run.writer, usize::MAX).await;
        let published = run.publish().await;
        check(&published, &world.contents);
        for base in &published.manifest.bases {
            assert_eq!(base.copied, base.copied_in(&published.manifest.members));
        }
        older.push(published.path.clone());
        for _ in 0..random.below(3) {
            world.change(&mut random);
        }
        if random.below(3) == 0 {
            let mut bytes = fs::read(&published.path).unwrap();
            // The data, not the manifest: without it there is no older bundle.
            let end = published.manifest.members.last().unwrap().data_offset;
            let at = random.below(end) as usize;
            bytes[at] ^= 1;
            fs::write(&published.path, bytes).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_anywhere_upon_any_older_bundle_the_new_one_is_whole() {
    for seed in 0..soak(3, 1500) {
        println!("seed {seed}");
        run_upon_older_ones(seed).await;
    }
}

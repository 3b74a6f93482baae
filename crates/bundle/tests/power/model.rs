//! Random sequences of what a run may ask of a bundle, with ends at any place, held against a map in
//! memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{
    prelude::*,
    test_runner::{Config, FileFailurePersistence},
};

use arkstream_bundle::BundleWriter;
use arkstream_format::{Compression, Crc32};
use arkstream_pipeline::{BundleSink as _, PendingReceipt, Sink as _};

use crate::{
    block_on,
    check::is_whole,
    common::{self, manifest, noise, text},
    disk::{Image, SimDisk},
    loss::{Survival, power_cut},
    script::{CONTINUE, Contents, Promises, Shape, add, generation, long, open, proof, spec},
    soak,
};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Stream(usize, Vec<u8>),
    /// A stream that is given up behind so many bytes, politely or not.
    GiveUp(usize, Vec<u8>, usize, bool),
    Retract(usize),
    Keep(usize, bool),
    SetAside,
    Generation,
    Sync,
    End(End),
}

/// The run ends, at a place between its first change of the disk and its last.
#[derive(Clone, Debug)]
struct End {
    place: prop::sample::Index,
    survival: Option<Survival>,
}

const NAMES: [&str; 5] = ["a", "b/c", "b/d", "e", "f/g/h"];

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let chunks = || prop::collection::vec(1u8..4, 0..3);
    let survival = prop_oneof![
        Just(None),
        Just(Some(Survival::Nothing)),
        Just(Some(Survival::Everything)),
        any::<u64>().prop_map(|seed| Some(Survival::Some(seed))),
    ];
    prop_oneof![
        4 => (name(), 0u8..4).prop_map(|(name, kind)| Step::Put(name, kind)),
        2 => (name(), chunks()).prop_map(|(name, chunks)| Step::Stream(name, chunks)),
        2 => (name(), chunks(), 0usize..9 << 20, any::<bool>())
            .prop_map(|(name, chunks, upto, polite)| Step::GiveUp(name, chunks, upto, polite)),
        1 => name().prop_map(Step::Retract),
        2 => (name(), any::<bool>()).prop_map(|(name, proven)| Step::Keep(name, proven)),
        1 => Just(Step::SetAside),
        1 => Just(Step::Generation),
        3 => Just(Step::Sync),
        3 => (any::<prop::sample::Index>(), survival)
            .prop_map(|(place, survival)| Step::End(End { place, survival })),
    ]
}

fn content(kind: u8) -> Bytes {
    match kind {
        0 => Bytes::new(),
        1 => text(700),
        2 => noise(2, 20_000),
        _ => text(5000),
    }
}

/// The plain model, and the bundle that is held against it.
struct World {
    disk: SimDisk,
    writer: BundleWriter,
    /// Changes of the disk before this run.
    begun: usize,
    /// Members of this generation.
    current: BTreeMap<String, Bytes>,
    /// Members of those before.
    earlier: BTreeMap<String, Bytes>,
    /// Everything that was ever given to the bundle, by name.
    given: Vec<(String, Bytes)>,
    promises: Promises,
    receipts: Vec<(PendingReceipt, String, Bytes)>,
}

impl World {
    async fn new() -> Self {
        let disk = SimDisk::of(Image::empty());
        let (writer, _) = open(&disk, CONTINUE).await.unwrap();
        Self {
            disk,
            writer,
            begun: 0,
            current: BTreeMap::new(),
            earlier: BTreeMap::new(),
            given: Vec::new(),
            promises: Promises::default(),
            receipts: Vec::new(),
        }
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Put(name, kind) => self.add(NAMES[name], content(kind), false).await,
            Step::Stream(name, chunks) => self.add(NAMES[name], long(&chunks, 100), true).await,
            Step::GiveUp(name, chunks, upto, polite) => {
                let bytes = long(&chunks, 100);
                let bytes = bytes.slice(..upto.min(bytes.len()));
                self.give_up(NAMES[name], bytes, polite).await
            }
            Step::Retract(name) => {
                let name = NAMES[name];
                if self.current.contains_key(name) || self.earlier.contains_key(name) {
                    self.promises.withdrawn(&self.disk, name);
                    self.writer.retract(name, "gone").await.unwrap();
                    self.current.remove(name);
                    self.earlier.remove(name);
                    self.receipts.retain(|(_, of, _)| of != name);
                }
            }
            Step::Keep(name, proven) => {
                if let Some(bytes) = self.earlier.remove(NAMES[name]) {
                    let proof = proven.then(proof);
                    self.writer.keep(NAMES[name], proof).await.unwrap();
                    self.current.insert(NAMES[name].to_owned(), bytes);
                }
            }
            Step::SetAside => {
                self.writer.set_aside().await.unwrap();
                self.earlier.append(&mut self.current);
            }
            Step::Generation => self.writer.begin_generation(generation(1)).await.unwrap(),
            Step::Sync => self.sync().await,
            Step::End(end) => return self.end(&end).await,
        }
        Ok(())
    }

    async fn add(&mut self, name: &str, bytes: Bytes, streamed: bool) {
        if self.current.contains_key(name) {
            return;
        }
        if self
            .earlier
            .remove(name)
            .is_some_and(|there| there != bytes)
        {
            self.promises.withdrawn(&self.disk, name);
            self.receipts.retain(|(_, of, _)| of != name);
        }
        let shape = Shape {
            bytes: bytes.clone(),
            compression: Compression::Deflate,
            streamed,
        };
        self.given.push((name.to_owned(), bytes.clone()));
        let receipt = add(&self.writer, name, &shape).await.unwrap();
        self.receipts
            .push((receipt, name.to_owned(), bytes.clone()));
        self.current.insert(name.to_owned(), bytes);
    }

    async fn give_up(&mut self, name: &str, bytes: Bytes, polite: bool) {
        if self.current.contains_key(name) {
            return;
        }
        if self.earlier.contains_key(name) {
            self.promises.withdrawn(&self.disk, name);
            self.receipts.retain(|(_, of, _)| of != name);
        }
        let spec = spec(name, Compression::Deflate);
        let mut member = self.writer.begin(spec).await.unwrap();
        member.write(bytes).await.unwrap();
        match polite {
            true => member.abandon("given up").await.unwrap(),
            false => drop(member),
        }
        // As long as it equalled what is there, that stays.
        let there = self.found().await;
        self.earlier
            .retain(|of, _| of != name || there.contains_key(name));
    }

    async fn sync(&mut self) {
        self.writer.sync().await.unwrap();
        for (receipt, name, bytes) in self.receipts.drain(..) {
            receipt.wait().await.unwrap();
            self.promises.durable(&self.disk, &name, &bytes);
        }
    }

    /// Earlier members that the bundle speaks of, by name: length and CRC.
    async fn found(&self) -> BTreeMap<String, (u64, Crc32)> {
        let component = common::spec("", Compression::Stored).component;
        let earlier = self.writer.earlier(component).await.unwrap();
        let summed = |member: arkstream_format::Member| (member.raw_len, member.crc32);
        let named = earlier
            .into_iter()
            .map(|member| (member.name.clone(), summed(member)));
        named.collect()
    }

    /// Ends the run, and begins the next.
    async fn end(&mut self, end: &End) -> Result<(), String> {
        let (base, log) = self.disk.history();
        let at = self.begun + end.place.index(log.len() - self.begun + 1);
        let (disk, begun) = match end.survival {
            None => (SimDisk::replayed(base, &log[..at]), at),
            Some(survival) => (SimDisk::of(power_cut(&base, &log[..at], survival)), 0),
        };
        let (writer, resumed) = open(&disk, CONTINUE)
            .await
            .map_err(|failure| format!("it cannot be continued: {failure}"))?;
        let damaged = resumed.map(|resumed| resumed.damaged).unwrap_or_default();
        if !damaged.is_empty() {
            return Err(format!("damaged: {damaged:?}"));
        }
        (self.disk, self.writer, self.begun) = (disk, writer, begun);
        self.receipts.clear();
        self.current.clear();
        self.earlier.clear();
        let found = self.found().await;
        let summed = |bytes: &Bytes| (bytes.len() as u64, Crc32::of(bytes));
        let (durable, _) = self.promises.after(at);
        for (name, bytes) in &durable {
            if found.get(*name) != Some(&summed(bytes)) {
                return Err(format!("{name} was durable, and is {:?}", found.get(*name)));
            }
        }
        for (name, sums) in found {
            let mut given = self.given.iter();
            let (_, bytes) = given
                .find(|(of, bytes)| *of == name && summed(bytes) == sums)
                .ok_or_else(|| format!("nobody ever gave {name} like that"))?;
            self.earlier.insert(name, bytes.clone());
        }
        self.promises = self.promises.as_of(at);
        Ok(())
    }

    /// Publishes what is there, and cuts the power.
    async fn publish(mut self) -> Result<(), String> {
        for name in std::mem::take(&mut self.earlier).into_iter() {
            self.writer.keep(&name.0, None).await.unwrap();
            self.current.insert(name.0, name.1);
        }
        self.writer.publish(manifest()).await.unwrap();
        let shape = |bytes| Shape {
            bytes,
            compression: Compression::Deflate,
            streamed: false,
        };
        let contents: Contents = self
            .current
            .into_iter()
            .map(|(name, bytes)| (name, shape(bytes)))
            .collect();
        let (base, log) = self.disk.history();
        let left = SimDisk::of(power_cut(&base, &log, Survival::Nothing));
        is_whole(&left, &contents)
    }
}

proptest! {
    #![proptest_config(Config {
        cases: soak(32, 4000),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/power/model.regressions",
        ))),
        ..Config::default()
    })]

    #[test]
    fn whatever_was_acknowledged_is_there_after_any_end(steps in prop::collection::vec(step(), 1..30)) {
        block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.step(step).await.map_err(TestCaseError::fail)?;
            }
            world.publish().await.map_err(TestCaseError::fail)
        })?;
    }
}

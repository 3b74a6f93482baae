//! The sink of tests: everything in memory, to be looked at afterwards.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arkstream_format::{
    CHUNK_SIZE, Chunk, Component, Compression, Crc32, Digest, Generation, Manifest, Member, Proof,
    check_name,
};
use arkstream_pipeline::{
    Budget, BundleSink, Cancel, Failure, FailureKind, Kept, MemberFacts, MemberSpec, MemberWriter,
    PendingReceipt, Published, Receipt, Run, Silent, Sink,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// Keeps members in memory. Clones are one sink. Receipts come with [`Sink::sync`] and not before, as
/// with a real group sync.
#[derive(Clone, Default)]
pub struct MemorySink {
    state: Arc<Mutex<State>>,
    on_begin: Option<Hook>,
    on_write: Option<Hook>,
    largest_piece: Option<usize>,
}

#[derive(Default)]
struct State {
    members: Vec<(Member, Bytes)>,
    earlier: BTreeMap<String, (Member, Bytes)>,
    waiting: Vec<(oneshot::Sender<Receipt>, Member)>,
    retracted: Vec<String>,
    abandoned: Vec<String>,
    generations: Vec<Generation>,
    published: bool,
}

impl MemorySink {
    /// Calls `hook` with a member's name before its first byte is taken.
    #[must_use]
    pub fn on_begin(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_begin = Some(Arc::new(hook));
        self
    }

    /// Calls `hook` with a member's name whenever a piece of it was taken.
    #[must_use]
    pub fn on_write(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_write = Some(Arc::new(hook));
        self
    }

    /// Panics where a writer is given more bytes at once.
    #[must_use]
    pub fn with_pieces_up_to(mut self, bytes: usize) -> Self {
        self.largest_piece = Some(bytes);
        self
    }

    /// A run into this sink that nobody watches.
    #[must_use]
    pub fn run(&self, jobs: usize) -> Run {
        Run::new(
            Arc::new(self.clone()),
            Arc::new(Silent),
            Cancel::default(),
            Budget::new(64 << 20),
            jobs,
        )
    }

    /// What a run that continues this one finds.
    #[must_use]
    pub fn interrupted(&self) -> Self {
        let earlier = self.state().members.clone();
        let state = State {
            earlier: earlier
                .into_iter()
                .map(|(member, bytes)| (member.name.clone(), (member, bytes)))
                .collect(),
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            ..self.clone()
        }
    }

    /// Finished members by name: bytes and rows.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, (Bytes, Option<u64>)> {
        let state = self.state();
        let members = state.members.iter();
        members
            .map(|(member, bytes)| (member.name.clone(), (bytes.clone(), member.rows)))
            .collect()
    }

    /// Names of finished members that begin with `start`, sorted.
    #[must_use]
    pub fn names(&self, start: &str) -> Vec<String> {
        let mut names: Vec<String> = self.contents().into_keys().collect();
        names.retain(|name| name.starts_with(start));
        names
    }

    /// A finished member's bytes. Panics when there is none of that name.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Bytes {
        self.find(name).1
    }

    /// A finished member. Panics when there is none of that name.
    #[must_use]
    pub fn member(&self, name: &str) -> Member {
        self.find(name).0
    }

    /// Members that were retracted, in that order.
    #[must_use]
    pub fn retracted(&self) -> Vec<String> {
        self.state().retracted.clone()
    }

    /// Members that were given up, in that order.
    #[must_use]
    pub fn abandoned(&self) -> Vec<String> {
        self.state().abandoned.clone()
    }

    /// Whether a member's receipt was delivered or could be.
    #[must_use]
    pub fn is_durable(&self, name: &str) -> bool {
        let state = self.state();
        let waits = state.waiting.iter().any(|(_, member)| member.name == name);
        state.members.iter().any(|(member, _)| member.name == name) && !waits
    }

    fn find(&self, name: &str) -> (Member, Bytes) {
        let state = self.state();
        let found = state.members.iter().find(|(member, _)| member.name == name);
        found
            .unwrap_or_else(|| panic!("{name} is not there"))
            .clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        spec: &MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        let mut state = self.state();
        state.is_open()?;
        if state
            .members
            .iter()
            .any(|(member, _)| member.name == spec.name)
        {
            return Err(refused(&spec.name, "there is one of that name"));
        }
        let member = member(spec, &bytes, facts);
        state.earlier.remove(&spec.name);
        state.members.push((member.clone(), bytes));
        let (sender, pending) = PendingReceipt::new();
        state.waiting.push((sender, member));
        Ok(pending)
    }
}

impl State {
    fn is_open(&self) -> Result<(), Failure> {
        match self.published {
            true => Err(refused("anything", "the bundle is published")),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemorySink").field(&self.names("")).finish()
    }
}

fn refused(name: &str, why: &str) -> Failure {
    Failure::new(FailureKind::Internal, format!("take member {name}"), why)
}

fn check(spec: &MemberSpec) -> Result<(), Failure> {
    check_name(&spec.name)
        .map_err(|why| Failure::new(FailureKind::Source, format!("add {:?}", spec.name), why))
}

fn member(spec: &MemberSpec, bytes: &Bytes, facts: MemberFacts) -> Member {
    let mut offset = 0;
    let chunks: Vec<Chunk> = bytes
        .chunks(CHUNK_SIZE)
        .map(|piece| {
            let chunk = Chunk {
                offset,
                raw_len: piece.len() as u32,
                stored_len: piece.len() as u32,
                crc32: Crc32::of(piece),
                blake3: Digest::of(piece),
                stored_blake3: None,
            };
            offset += piece.len() as u64;
            chunk
        })
        .collect();
    Member {
        name: spec.name.clone(),
        component: spec.component,
        compression: Compression::Stored,
        header_offset: 0,
        data_offset: 0,
        raw_len: offset,
        stored_len: offset,
        crc32: Crc32::of(bytes),
        digest: Digest::of_chunks(chunks.iter().map(|chunk| &chunk.blake3)),
        descriptor: false,
        modified_at: spec.modified_at,
        mode: spec.mode,
        rows: facts.rows,
        proof: facts.proof,
        copied: None,
        chunks,
    }
}

#[async_trait]
impl Sink for MemorySink {
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        check(&spec)?;
        self.add(&spec, bytes, facts)
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        check(&spec)?;
        self.state().is_open()?;
        if let Some(hook) = &self.on_begin {
            hook(&spec.name);
        }
        Ok(Box::new(MemoryWriter {
            sink: self.clone(),
            spec,
            bytes: Vec::new(),
        }))
    }

    async fn retract(&self, name: &str, _reason: &str) -> Result<(), Failure> {
        let mut state = self.state();
        let found = state
            .members
            .iter()
            .position(|(member, _)| member.name == name);
        match found {
            Some(index) => drop(state.members.remove(index)),
            None if state.earlier.remove(name).is_some() => {}
            None => return Err(refused(name, "there is none of that name to retract")),
        }
        state.retracted.push(name.to_owned());
        Ok(())
    }

    async fn earlier(&self, component: Component) -> Result<Vec<Member>, Failure> {
        let state = self.state();
        let members = state.earlier.values().map(|(member, _)| member);
        Ok(members
            .filter(|member| member.component == component)
            .cloned()
            .collect())
    }

    async fn keep(&self, name: &str, proof: Option<Proof>) -> Result<Option<Member>, Failure> {
        let mut state = self.state();
        let (mut member, bytes) = state
            .earlier
            .remove(name)
            .ok_or_else(|| refused(name, "there is none of that name to keep"))?;
        member.proof = proof.or(member.proof);
        state.members.push((member.clone(), bytes));
        Ok(Some(member))
    }

    async fn prove(&self, name: &str, proof: Proof) -> Result<(), Failure> {
        let mut state = self.state();
        let mut members = state.members.iter_mut().rev();
        let found = members.find(|(member, _)| member.name == name);
        let (member, _) =
            found.ok_or_else(|| refused(name, "there is none of that name to prove"))?;
        member.proof = Some(proof);
        Ok(())
    }

    async fn sync(&self) -> Result<(), Failure> {
        let mut state = self.state();
        state.is_open()?;
        for (sender, member) in state.waiting.drain(..) {
            // Whoever does not wait for the receipt does not want it.
            let _ = sender.send(Receipt { member });
        }
        Ok(())
    }
}

#[async_trait]
impl BundleSink for MemorySink {
    async fn begin_generation(&self, generation: Generation) -> Result<(), Failure> {
        self.state().generations.push(generation);
        self.sync().await
    }

    async fn set_aside(&self) -> Result<(), Failure> {
        let mut state = self.state();
        let members = std::mem::take(&mut state.members);
        let named = members
            .into_iter()
            .map(|(member, bytes)| (member.name.clone(), (member, bytes)));
        state.earlier.extend(named);
        Ok(())
    }

    async fn members(&self) -> Result<Vec<Member>, Failure> {
        let state = self.state();
        Ok(state.members.iter().map(|(m, _)| m.clone()).collect())
    }

    async fn publish(&self, mut manifest: Manifest) -> Result<Published, Failure> {
        self.sync().await?;
        manifest.members = self.members().await?;
        let mut state = self.state();
        state.is_open()?;
        state.published = true;
        Ok(Published {
            path: "memory".into(),
            bytes: 0,
            kept: Kept::default(),
            sha256: String::new(),
            manifest,
        })
    }
}

struct MemoryWriter {
    sink: MemorySink,
    spec: MemberSpec,
    bytes: Vec<u8>,
}

#[async_trait]
impl MemberWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        if let Some(largest) = self.sink.largest_piece {
            assert!(bytes.len() <= largest, "pieces are bounded");
        }
        self.bytes.extend_from_slice(&bytes);
        if let Some(hook) = &self.sink.on_write {
            hook(&self.spec.name);
        }
        Ok(())
    }

    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        self.sink.add(&self.spec, self.bytes.into(), facts)
    }

    async fn abandon(self: Box<Self>, _reason: &str) -> Result<(), Failure> {
        self.sink.state().abandoned.push(self.spec.name);
        Ok(())
    }
}

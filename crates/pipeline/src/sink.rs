//! The port through which members reach a bundle.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use arkstream_format::{
    BaseBundle, Component, Compression, Contents, Generation, Manifest, Member, Proof,
};

use crate::{Budget, Failure, FailureKind, Stats};

/// What is known of a member before its first byte.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// Name in the ZIP directory: relative, `/`-separated, UTF-8.
    pub name: String,
    /// The system it belongs to.
    pub component: Component,
    /// How to store it. A sink may store single chunks uncompressed inside a deflate stream.
    pub compression: Compression,
    /// Modification time; kept to the second.
    pub modified_at: DateTime<Utc>,
    /// UNIX permission bits.
    pub mode: u32,
    /// Where the bytes in flight of a streamed member are counted.
    ///
    /// It must be the writing worker's own, and the worker must hold no permit of it while it
    /// writes, nor write two members at once: it would wait for itself.
    pub budget: Budget,
}

/// What is known of a member once all its bytes are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFacts {
    /// Rows, where it holds rows.
    pub rows: Option<u64>,
    /// What can prove it unchanged later.
    pub proof: Option<Proof>,
}

/// Takes members, one after the other in the file, from several writers at once.
///
/// A name that leaves the bundle's folder ([`arkstream_format::check_name`]) is refused, and so is a
/// second finished member of one name. A call that is cancelled leaves the sink usable, and its member
/// wholly there or not at all.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Adds a whole member whose bytes are in memory already. Returns once they are in the file.
    ///
    /// The sink takes nothing from `spec.budget`: the caller accounts for `bytes` until this
    /// returns.
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure>;

    /// Begins a member whose bytes come in a stream.
    ///
    /// Nothing is written yet: a member that fits into a few chunks is prepared beside others and
    /// takes its place in the file only when it is finished; a longer one takes its place as soon
    /// as its buffer is full and keeps it until it is finished.
    ///
    /// Where an interrupted run left a member of that name, the bytes are compared with it chunk by
    /// chunk, and nothing is written before the first difference. Chunks that equal those of an older
    /// bundle at the same place are copied out of it instead of being compressed.
    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure>;

    /// Turns a finished member into dead bytes: something newer is about to take its name. Fails,
    /// and changes nothing, where there is none of that name.
    async fn retract(&self, name: &str, reason: &str) -> Result<(), Failure>;

    /// Members of a component that an interrupted run finished, or an older bundle holds, and this one
    /// has neither kept nor replaced. What is never kept is not in the bundle.
    async fn earlier(&self, _component: Component) -> Result<Vec<Member>, Failure> {
        Ok(Vec::new())
    }

    /// Keeps a member that [`Sink::earlier`] names: the caller has proven it unchanged. A newer proof
    /// replaces the one it has. `None` where its bytes in an older bundle are damaged: it has to be made
    /// anew, and is not named any more.
    async fn keep(&self, name: &str, _proof: Option<Proof>) -> Result<Option<Member>, Failure> {
        Err(Failure::new(
            FailureKind::Internal,
            format!("keep member {name}"),
            "there is no interrupted run",
        ))
    }

    /// Gives a finished member another proof: more is known now that proves it unchanged later. Fails where
    /// there is none of that name.
    async fn prove(&self, name: &str, proof: Proof) -> Result<(), Failure>;

    /// Returns when every finished member is durable.
    async fn sync(&self) -> Result<(), Failure>;

    /// What the sink counts its time into; the run that writes to it does so too.
    fn stats(&self) -> Arc<Stats> {
        Arc::default()
    }
}

/// A sink that becomes a bundle.
#[async_trait]
pub trait BundleSink: Sink {
    /// Records a set of snapshots, durably, before the first member that is read under them. Members
    /// that a source read before the barrier, and proves by its lock, may come earlier.
    async fn begin_generation(&self, generation: Generation) -> Result<(), Failure>;

    /// Gives up what was kept and finished in this generation, without removing it: all of it has to
    /// be proven or streamed again. For another generation within the same run.
    async fn set_aside(&self) -> Result<(), Failure>;

    /// Every finished member so far, in the order of the file.
    async fn members(&self) -> Result<Vec<Member>, Failure>;

    /// Sums over them.
    async fn contents(&self, bases: &[BaseBundle]) -> Result<Contents, Failure> {
        let members = self.members().await?;
        Ok(Contents::of(&members.iter().collect::<Vec<_>>(), bases))
    }

    /// Completes the bundle and gives it its final name. The manifest's members, components, dead
    /// ranges and what was copied are filled in here; everything else is the caller's.
    async fn publish(&self, manifest: Manifest) -> Result<Published, Failure>;
}

/// A finished bundle under its final name.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where it lies.
    pub path: PathBuf,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Members and bytes of an interrupted run that are in it.
    pub kept: Kept,
    /// SHA-256 of the file, hexadecimal; also in the `.sha256` file beside it.
    pub sha256: String,
    /// Its manifest.
    pub manifest: Manifest,
}

/// What of an interrupted run is in a bundle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Members.
    pub members: u64,
    /// Bytes of the file, headers included.
    pub bytes: u64,
}

/// Takes the bytes of one member. Dropped without [`MemberWriter::finish`], it is abandoned.
///
/// After a write that failed or was cancelled nobody knows which of its bytes are in: the member can
/// only be given up then, and `finish` fails.
#[async_trait]
pub trait MemberWriter: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure>;

    /// Completes the member.
    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure>;

    /// Gives the member up. What was written already stays in the file as dead bytes, which the
    /// manifest counts and which no reader sees.
    async fn abandon(self: Box<Self>, reason: &str) -> Result<(), Failure>;
}

/// Proof that a member is durable.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The member as the manifest lists it.
    pub member: Member,
}

/// A receipt that comes with the next group sync.
#[derive(Debug)]
pub struct PendingReceipt {
    receiver: oneshot::Receiver<Receipt>,
    failed: Arc<Mutex<Option<Failure>>>,
}

impl PendingReceipt {
    /// A pending receipt and the means to deliver it.
    #[must_use]
    pub fn new() -> (oneshot::Sender<Receipt>, Self) {
        Self::of_sink(Arc::default())
    }

    /// As [`PendingReceipt::new`], for a sink that leaves the failure that ends it in `failed`
    /// before it drops what would deliver its receipts.
    #[must_use]
    pub fn of_sink(failed: Arc<Mutex<Option<Failure>>>) -> (oneshot::Sender<Receipt>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self { receiver, failed })
    }

    /// The receipt of a member that is durable already.
    #[must_use]
    pub fn delivered(member: Member) -> Self {
        let (sender, pending) = Self::new();
        let _ = sender.send(Receipt { member });
        pending
    }

    /// Waits until the member is durable.
    ///
    /// # Errors
    /// Why the sink failed before the member was durable.
    pub async fn wait(self) -> Result<Receipt, Failure> {
        self.receiver.await.map_err(|_| {
            let failure = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failure.clone().unwrap_or_else(|| {
                Failure::new(
                    FailureKind::Internal,
                    "wait for a member to become durable",
                    "the sink stopped first",
                )
            })
        })
    }
}

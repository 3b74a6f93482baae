//! A sink around another one that fails at a chosen call.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use arkstream_format::{Component, Member, Proof};
use arkstream_pipeline::{
    Cancel, Failure, FailureKind, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Sink,
    Stats,
};
use async_trait::async_trait;
use bytes::Bytes;

/// What happens at the chosen call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing: the calls are counted.
    None,
    /// It fails, and so does every later one, as with a sink that has ended.
    Fail,
    /// It never returns.
    Hang,
    /// The run is interrupted; the call itself goes on.
    Interrupt(Cancel),
}

/// A sink that has a [`Fault`] at one of its calls, those of its writers included. Giving members up
/// is no call: it is what one does after a fault.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<dyn Sink>,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Fault,
    at: usize,
    calls: AtomicUsize,
    /// What was called when the fault came.
    hit: Mutex<Option<String>>,
}

const WHY: &str = "the sink was told to fail";

impl Faulty {
    /// `inner` with a fault at the call number `at`, from 0.
    pub fn new(inner: Arc<dyn Sink>, fault: Fault, at: usize) -> Self {
        Self {
            inner,
            shared: Arc::new(Shared {
                fault,
                at,
                calls: AtomicUsize::new(0),
                hit: Mutex::default(),
            }),
        }
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// What was called when the fault came, if it came.
    #[must_use]
    pub fn hit(&self) -> Option<String> {
        let hit = self
            .shared
            .hit
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        hit.clone()
    }
}

impl Shared {
    async fn call(&self, what: &str, name: &str) -> Result<(), Failure> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let due = match self.fault {
            Fault::Fail => call >= self.at,
            _ => call == self.at,
        };
        if !due {
            return Ok(());
        }
        if call == self.at {
            let mut hit = self.hit.lock().unwrap_or_else(PoisonError::into_inner);
            *hit = Some(format!("{what} {name}"));
        }
        match &self.fault {
            Fault::None => Ok(()),
            Fault::Fail => Err(Failure::new(
                FailureKind::NoSpace,
                format!("{what} {name}"),
                WHY,
            )),
            Fault::Hang => std::future::pending().await,
            Fault::Interrupt(cancel) => {
                cancel.raise();
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Sink for Faulty {
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        self.shared.call("put", &spec.name).await?;
        self.inner.put(spec, bytes, facts).await
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        self.shared.call("begin", &spec.name).await?;
        Ok(Box::new(FaultyWriter {
            name: spec.name.clone(),
            inner: self.inner.begin(spec).await?,
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn retract(&self, name: &str, reason: &str) -> Result<(), Failure> {
        self.shared.call("retract", name).await?;
        self.inner.retract(name, reason).await
    }

    async fn earlier(&self, component: Component) -> Result<Vec<Member>, Failure> {
        self.shared.call("earlier", component.name()).await?;
        self.inner.earlier(component).await
    }

    async fn keep(&self, name: &str, proof: Option<Proof>) -> Result<Option<Member>, Failure> {
        self.shared.call("keep", name).await?;
        self.inner.keep(name, proof).await
    }

    async fn prove(&self, name: &str, proof: Proof) -> Result<(), Failure> {
        self.shared.call("prove", name).await?;
        self.inner.prove(name, proof).await
    }

    async fn sync(&self) -> Result<(), Failure> {
        self.shared.call("sync", "").await?;
        self.inner.sync().await
    }

    fn stats(&self) -> Arc<Stats> {
        self.inner.stats()
    }
}

struct FaultyWriter {
    name: String,
    inner: Box<dyn MemberWriter>,
    shared: Arc<Shared>,
}

#[async_trait]
impl MemberWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.shared.call("write", &self.name).await?;
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        self.shared.call("finish", &self.name).await?;
        self.inner.finish(facts).await
    }

    async fn abandon(self: Box<Self>, reason: &str) -> Result<(), Failure> {
        self.inner.abandon(reason).await
    }
}

//! A sink that keeps members in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arkstream_format::{Chunk, Compression, Crc32, Digest, Member};
use arkstream_pipeline::{
    Budget, Cancel, Failure, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Receipt, Run,
    Silent, Sink,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

type Members = BTreeMap<String, (Member, Vec<u8>)>;
type Waiting = Vec<(oneshot::Sender<Receipt>, Receipt)>;

/// Keeps members in memory.
#[derive(Clone, Default)]
pub(crate) struct MemorySink {
    members: Arc<Mutex<Members>>,
    waiting: Arc<Mutex<Waiting>>,
}

impl MemorySink {
    pub(crate) fn run(&self, jobs: usize) -> Run {
        let budget = Budget::new(64 << 20);
        Run::new(
            Arc::new(self.clone()),
            Arc::new(Silent),
            Cancel::default(),
            budget,
            jobs,
        )
    }

    pub(crate) fn names(&self, start: &str) -> Vec<String> {
        let members = self.members.lock().unwrap();
        members
            .keys()
            .filter(|name| name.starts_with(start))
            .cloned()
            .collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.members.lock().unwrap()[name].1.clone()
    }

    pub(crate) fn member(&self, name: &str) -> Member {
        self.members.lock().unwrap()[name].0.clone()
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
        let mut writer = self.begin(spec).await?;
        writer.write(bytes).await?;
        writer.finish(facts).await
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        Ok(Box::new(MemoryWriter {
            sink: self.clone(),
            spec,
            bytes: Vec::new(),
        }))
    }

    async fn retract(&self, name: &str, _reason: &str) -> Result<(), Failure> {
        self.members.lock().unwrap().remove(name);
        Ok(())
    }

    async fn sync(&self) -> Result<(), Failure> {
        for (sender, receipt) in self.waiting.lock().unwrap().drain(..) {
            let _ = sender.send(receipt);
        }
        Ok(())
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
        assert!(bytes.len() <= 4 << 20, "pieces are bounded");
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        let (sender, pending) = PendingReceipt::new();
        let len = self.bytes.len() as u64;
        let chunk = Chunk {
            offset: 0,
            raw_len: u32::try_from(len).unwrap(),
            stored_len: u32::try_from(len).unwrap(),
            crc32: Crc32::of(&self.bytes),
            blake3: Digest::of(&self.bytes),
            stored_blake3: None,
        };
        let member = Member {
            name: self.spec.name.clone(),
            component: self.spec.component,
            compression: Compression::Stored,
            header_offset: 0,
            data_offset: 0,
            raw_len: len,
            stored_len: len,
            crc32: chunk.crc32,
            digest: chunk.blake3,
            modified_at: self.spec.modified_at,
            mode: self.spec.mode,
            rows: facts.rows,
            proof: facts.proof,
            copied: None,
            descriptor: false,
            chunks: vec![chunk],
        };
        let earlier = self
            .sink
            .members
            .lock()
            .unwrap()
            .insert(self.spec.name.clone(), (member.clone(), self.bytes));
        assert!(earlier.is_none(), "{} was written twice", self.spec.name);
        self.sink
            .waiting
            .lock()
            .unwrap()
            .push((sender, Receipt { member }));
        Ok(pending)
    }

    async fn abandon(self: Box<Self>, _reason: &str) -> Result<(), Failure> {
        Ok(())
    }
}

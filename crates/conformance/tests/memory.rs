//! The sink of tests keeps what it promises.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use arkstream_conformance::{MemorySink, sink};
use arkstream_pipeline::{BundleSink, Published};
use async_trait::async_trait;
use bytes::Bytes;

#[derive(Default)]
struct Memory(Mutex<MemorySink>);

#[async_trait]
impl sink::Sinks for Memory {
    async fn fresh(&self) -> Arc<dyn BundleSink> {
        let sink = MemorySink::default();
        *self.0.lock().unwrap() = sink.clone();
        Arc::new(sink)
    }

    async fn is_durable(&self, name: &str) -> Option<bool> {
        Some(self.0.lock().unwrap().is_durable(name))
    }

    async fn contents(&self, _: &Published) -> BTreeMap<String, Bytes> {
        let contents = self.0.lock().unwrap().contents().into_iter();
        contents.map(|(name, (bytes, _))| (name, bytes)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sink_of_tests_is_one() {
    sink::suite(&Memory::default()).await;
}

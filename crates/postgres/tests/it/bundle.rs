//! A bundle in memory, to restore from.

use std::sync::Arc;

use arkstream_conformance::MemoryBundle;
use arkstream_format::Component;
use arkstream_pipeline::{Restoring, Silent};
use bytes::Bytes;

/// A bundle of one member. A chunk that is missing cannot be read.
pub(crate) fn bundle_of(
    name: &str,
    component: Component,
    chunks: Vec<Option<Bytes>>,
) -> MemoryBundle {
    let mut bundle = MemoryBundle::default();
    bundle.add(name, component, 0o644, chunks);
    bundle
}

/// A restore of that name.
pub(crate) fn restoring(id: &str, bundle: MemoryBundle) -> Restoring {
    bundle.restoring(id, Arc::new(Silent))
}

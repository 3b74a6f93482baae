//! Chunks of another bundle, copied as they stand there.

use std::{fs::File, path::Path, sync::Arc};

use arkstream_format::{CHUNK_SIZE, Chunk};
use arkstream_pipeline::{Failure, FailureKind, MemberFacts, MemberSpec};

use crate::{
    channel::Command,
    codec::EncodedChunk,
    opening::Totals,
    reader::read_proven,
    salvage::write::changed,
    writer::{BundleWriter, check_spec},
};

impl BundleWriter {
    /// Adds a member of chunks that stand in `file`, their stored bytes verbatim. Every hash is checked
    /// on the way.
    pub(super) async fn copy_chunks(
        &self,
        spec: MemberSpec,
        chunks: Vec<Chunk>,
        facts: MemberFacts,
        file: &Arc<File>,
        source: &Path,
    ) -> Result<(), Failure> {
        check_spec(&spec)?;
        let channel = self.channel();
        let _lane = self.lane.lock().await;
        let totals = Totals::of_chunks(spec.compression, &chunks);
        channel.open(&spec, spec.compression, Some(totals)).await?;
        for chunk in chunks {
            let permit = spec.budget.take(2 * CHUNK_SIZE as u64).await;
            let (file, compression) = (Arc::clone(file), spec.compression);
            let read = tokio::task::spawn_blocking(move || {
                let bytes = read_proven(file.as_ref(), compression, &chunk)?;
                Ok::<_, String>(EncodedChunk::proven(&chunk, compression, bytes))
            });
            let encoded = read
                .await
                .map_err(|error| Failure::new(FailureKind::Internal, "read a chunk", error))?
                .map_err(|_| changed(source, &spec.name))?;
            channel.send(Command::Chunk(encoded, Some(permit))).await?;
        }
        channel.close(facts).await.map(drop)
    }
}

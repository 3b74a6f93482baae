//! A member as a Parquet reader wants it: any range of bytes, chunk by chunk.
//!
//! Peak memory: [`KEPT_CHUNKS`] chunks, and the range that is asked for where it spans chunks.

use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use parquet::{
    errors::{ParquetError, Result as ParquetResult},
    file::reader::{ChunkReader, Length},
};

use arkstream_format::Member;
use arkstream_pipeline::{BundleReader, Finding};

/// The columns of a row group are read by turns, so the chunks that most row groups span (16 MiB before
/// compression, as the encoder cuts them) stay at hand. Of a larger one some are read again.
const KEPT_CHUNKS: usize = 3;

/// A member of a bundle. Clones are one reader.
#[derive(Clone)]
pub(crate) struct MemberReader {
    inner: Arc<Inner>,
}

struct Inner {
    bundle: Arc<dyn BundleReader>,
    /// Its place in the manifest's list.
    number: usize,
    /// Offset of each chunk's first byte in the member.
    starts: Vec<u64>,
    len: u64,
    kept: Mutex<VecDeque<(usize, Bytes)>>,
    damage: Mutex<Option<Finding>>,
}

impl MemberReader {
    /// The member at that place of the manifest's list; `None` where there is none.
    pub(crate) fn new(bundle: Arc<dyn BundleReader>, number: usize) -> Option<Self> {
        let member = bundle.manifest().members.get(number)?;
        let mut len = 0u64;
        let mut starts = Vec::with_capacity(member.chunks.len());
        for chunk in &member.chunks {
            starts.push(len);
            len += u64::from(chunk.raw_len);
        }
        Some(Self {
            inner: Arc::new(Inner {
                bundle,
                number,
                starts,
                len,
                kept: Mutex::default(),
                damage: Mutex::default(),
            }),
        })
    }

    /// The first damage that was met; a Parquet reader passes on its words only.
    pub(crate) fn damage(&self) -> Option<Finding> {
        let damage = self.inner.damage.lock();
        damage.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Inner {
    fn member(&self) -> Option<&Member> {
        self.bundle.manifest().members.get(self.number)
    }

    /// The rest of the chunk from `at` on; empty at the end of the member.
    fn from(&self, at: u64) -> Result<Bytes, ParquetError> {
        if at >= self.len {
            return Ok(Bytes::new());
        }
        let number = self.starts.partition_point(|start| *start <= at) - 1;
        let chunk = self.chunk(number)?;
        let start = self.starts.get(number).copied().unwrap_or(at);
        let skip = usize::try_from(at - start).unwrap_or(usize::MAX);
        Ok(chunk.slice(skip.min(chunk.len())..))
    }

    fn chunk(&self, number: usize) -> Result<Bytes, ParquetError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(found, _)| *found == number)
            && let Some(entry) = kept.remove(at)
        {
            let bytes = entry.1.clone();
            kept.push_back(entry);
            return Ok(bytes);
        }
        while kept.len() >= KEPT_CHUNKS {
            kept.pop_front();
        }
        let member = self
            .member()
            .ok_or_else(|| external("the member is gone"))?;
        let bytes = self.bundle.read_chunk(member, number).map_err(|finding| {
            let text = finding.to_string();
            let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            damage.get_or_insert(finding);
            external(&text)
        })?;
        kept.push_back((number, bytes.clone()));
        Ok(bytes)
    }
}

fn external(text: &str) -> ParquetError {
    ParquetError::General(text.to_owned())
}

impl Length for MemberReader {
    fn len(&self) -> u64 {
        self.inner.len
    }
}

impl ChunkReader for MemberReader {
    type T = MemberCursor;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(MemberCursor {
            inner: Arc::clone(&self.inner),
            at: start,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.inner.len) {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} reach behind the end of the member"
            )));
        }
        let first = self.inner.from(start)?;
        if first.len() >= length {
            return Ok(first.slice(..length));
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&first);
        while bytes.len() < length {
            let next = self.inner.from(start + bytes.len() as u64)?;
            if next.is_empty() {
                return Err(ParquetError::EOF("the member ends too early".to_owned()));
            }
            let wanted = next.len().min(length - bytes.len());
            bytes.extend_from_slice(&next.slice(..wanted));
        }
        Ok(bytes.freeze())
    }
}

/// Reads a member from some byte on.
pub(crate) struct MemberCursor {
    inner: Arc<Inner>,
    at: u64,
}

impl Read for MemberCursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.from(self.at).map_err(io::Error::other)?;
        let len = bytes.len().min(buffer.len());
        let (target, source) = (buffer.get_mut(..len), bytes.get(..len));
        if let (Some(target), Some(source)) = (target, source) {
            target.copy_from_slice(source);
        }
        self.at += len as u64;
        Ok(len)
    }
}

//! Members as things that other libraries can read from.

use std::io::{self, Read, Write};

use bytes::{Buf as _, Bytes};

use arkstream_format::Member;
use arkstream_pipeline::BundleReader;

/// Reads a member front to back, every chunk checked. Holds one chunk.
pub(crate) struct MemberStream<'a> {
    bundle: &'a dyn BundleReader,
    member: &'a Member,
    next: usize,
    current: Bytes,
}

impl<'a> MemberStream<'a> {
    pub(crate) fn new(bundle: &'a dyn BundleReader, member: &'a Member) -> Self {
        Self {
            bundle,
            member,
            next: 0,
            current: Bytes::new(),
        }
    }

    /// Copies what is left of the member.
    pub(crate) fn copy_to(mut self, out: &mut impl Write) -> io::Result<u64> {
        io::copy(&mut self, out)
    }
}

impl Read for MemberStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.next == self.member.chunks.len() {
                return Ok(0);
            }
            self.current = self
                .bundle
                .read_chunk(self.member, self.next)
                .map_err(|finding| io::Error::other(finding.to_string()))?;
            self.next += 1;
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

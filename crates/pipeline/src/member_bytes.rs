//! Any range of a member's bytes, every chunk checked.

use std::{io, ops::Range};

use bytes::{Bytes, BytesMut};

use arkstream_format::Member;

use crate::Finding;

/// More than this is not set aside for bytes that the manifest only claims are there.
const BELIEVED: u64 = 16 << 20;

/// Reads ranges of a member. Holds one chunk, so ranges that follow one another read each chunk once.
pub struct MemberBytes<R> {
    /// Where each chunk begins, and where the last one ends.
    starts: Vec<u64>,
    read_chunk: R,
    last: Option<(usize, Bytes)>,
}

impl<R: FnMut(usize) -> Result<Bytes, Finding>> MemberBytes<R> {
    /// `read_chunk` gives the chunk of a number, as [`crate::BundleReader::read_chunk`].
    pub fn new(member: &Member, read_chunk: R) -> Self {
        let mut starts = vec![0];
        let mut end = 0u64;
        for chunk in &member.chunks {
            end = end.saturating_add(chunk.raw_len.into());
            starts.push(end);
        }
        Self {
            starts,
            read_chunk,
            last: None,
        }
    }

    /// Bytes of the member.
    pub fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// When it does not lie in the member, or a chunk of it is damaged: the error names the place.
    pub fn read(&mut self, range: Range<u64>) -> io::Result<Bytes> {
        if range.start > range.end || range.end > self.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(mut index) = self
            .starts
            .partition_point(|s| *s <= range.start)
            .checked_sub(1)
        else {
            return Ok(Bytes::new());
        };
        let mut bytes = BytesMut::new();
        let mut at = range.start;
        while at < range.end {
            let chunk = self.chunk(index)?;
            let start = self.starts.get(index).copied().unwrap_or_default();
            let end = range.end.min(start + chunk.len() as u64);
            let part = chunk.slice((at - start) as usize..(end - start) as usize);
            at = end;
            index += 1;
            if at == range.end && bytes.is_empty() {
                return Ok(part);
            }
            if bytes.is_empty() {
                bytes.reserve((range.end - range.start).min(BELIEVED) as usize);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    fn chunk(&mut self, index: usize) -> io::Result<Bytes> {
        if let Some((last, chunk)) = &self.last
            && *last == index
        {
            return Ok(chunk.clone());
        }
        self.last = None;
        let chunk =
            (self.read_chunk)(index).map_err(|finding| io::Error::other(finding.to_string()))?;
        let claimed = match self.starts.get(index..index + 2) {
            Some([start, end]) => end - start,
            _ => 0,
        };
        if chunk.len() as u64 != claimed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.last = Some((index, chunk.clone()));
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use arkstream_format::{Chunk, Component, Compression, Crc32, Digest};
    use chrono::DateTime;

    use super::*;

    fn member(lengths: &[u32]) -> Member {
        let chunk = |length: &u32| Chunk {
            offset: 0,
            raw_len: *length,
            stored_len: *length,
            crc32: Crc32(0),
            blake3: Digest::of(b""),
            stored_blake3: None,
        };
        Member {
            name: "m".to_owned(),
            component: Component::Models,
            compression: Compression::Stored,
            header_offset: 0,
            data_offset: 0,
            raw_len: 0,
            stored_len: 0,
            crc32: Crc32(0),
            digest: Digest::of(b""),
            descriptor: false,
            modified_at: DateTime::UNIX_EPOCH,
            mode: 0o600,
            rows: None,
            proof: None,
            copied: None,
            chunks: lengths.iter().map(chunk).collect(),
        }
    }

    #[test]
    fn every_range_is_what_it_is_of_the_whole_and_each_chunk_is_read_once_in_a_row() {
        let lengths = [3u32, 1, 5, 4];
        let whole: Vec<u8> = (0..13).collect();
        let mut reads = 0;
        let mut bytes = MemberBytes::new(&member(&lengths), |index| {
            reads += 1;
            let start: u32 = lengths[..index].iter().sum();
            let end = start + lengths[index];
            Ok(Bytes::copy_from_slice(&whole[start as usize..end as usize]))
        });
        assert_eq!(bytes.len(), 13);
        for start in 0..=13 {
            for end in start..=13 {
                let found = bytes.read(start..end).unwrap();
                assert_eq!(found, whole[start as usize..end as usize]);
            }
        }
        assert!(bytes.read(3..14).is_err());
        for at in 0..13 {
            bytes.read(at..at + 1).unwrap();
        }
        drop(bytes);
        let before = reads;
        let mut once = MemberBytes::new(&member(&lengths), |index| {
            reads += 1;
            Ok(Bytes::from(vec![0; lengths[index] as usize]))
        });
        for at in 0..13 {
            once.read(at..at + 1).unwrap();
        }
        drop(once);
        assert_eq!(reads - before, 4);
    }

    #[test]
    fn a_chunk_that_is_damaged_or_short_is_told() {
        let mut damaged = MemberBytes::new(&member(&[4]), |_| Err(Finding::note("it is damaged")));
        let error = damaged.read(0..1).unwrap_err();
        assert!(error.to_string().contains("it is damaged"), "{error}");
        let mut short = MemberBytes::new(&member(&[4]), |_| Ok(Bytes::from_static(b"ab")));
        assert!(short.read(1..4).is_err());
    }
}

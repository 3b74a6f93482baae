//! What a journal says is in the file, read line by line by code that is not the program's, and held
//! against the file.

use arkstream_format::{Chunk, Compression, DeadRange, Digest, Member, journal::Record};

#[derive(Default)]
pub(crate) struct Claims {
    chunks: Vec<(Chunk, Compression)>,
    members: Vec<Member>,
    dead: Vec<DeadRange>,
    synced: u64,
    /// Where the member that is being streamed begins, how it is stored, bytes of it that are durable.
    torn: Option<(u64, Compression, u64)>,
}

impl Claims {
    /// Those of a journal up to its first torn line.
    pub(crate) fn of(journal: &[u8]) -> Self {
        let mut claims = Self::default();
        for line in journal.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            let Ok(record) = Record::from_line(line) else {
                break;
            };
            claims.take(record);
        }
        claims
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Begin { .. } | Record::Generation { .. } | Record::Base { .. } => {}
            // They stand in index members, which are members like others here.
            Record::Index { .. } | Record::Description { .. } => {}
            Record::Open {
                compression,
                header_offset,
                ..
            } => self.torn = Some((header_offset, compression, 0)),
            Record::Chunk { chunk } => {
                let (_, compression, bytes) = self.torn.as_mut().unwrap();
                *bytes += u64::from(chunk.stored_len);
                self.chunks.push((chunk, *compression));
            }
            Record::Member { member, .. } => {
                self.ended(member.header_offset);
                self.members.push(*member);
            }
            Record::Dead { range } => {
                self.ended(range.offset);
                self.dead.push(range);
            }
            Record::Cut { len, .. } => {
                let end = |chunk: &Chunk| chunk.offset + u64::from(chunk.stored_len);
                self.chunks.retain(|(chunk, _)| end(chunk) <= len);
                self.dead.retain(|range| range.offset + range.len <= len);
                let members = &mut self.members;
                members.retain(|member| member.data_offset + member.stored_len <= len);
                self.synced = self.synced.min(len);
                if let Some((header, _, bytes)) = &mut self.torn {
                    let chunks = self
                        .chunks
                        .iter()
                        .filter(|(chunk, _)| chunk.offset > *header);
                    *bytes = chunks.map(|(chunk, _)| u64::from(chunk.stored_len)).sum();
                }
            }
            Record::Synced { offset, .. } => self.synced = offset,
        }
    }

    fn ended(&mut self, header_offset: u64) {
        if self.torn.is_some_and(|(at, ..)| at == header_offset) {
            self.torn = None;
        }
    }

    /// Bytes of the member that is being streamed.
    pub(crate) fn torn_bytes(&self) -> u64 {
        self.torn.map_or(0, |(.., bytes)| bytes)
    }

    /// Whether all of it is in the file.
    pub(crate) fn hold(&self, file: &[u8]) -> Result<(), String> {
        let of_members = self.members.iter().flat_map(|member| {
            let chunks = member.chunks.iter().cloned();
            chunks.map(|chunk| (chunk, member.compression))
        });
        for (chunk, compression) in self.chunks.iter().cloned().chain(of_members) {
            let expected = match compression {
                Compression::Stored => chunk.blake3,
                Compression::Deflate => chunk.stored_blake3.unwrap(),
            };
            holds(
                file,
                chunk.offset,
                chunk.stored_len.into(),
                expected,
                "a chunk",
            )?;
        }
        for range in &self.dead {
            holds(file, range.offset, range.len, range.blake3, "dead bytes")?;
        }
        if self.synced > file.len() as u64 {
            return Err(format!("the journal speaks of {} bytes", self.synced));
        }
        Ok(())
    }
}

fn holds(file: &[u8], offset: u64, len: u64, expected: Digest, what: &str) -> Result<(), String> {
    let (start, end) = (offset as usize, (offset + len) as usize);
    match file.get(start..end).map(Digest::of) {
        Some(found) if found == expected => Ok(()),
        Some(_) => Err(format!(
            "the journal speaks of {what} at {offset}, which differs"
        )),
        None => Err(format!(
            "the journal speaks of {what} at {offset}, the file ends"
        )),
    }
}

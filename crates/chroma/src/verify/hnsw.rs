//! The HNSW files of one segment.
//!
//! `header.bin`, little-endian, 100 bytes:
//!
//! ```text
//!  0 i32 version = 1      4 u64 offset_level0     12 u64 max_elements   20 u64 elements
//! 28 u64 size_per_element 36 u64 label_offset     44 u64 data_offset    52 i32 max_level
//! 56 u32 entry_point      60 u64 max_m            68 u64 max_m0         76 u64 m
//! 84 f64 mult             92 u64 ef_construction
//! ```
//!
//! `data_level0.bin` holds at least `elements` records: `u16` number of links (byte 2, bit 0 says
//! that the record is deleted), `max_m0` links of `u32`, the vector, a `u64` label.
//! `link_lists.bin` holds for each element a `u32` length and as many bytes: the links above level
//! 0, `4 + 4·max_m` bytes a level. `length.bin` holds one `f32` an element, which may be garbage
//! for l2: only its size is judged.
//!
//! Memory: one record and one buffer of 1 MiB; the caller collects the labels.

use std::io::{self, BufReader, Read};

use thiserror::Error;

/// Bytes of `header.bin`.
const HEADER_LEN: usize = 100;

/// No vector is that long; a larger record would only cost memory.
const MAX_RECORD: u64 = 16 << 20;

/// `header.bin` as far as it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) elements: u64,
    record: u64,
    label_offset: u64,
    data_offset: u64,
    max_level: i32,
    max_m: u64,
    max_m0: u64,
}

/// What is wrong with a file of a segment.
#[derive(Debug, Error)]
pub(crate) enum HnswError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it has {found} bytes instead of {HEADER_LEN}")]
    HeaderLength { found: u64 },
    #[error("its format version is {0}; only 1 is known")]
    Version(i32),
    #[error("its {field} is {found}, which cannot be: {why}")]
    Field {
        field: &'static str,
        found: i128,
        why: String,
    },
    #[error("it has {found} bytes; {elements} elements need at least {needed}")]
    Short {
        found: u64,
        elements: u64,
        needed: u64,
    },
    #[error("element {element} of {elements}: {why}")]
    Element {
        element: u64,
        elements: u64,
        why: String,
    },
}

impl Header {
    /// Reads and judges `header.bin`.
    pub(crate) fn read(mut input: impl Read) -> Result<Self, HnswError> {
        let mut bytes = Vec::new();
        input
            .by_ref()
            .take(HEADER_LEN as u64 + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() != HEADER_LEN {
            let rest = io::copy(&mut input, &mut io::sink())?;
            return Err(HnswError::HeaderLength {
                found: bytes.len() as u64 + rest,
            });
        }
        let version = u32_at(&bytes, 0).cast_signed();
        if version != 1 {
            return Err(HnswError::Version(version));
        }
        let header = Self {
            elements: u64_at(&bytes, 20),
            record: u64_at(&bytes, 28),
            label_offset: u64_at(&bytes, 36),
            data_offset: u64_at(&bytes, 44),
            max_level: u32_at(&bytes, 52).cast_signed(),
            max_m: u64_at(&bytes, 60),
            max_m0: u64_at(&bytes, 68),
        };
        header.judge(u64_at(&bytes, 4), u64_at(&bytes, 12), u32_at(&bytes, 56))?;
        Ok(header)
    }

    fn judge(&self, offset_level0: u64, max_elements: u64, entry: u32) -> Result<(), HnswError> {
        let wrong = |field, found: i128, why: String| Err(HnswError::Field { field, found, why });
        let links = self.max_m0.saturating_mul(4).saturating_add(4);
        if offset_level0 != 0 {
            return wrong(
                "offset_level0",
                offset_level0.into(),
                "it is 0 in every index".into(),
            );
        }
        if self.elements > max_elements {
            let why = format!("there is room for {max_elements}");
            return wrong("element count", self.elements.into(), why);
        }
        if self.data_offset != links {
            let why = format!("{} links take {links} bytes", self.max_m0);
            return wrong("data_offset", self.data_offset.into(), why);
        }
        if self.label_offset < links || !(self.label_offset - links).is_multiple_of(4) {
            let why = format!("whole numbers of 4 bytes follow offset {links}");
            return wrong("label_offset", self.label_offset.into(), why);
        }
        if self.label_offset.checked_add(8) != Some(self.record) || self.record > MAX_RECORD {
            let why = format!("the label lies at offset {}", self.label_offset);
            return wrong("size_per_element", self.record.into(), why);
        }
        if self.elements > 0 && u64::from(entry) >= self.elements {
            let why = format!("there are {} elements", self.elements);
            return wrong("entry point", entry.into(), why);
        }
        if self.elements > 0 && self.max_level < 0 {
            return wrong(
                "max_level",
                self.max_level.into(),
                "the index has elements".into(),
            );
        }
        Ok(())
    }

    /// The number of floats in a vector.
    pub(crate) fn dimension(&self) -> u64 {
        (self.label_offset - self.data_offset) / 4
    }

    /// Reads `data_level0.bin` and hands every label to `label`, with whether it is deleted.
    pub(crate) fn read_level0(
        &self,
        size: u64,
        input: impl Read,
        mut label: impl FnMut(u64, bool),
    ) -> Result<(), HnswError> {
        self.need(size, self.elements.saturating_mul(self.record))?;
        let mut input = BufReader::with_capacity(1 << 20, input);
        let mut record = vec![0; usize::try_from(self.record).unwrap_or(0)];
        let label_offset = usize::try_from(self.label_offset).unwrap_or(0);
        for element in 0..self.elements {
            let wrong = |why| HnswError::Element {
                element,
                elements: self.elements,
                why,
            };
            input
                .read_exact(&mut record)
                .map_err(|error| self.cut(error, element))?;
            let links = u64::from(u32_at(&record, 0) & 0xffff);
            if links > self.max_m0 {
                return Err(wrong(format!("{links} links, at most {} fit", self.max_m0)));
            }
            for (link, _) in record.chunks_exact(4).skip(1).zip(0..links) {
                let to = u64::from(u32_at(link, 0));
                if to >= self.elements {
                    return Err(wrong(format!("a link to element {to}")));
                }
            }
            let deleted = record.get(2).is_some_and(|flags| flags & 1 == 1);
            label(u64_at(&record, label_offset), deleted);
        }
        Ok(())
    }

    /// Reads `link_lists.bin`.
    pub(crate) fn read_link_lists(&self, size: u64, input: impl Read) -> Result<(), HnswError> {
        self.need(size, self.elements.saturating_mul(4))?;
        let mut input = BufReader::with_capacity(1 << 20, input);
        let level = self.max_m.saturating_mul(4).saturating_add(4);
        let highest = u64::from(self.max_level.max(0).unsigned_abs());
        for element in 0..self.elements {
            let wrong = |why| HnswError::Element {
                element,
                elements: self.elements,
                why,
            };
            let mut len = [0; 4];
            input
                .read_exact(&mut len)
                .map_err(|error| self.cut(error, element))?;
            let len = u64::from(u32::from_le_bytes(len));
            if !len.is_multiple_of(level) || len / level > highest {
                return Err(wrong(format!(
                    "{len} bytes of links, where a level takes {level} and there are {highest} levels"
                )));
            }
            let read = io::copy(&mut input.by_ref().take(len), &mut io::sink())?;
            if read != len {
                return Err(wrong("the file ends inside its links".into()));
            }
        }
        Ok(())
    }

    /// Judges the size of `length.bin`.
    pub(crate) fn check_lengths(&self, size: u64) -> Result<(), HnswError> {
        self.need(size, self.elements.saturating_mul(4))
    }

    fn need(&self, found: u64, needed: u64) -> Result<(), HnswError> {
        if found < needed {
            return Err(HnswError::Short {
                found,
                elements: self.elements,
                needed,
            });
        }
        Ok(())
    }

    fn cut(&self, error: io::Error, element: u64) -> HnswError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            let why = "the file ends inside it".into();
            return HnswError::Element {
                element,
                elements: self.elements,
                why,
            };
        }
        error.into()
    }
}

/// A little-endian number; 0 where the bytes are not there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |found| u32::from_le_bytes(*found))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |found| u64::from_le_bytes(*found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(elements: u64, dimension: u64) -> Vec<u8> {
        let mut bytes = 1i32.to_le_bytes().to_vec();
        for value in [
            0,
            1000,
            elements,
            132 + 4 * dimension + 8,
            132 + 4 * dimension,
            132,
        ] {
            bytes.extend(u64::to_le_bytes(value));
        }
        bytes.extend(1i32.to_le_bytes());
        bytes.extend(0u32.to_le_bytes());
        for value in [16u64, 32, 16, 0, 100] {
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    fn level0(labels: &[(u64, bool)], dimension: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (label, deleted) in labels {
            let mut record = vec![0; 132 + 4 * dimension];
            record[2] = u8::from(*deleted);
            bytes.extend(record);
            bytes.extend(label.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn labels_and_deleted_bits_are_read() {
        let header = Header::read(&*header(3, 2)).unwrap();
        assert_eq!(header.dimension(), 2);
        let expected = [(7, false), (8, true), (u64::MAX, false)];
        let bytes = level0(&expected, 2);
        let mut found = Vec::new();
        header
            .read_level0(bytes.len() as u64, &*bytes, |label, deleted| {
                found.push((label, deleted))
            })
            .unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_short_file_is_told_with_what_is_needed() {
        let header = Header::read(&*header(3, 2)).unwrap();
        let bytes = level0(&[(1, false); 3], 2);
        let error = header
            .read_level0(bytes.len() as u64 - 1, &*bytes, |_, _| {})
            .unwrap_err();
        assert!(error.to_string().contains("need at least 444"), "{error}");
        // A size that lies is noticed while reading.
        let cut = &bytes[..bytes.len() - 1];
        assert!(
            header
                .read_level0(bytes.len() as u64, cut, |_, _| {})
                .is_err()
        );
    }

    #[test]
    fn links_must_point_to_elements() {
        let header = Header::read(&*header(2, 1)).unwrap();
        let mut bytes = level0(&[(1, false), (2, false)], 1);
        bytes[0] = 1;
        bytes[4] = 1;
        assert!(header.read_level0(288, &*bytes, |_, _| {}).is_ok());
        bytes[4] = 2;
        let error = header.read_level0(288, &*bytes, |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("a link to element 2"), "{error}");
    }

    #[test]
    fn link_lists_are_whole_levels() {
        let header = Header::read(&*header(2, 1)).unwrap();
        let mut bytes = 0u32.to_le_bytes().to_vec();
        bytes.extend(68u32.to_le_bytes());
        bytes.extend([0; 68]);
        assert!(header.read_link_lists(76, &*bytes).is_ok());
        assert!(header.read_link_lists(76, &bytes[..75]).is_err());
        bytes[4] = 67;
        assert!(header.read_link_lists(76, &*bytes).is_err());
        bytes[4] = 136;
        bytes.extend([0; 68]);
        assert!(
            header.read_link_lists(144, &*bytes).is_err(),
            "two levels where one is the highest"
        );
    }

    #[test]
    fn impossible_headers_are_refused() {
        let good = header(3, 2);
        assert!(Header::read(&good[..99]).is_err());
        assert!(Header::read(&*[&good[..], b"x"].concat()).is_err());
        for at in [0, 4, 20 + 7, 28, 36, 44, 56 + 3, 68] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(Header::read(&*bad).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(
            edits in proptest::collection::vec((4usize..100, any::<u8>()), 0..4),
            body in proptest::collection::vec(any::<u8>(), 0..1000),
        ) {
            let mut bytes = header(3, 2);
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            if let Ok(header) = Header::read(&*bytes) {
                for size in [body.len() as u64, u64::MAX] {
                    let _ = header.read_level0(size, &*body, |_, _| {});
                    let _ = header.read_link_lists(size, &*body);
                    let _ = header.check_lengths(size);
                }
            }
        }
    }
}

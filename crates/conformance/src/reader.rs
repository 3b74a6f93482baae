//! What a [`BundleReader`] promises.

use std::sync::Arc;

use arkstream_format::{CHUNK_SIZE, Crc32, Digest, Member};
use arkstream_pipeline::{BundleReader, Severity};

/// An open bundle whose bytes can be spoiled.
pub trait Readers {
    /// The bundle as it is now; `None` when it is refused.
    fn open(&self) -> Option<Arc<dyn BundleReader>>;

    /// Flips bits of one byte of the file. The same call again takes it back.
    fn flip(&self, offset: u64, mask: u8);
}

/// All of it. The bundle is sound, has a member with several chunks, stored and deflated ones, and
/// dead bytes.
pub fn suite(readers: &dyn Readers) {
    let bundle = readers.open().expect("a sound bundle is opened");
    a_sound_bundle_gives_every_byte(&*bundle);
    what_is_not_there_is_not_given_out(&*bundle);
    lies_about_a_chunk_are_noticed(&*bundle);
    no_flipped_byte_is_given_out(readers, &*bundle);
}

fn a_sound_bundle_gives_every_byte(bundle: &dyn BundleReader) {
    assert_eq!(bundle.check_framing(), []);
    let manifest = bundle.manifest();
    assert!(
        manifest
            .members
            .iter()
            .any(|member| member.chunks.len() > 1)
    );
    assert!(!manifest.dead_ranges.is_empty());
    for member in &manifest.members {
        let mut len = 0;
        for (index, chunk) in member.chunks.iter().enumerate() {
            let raw = bundle.read_chunk(member, index).unwrap();
            assert_eq!(raw.len() as u64, u64::from(chunk.raw_len));
            assert_eq!(Digest::of(&raw), chunk.blake3);
            assert!(raw.len() <= CHUNK_SIZE);
            len += raw.len() as u64;
        }
        assert_eq!(len, member.raw_len);
    }
}

fn what_is_not_there_is_not_given_out(bundle: &dyn BundleReader) {
    for member in &bundle.manifest().members {
        for index in [member.chunks.len(), usize::MAX] {
            let finding = bundle.read_chunk(member, index).unwrap_err();
            assert_eq!(finding.severity, Severity::Damage);
            assert_eq!(finding.place.member.as_deref(), Some(member.name.as_str()));
        }
    }
}

/// A caller may hand in a member that is not the manifest's.
fn lies_about_a_chunk_are_noticed(bundle: &dyn BundleReader) {
    let lies: [fn(&mut arkstream_format::Chunk); 10] = [
        |chunk| chunk.offset += 1,
        |chunk| chunk.offset = u64::MAX,
        |chunk| chunk.offset = u64::MAX - 7,
        |chunk| chunk.raw_len += 1,
        |chunk| chunk.raw_len = u32::MAX,
        |chunk| chunk.stored_len += 1,
        |chunk| chunk.stored_len = u32::MAX,
        |chunk| chunk.crc32 = Crc32(!chunk.crc32.0),
        |chunk| chunk.blake3 = Digest::of(b"another"),
        |chunk| (chunk.raw_len, chunk.stored_len) = (0, 0),
    ];
    for member in &bundle.manifest().members {
        for (number, lie) in lies.iter().enumerate() {
            let mut told: Member = member.clone();
            let Some(chunk) = told.chunks.first_mut() else {
                continue;
            };
            lie(chunk);
            let read = bundle.read_chunk(&told, 0);
            assert!(read.is_err(), "lie {number} about {}", member.name);
        }
    }
}

/// Whatever byte is flipped: the bundle is refused, its framing has a finding, or a chunk is not given
/// out; and no chunk is given out with other bytes.
fn no_flipped_byte_is_given_out(readers: &dyn Readers, sound: &dyn BundleReader) {
    let (len, manifest) = (sound.file_len(), sound.manifest());
    let mut places: Vec<u64> = (0..len)
        .step_by(usize::try_from(len / 150 + 1).unwrap())
        .collect();
    for member in &manifest.members {
        let ends = [
            member.header_offset,
            member.data_offset,
            member.data_offset + member.stored_len,
        ];
        places.extend(
            ends.into_iter()
                .flat_map(|end| [end.saturating_sub(1), end]),
        );
    }
    places.extend([len - 1, len - 22, len - 100]);
    for (number, place) in places.into_iter().filter(|place| *place < len).enumerate() {
        let mask = 1 << (number % 8);
        readers.flip(place, mask);
        let noticed = match readers.open() {
            None => true,
            Some(bundle) => {
                let mut noticed = !bundle.check_framing().is_empty();
                for member in &bundle.manifest().members {
                    for index in 0..member.chunks.len() {
                        noticed |= bundle.read_chunk(member, index).is_err();
                    }
                }
                noticed
            }
        };
        readers.flip(place, mask);
        assert!(noticed, "a flipped bit at {place} is noticed");
    }
}

//! What the fuzz targets need of this crate and nobody else does.

use arkstream_format::{Compression, Crc32, Digest, FORMAT_VERSION, Manifest};

use crate::{
    codec::{Effort, EncodedChunk, STREAM_END},
    framing::{Entry, end_records},
    trailer::Trailer,
};

/// A file whose manifest is proven, whatever it says: `body`, then `json` as `manifest.json`, a
/// directory of the members of `manifest`, and the comment with the hash.
#[must_use]
pub fn seal(manifest: &Manifest, json: &[u8], body: &[u8]) -> Vec<u8> {
    let chunk = EncodedChunk::new(
        json.to_vec().into(),
        Compression::Deflate,
        Effort::default(),
    );
    let stored = [&chunk.stored(Compression::Deflate)[..], &STREAM_END].concat();
    let mut trailer = Trailer {
        format_version: match manifest.format_version.is_ascii() {
            true => manifest.format_version.clone(),
            false => FORMAT_VERSION.to_owned(),
        },
        header_offset: body.len() as u64,
        data_offset: body.len() as u64,
        stored_len: stored.len() as u64,
        raw_len: json.len() as u64,
        blake3: Digest::of(&stored),
    };
    let entry = |trailer: &Trailer| trailer.entry(Crc32::of(json), manifest.started_at);
    let mut file = body.to_vec();
    file.extend(Entry::from(&entry(&trailer)).local_header());
    trailer.data_offset = file.len() as u64;
    file.extend(stored);
    let entry = entry(&trailer);
    let directory_offset = file.len() as u64;
    for member in manifest.members.iter().chain([&entry]) {
        file.extend(Entry::from(member).central_header());
    }
    let end = end_records(
        manifest.members.len() as u64 + 1,
        directory_offset,
        file.len() as u64 - directory_offset,
        &trailer.comment(),
    );
    file.extend(end);
    file
}

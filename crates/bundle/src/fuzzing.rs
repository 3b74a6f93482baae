//! What the fuzz targets need of this crate and nobody else does.

use arkstream_format::{
    Component, Compression, Crc32, Digest, FORMAT_VERSION, Manifest, Member, member_names,
};

use crate::{
    codec::{Effort, EncodedChunk, STREAM_END},
    framing::{Entry, end_records},
    publish::DESCRIPTION_MODE,
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
    let mut entry = Member {
        name: member_names::MANIFEST.to_owned(),
        component: Component::Description,
        compression: Compression::Deflate,
        header_offset: body.len() as u64,
        data_offset: 0,
        raw_len: json.len() as u64,
        stored_len: stored.len() as u64,
        crc32: Crc32::of(json),
        digest: Digest::of(&stored),
        descriptor: false,
        modified_at: manifest.started_at,
        mode: DESCRIPTION_MODE,
        rows: None,
        proof: None,
        copied: None,
        chunks: Vec::new(),
    };
    let mut file = body.to_vec();
    file.extend(Entry::from(&entry).local_header());
    entry.data_offset = file.len() as u64;
    file.extend(stored);
    let directory_offset = file.len() as u64;
    for member in manifest.members.iter().chain([&entry]) {
        file.extend(Entry::from(member).central_header());
    }
    let trailer = Trailer {
        format_version: match manifest.format_version.is_ascii() {
            true => manifest.format_version.clone(),
            false => FORMAT_VERSION.to_owned(),
        },
        header_offset: entry.header_offset,
        data_offset: entry.data_offset,
        stored_len: entry.stored_len,
        raw_len: entry.raw_len,
        blake3: entry.digest,
    };
    let end = end_records(
        manifest.members.len() as u64 + 1,
        directory_offset,
        file.len() as u64 - directory_offset,
        &trailer.comment(),
    );
    file.extend(end);
    file
}

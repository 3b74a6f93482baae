//! A bundle as a later minor version may write it: with fields that nobody knows yet. No writer of ours does
//! so, hence the end of the file is made here.

use std::{fs, io::Read as _};

use serde_json::{Value, json};

use arkstream_bundle::BundleFile;
use arkstream_format::{Crc32, Digest};

use crate::support::scratch;

/// Where the archive comment says that the manifest's header and data are.
pub(super) fn manifest_place(bundle: &[u8]) -> (usize, usize) {
    let tail = String::from_utf8_lossy(&bundle[bundle.len() - 200..]).into_owned();
    let (_, place) = tail.split_once("manifest.json at ").expect("a comment");
    let (header, rest) = place.split_once('+').expect("a comment");
    let (len, _) = rest.split_once(',').expect("a comment");
    let number = |text: &str| text.parse::<usize>().expect("a number");
    (number(header), number(header) + number(len))
}

pub(super) fn with_unknown_fields(bundle: &[u8]) -> Vec<u8> {
    let (header, data) = manifest_place(bundle);
    let raw = serde_json::to_vec(&manifest(bundle)).expect("JSON");
    let len = u16::try_from(raw.len()).expect("one block");
    // One stored block, and the end of every deflate member.
    let mut stored = vec![0];
    stored.extend_from_slice(&len.to_le_bytes());
    stored.extend_from_slice(&(!len).to_le_bytes());
    stored.extend_from_slice(&raw);
    stored.extend_from_slice(&[3, 0]);
    let mut sums = Crc32::of(&raw).0.to_le_bytes().to_vec();
    for size in [stored.len(), raw.len()] {
        sums.extend_from_slice(&(size as u32).to_le_bytes());
    }

    let end = last(bundle, b"PK\x05\x06");
    let directory = number(&bundle[end + 16..]) as usize;
    let own_entry = last(&bundle[..end], b"PK\x01\x02");
    let mut out = bundle[..data].to_vec();
    out[header + 14..header + 26].copy_from_slice(&sums);
    out.extend_from_slice(&stored);
    let new_directory = out.len() as u32;
    let mut entries = bundle[directory..end].to_vec();
    entries[own_entry - directory + 16..][..12].copy_from_slice(&sums);
    out.extend_from_slice(&entries);
    let comment = format!(
        "Arkstream bundle, format 1.9.0; manifest.json at {header}+{}, {} of {} bytes, blake3 {}",
        data - header,
        stored.len(),
        raw.len(),
        Digest::of(&stored)
    );
    out.extend_from_slice(&bundle[end..end + 16]);
    out.extend_from_slice(&new_directory.to_le_bytes());
    out.extend_from_slice(&(comment.len() as u16).to_le_bytes());
    out.extend_from_slice(comment.as_bytes());
    out
}

/// The manifest with something new at every level.
fn manifest(bundle: &[u8]) -> Value {
    let path = scratch("make").join("small.zip");
    fs::write(&path, bundle).expect("a file");
    let bundle = BundleFile::open(&path).expect("it opens");
    let mut raw = Vec::new();
    let mut bytes = bundle.manifest_bytes().expect("a manifest");
    bytes.read_to_end(&mut raw).expect("a manifest");
    let mut manifest: Value = serde_json::from_slice(&raw).expect("JSON");
    manifest["format_version"] = json!("1.9.0");
    manifest["of_tomorrow"] = json!({"anything": [1, 2]});
    manifest["generator"]["of_tomorrow"] = json!(true);
    for member in manifest["members"].as_array_mut().expect("a list") {
        member["of_tomorrow"] = json!("new");
        for chunk in member["chunks"].as_array_mut().expect("a list") {
            chunk["of_tomorrow"] = json!(7);
        }
    }
    manifest["dead_ranges"][0]["of_tomorrow"] = json!(null);
    manifest
}

fn last(bytes: &[u8], four: &[u8; 4]) -> usize {
    let found = bytes.windows(4).rposition(|window| window == four);
    found.expect("a record")
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

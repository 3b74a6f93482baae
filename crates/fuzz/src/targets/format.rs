//! What reaches disk as JSON: the manifest and its kin, and the journal.

use std::{collections::HashSet, fmt::Debug};

use arkstream_bundle::{JournalState, read_journal};
use arkstream_format::{
    Crc32, Manifest, Metadata, ModelEntry, RestoreRecord, journal::Record, major_of,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::scratch;

/// A record that was read is written as one line, which is read to the same record. With 0 as its
/// first byte, the input is a record's JSON, to which the checksum is made.
pub fn journal_record(data: &[u8]) {
    let line = match data {
        [0, json @ ..] => with_checksum(json),
        line => line.to_vec(),
    };
    let Ok(record) = Record::from_line(&line) else {
        return;
    };
    let text = record.to_line().unwrap();
    let content = text.strip_suffix('\n').unwrap();
    assert!(!content.contains('\n'), "a record is one line");
    assert_eq!(Record::from_line(content.as_bytes()).unwrap(), record);
}

/// A journal is read to the first line that is torn, and a journal that was cut says what it said
/// up to the last whole line: nothing that stands behind a place changes what stood before it.
pub fn journal_file(data: &[u8]) {
    let Some((cut, lines)) = data.split_first_chunk::<2>() else {
        return;
    };
    let journal = journal_of(lines);
    let Some(whole) = read(&journal) else {
        return;
    };
    assert!(whole.valid_len <= journal.len() as u64);
    let names: HashSet<&str> = whole.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names.len(), whole.members.len(), "a name stands once");
    assert!(
        whole
            .members
            .is_sorted_by_key(|member| member.header_offset),
        "members stand in the order of the file"
    );

    let at = usize::from(u16::from_be_bytes(*cut)) % (journal.len() + 1);
    let last_line = journal[..at].iter().rposition(|byte| *byte == b'\n');
    let kept = &journal[..last_line.map_or(0, |end| end + 1)];
    let (torn, kept) = (read(&journal[..at]).unwrap(), read(kept).unwrap());
    assert_eq!(format!("{torn:?}"), format!("{kept:?}"), "cut at {at}");
    assert!(torn.valid_len <= whole.valid_len.min(at as u64));
}

/// The same types come back from what is written of them.
pub fn format_json(data: &[u8]) {
    let Some((which, json)) = data.split_first() else {
        return;
    };
    match which % 4 {
        0 => {
            if let Some(manifest) = again::<Manifest>(json) {
                let _ = major_of(&manifest.format_version);
                let checksum = Manifest::checksum_of(&manifest.members);
                assert_eq!(checksum.len(), "sha256:".len() + 64);
            }
        }
        1 => drop(again::<Metadata>(json)),
        2 => drop(again::<RestoreRecord>(json)),
        _ => drop(again::<Vec<ModelEntry>>(json)),
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(json: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(json).ok()?;
    let text = serde_json::to_vec(&value).unwrap();
    assert_eq!(serde_json::from_slice::<T>(&text).unwrap(), value);
    Some(value)
}

/// A journal of which each line that begins with `{` gets its checksum. The last one is torn unless
/// it has its newline.
pub(super) fn journal_of(lines: &[u8]) -> Vec<u8> {
    let mut journal = Vec::new();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(json) if json.starts_with(b"{") => {
                journal.extend(with_checksum(json));
                journal.push(b'\n');
            }
            _ => journal.extend(line),
        }
    }
    journal
}

fn with_checksum(json: &[u8]) -> Vec<u8> {
    [Crc32::of(json).to_string().as_bytes(), b" ", json].concat()
}

/// `None` where another version wrote a record.
fn read(journal: &[u8]) -> Option<JournalState> {
    scratch::file(journal, |path| read_journal(path).ok())
}

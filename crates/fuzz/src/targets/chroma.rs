//! The files of a Chroma directory that are not SQLite's.

use arkstream_chroma::fuzzing::{read_index, read_pickle};

const HEADER: usize = 100;

/// A header of 100 bytes, two bytes for the length of `data_level0.bin`, its bytes, and
/// `link_lists.bin`. What is accepted has as many labels as elements, and they are those that stand
/// at the offsets of the header.
pub fn hnsw_index(data: &[u8]) {
    let (header, rest) = data.split_at(data.len().min(HEADER));
    let (level0, lists) = match rest.split_first_chunk::<2>() {
        Some((len, rest)) => rest.split_at(usize::from(u16::from_be_bytes(*len)).min(rest.len())),
        None => (rest, &[][..]),
    };
    let Ok(index) = read_index(header, level0, lists) else {
        return;
    };
    assert_eq!(header.len(), HEADER);
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let (record, label_offset, data_offset) = (number(28), number(36), number(44));
    assert_eq!(index.elements, number(20));
    assert_eq!(data_offset + 4 * index.dimension, label_offset);
    if index.link_lists.is_ok() {
        assert!(lists.len() as u64 / 4 >= index.elements);
    }
    let Ok(labels) = index.labels else {
        return;
    };
    assert_eq!(labels.len() as u64, index.elements);
    if labels.is_empty() {
        return;
    }
    for ((label, deleted), element) in labels.iter().zip(level0.chunks(record as usize)) {
        let at = label_offset as usize;
        assert_eq!(element[at..at + 8], label.to_le_bytes());
        assert_eq!(*deleted, element[2] & 1 == 1);
    }
}

/// What was read of a pickle is read again from a pickle that says just that.
pub fn pickle(data: &[u8]) {
    let Ok((ids, labels)) = read_pickle(data) else {
        return;
    };
    assert!(ids.len() + labels.len() <= data.len(), "each takes a byte");
    let mut again = b"\x80\x04}(".to_vec();
    text(&mut again, "id_to_label");
    again.extend(b"}(");
    for (id, label) in &ids {
        text(&mut again, id);
        integer(&mut again, *label);
    }
    again.push(b'u');
    text(&mut again, "label_to_id");
    again.extend(b"}(");
    for (label, id) in &labels {
        integer(&mut again, *label);
        text(&mut again, id);
    }
    again.extend(b"uu.");
    assert_eq!(read_pickle(&again), Ok((ids, labels)));
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    out.extend(text.as_bytes());
}

/// As Python does it: the shortest two's complement.
fn integer(out: &mut Vec<u8>, value: i64) {
    let mut bytes = value.to_le_bytes().to_vec();
    while let [.., before, last] = bytes[..]
        && ((last == 0 && before < 0x80) || (last == 0xff && before >= 0x80))
    {
        bytes.pop();
    }
    out.push(0x8a);
    out.push(bytes.len() as u8);
    out.extend(bytes);
}

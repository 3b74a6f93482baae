//! `index_metadata.pickle`: which record has which label in the HNSW index.
//!
//! Two shapes occur: a dict (written by Chroma 1.5) and an instance of `PersistentData` (0.5).
//!
//! ```text
//! dimensionality, total_elements_added, max_seq_id
//! id_to_label   {record id: label}
//! label_to_id   {label: record id}
//! id_to_seq_id  {record id: sequence number}     often empty
//! ```
//!
//! This reader knows only the opcodes that these two need. It builds no object, imports nothing
//! and runs nothing; the one class it accepts is compared by name. Whatever else a pickle holds is
//! an error, never a panic.
//!
//! Limits: strings up to 1 MiB, dicts nested up to 8 deep, integers of 64 bits. Memory: at most
//! some 70 bytes per byte of the pickle, in practice 150 bytes a record.

use std::{collections::HashMap, io, io::Read, rc::Rc};

use thiserror::Error;

const MAX_STRING: u64 = 1 << 20;
const MAX_DEPTH: u8 = 8;
const CLASS: [&str; 2] = [
    "chromadb.segment.impl.vector.local_persistent_hnsw",
    "PersistentData",
];

/// Labels of an HNSW index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexMetadata {
    /// In the order of the pickle; an id that stands twice stands twice here.
    pub(crate) id_to_label: Vec<(Rc<str>, i64)>,
    pub(crate) label_to_id: Vec<(i64, Rc<str>)>,
}

/// Why a pickle is not one that Chroma wrote.
#[derive(Debug, Error)]
pub(crate) enum PickleError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it ends too early")]
    Cut,
    #[error("opcode {opcode:#04x} at byte {at} does not occur in pickles of Chroma")]
    Opcode { opcode: u8, at: u64 },
    #[error("{what} before byte {at}")]
    Malformed { what: &'static str, at: u64 },
    #[error("it has no {0}")]
    Missing(&'static str),
}

/// Reads a pickle.
pub(crate) fn read(input: impl Read) -> Result<IndexMetadata, PickleError> {
    let mut machine = Machine {
        input: io::BufReader::with_capacity(1 << 16, input),
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let Value::Dict(state) = machine.run()? else {
        return Err(machine.malformed("the pickle is neither a dict nor a PersistentData"));
    };
    interpret(state)
}

fn interpret(state: Dict) -> Result<IndexMetadata, PickleError> {
    let mut id_to_label = None;
    let mut label_to_id = None;
    for (key, value) in state.items {
        match (key, value) {
            (Value::Text(key), Value::Dict(dict)) if &*key == "id_to_label" => {
                id_to_label = Some(dict);
            }
            (Value::Text(key), Value::Dict(dict)) if &*key == "label_to_id" => {
                label_to_id = Some(dict);
            }
            _ => {}
        }
    }
    let id_to_label = id_to_label.ok_or(PickleError::Missing("id_to_label"))?;
    let label_to_id = label_to_id.ok_or(PickleError::Missing("label_to_id"))?;
    let ids = id_to_label.items.into_iter().map(|item| match item {
        (Value::Text(id), Value::Int(label)) => Ok((id, label)),
        _ => Err(PickleError::Missing(
            "id_to_label that maps texts to integers",
        )),
    });
    let labels = label_to_id.items.into_iter().map(|item| match item {
        (Value::Int(label), Value::Text(id)) => Ok((label, id)),
        _ => Err(PickleError::Missing(
            "label_to_id that maps integers to texts",
        )),
    });
    Ok(IndexMetadata {
        id_to_label: ids.collect::<Result<_, _>>()?,
        label_to_id: labels.collect::<Result<_, _>>()?,
    })
}

#[derive(Clone, Debug)]
enum Value {
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    EmptyTuple,
    /// The class `PersistentData`.
    Class,
    /// An instance of it without state.
    Instance,
    Dict(Dict),
    /// A dict or instance fetched from the memo. No pickle of Chroma does that.
    Shared,
}

#[derive(Clone, Debug, Default)]
struct Dict {
    items: Vec<(Value, Value)>,
    /// Levels of dicts inside this one.
    depth: u8,
}

struct Machine<R> {
    input: io::BufReader<R>,
    at: u64,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl<R: Read> Machine<R> {
    fn run(&mut self) -> Result<Value, PickleError> {
        loop {
            let at = self.at;
            let [opcode] = self.bytes()?;
            match opcode {
                b'.' => return self.stop(),
                0x80 => drop(self.bytes::<1>()?),
                0x95 => drop(self.bytes::<8>()?),
                b'N' => self.stack.push(Value::None),
                0x88 | 0x89 => self.stack.push(Value::Bool),
                b'K' | b'M' | b'J' | 0x8a => {
                    let int = self.int(opcode)?;
                    self.stack.push(Value::Int(int));
                }
                b'X' | 0x8c | 0x8d => {
                    let len = match opcode {
                        0x8c => u64::from(u8::from_le_bytes(self.bytes()?)),
                        b'X' => u64::from(u32::from_le_bytes(self.bytes()?)),
                        _ => u64::from_le_bytes(self.bytes()?),
                    };
                    let text = self.text(len)?;
                    self.stack.push(Value::Text(text));
                }
                b'}' => self.stack.push(Value::Dict(Dict::default())),
                b')' => self.stack.push(Value::EmptyTuple),
                b'(' => self.marks.push(self.stack.len()),
                b's' => {
                    let from = self.stack.len().saturating_sub(2);
                    self.set_items(from)?;
                }
                b'u' => {
                    let mark = self.marks.pop();
                    let from = mark.ok_or_else(|| self.malformed("items without a mark"))?;
                    self.set_items(from)?;
                }
                0x94 | b'q' | b'r' => self.remember(opcode)?,
                b'h' | b'j' => self.recall(opcode)?,
                b'c' | 0x93 => self.class(opcode)?,
                0x81 => match (self.pop()?, self.pop()?) {
                    (Value::EmptyTuple, Value::Class) => self.stack.push(Value::Instance),
                    _ => return Err(self.malformed("an object of an unknown class")),
                },
                b'b' => match (self.pop()?, self.pop()?) {
                    (Value::Dict(state), Value::Instance) => self.stack.push(Value::Dict(state)),
                    _ => return Err(self.malformed("a state that is no dict of an object")),
                },
                opcode => return Err(PickleError::Opcode { opcode, at }),
            }
        }
    }

    fn stop(&mut self) -> Result<Value, PickleError> {
        let value = self.pop()?;
        if !self.stack.is_empty() || !self.marks.is_empty() {
            return Err(self.malformed("values are left over"));
        }
        let end = self.input.read(&mut [0]);
        match end {
            Ok(0) => Ok(value),
            Ok(_) => Err(self.malformed("bytes follow the end of the pickle")),
            Err(error) => Err(error.into()),
        }
    }

    fn int(&mut self, opcode: u8) -> Result<i64, PickleError> {
        match opcode {
            b'K' => Ok(i64::from(u8::from_le_bytes(self.bytes()?))),
            b'M' => Ok(i64::from(u16::from_le_bytes(self.bytes()?))),
            b'J' => Ok(i64::from(i32::from_le_bytes(self.bytes()?))),
            _ => {
                let [len] = self.bytes()?;
                if len > 8 {
                    return Err(self.malformed("an integer of more than 64 bits"));
                }
                let mut value = 0i64;
                let mut last = 0;
                for place in 0..u32::from(len) {
                    [last] = self.bytes()?;
                    value |= i64::from(last) << (8 * place);
                }
                // Two's complement: the last byte has the sign.
                if last >= 0x80 && len < 8 {
                    value |= -1 << (8 * u32::from(len));
                }
                Ok(value)
            }
        }
    }

    fn text(&mut self, len: u64) -> Result<Rc<str>, PickleError> {
        if len > MAX_STRING {
            return Err(self.malformed("a text of more than 1 MiB"));
        }
        let mut bytes = Vec::new();
        self.input.by_ref().take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(PickleError::Cut);
        }
        self.at += len;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(self.malformed("a text that is not UTF-8")),
        }
    }

    /// Moves the pairs above `from` into the dict below them.
    fn set_items(&mut self, from: usize) -> Result<(), PickleError> {
        if self.marks.last().is_some_and(|mark| *mark > from) || from > self.stack.len() {
            return Err(self.malformed("items that reach across a mark"));
        }
        let items = self.stack.split_off(from);
        let malformed = PickleError::Malformed {
            what: "items without their dict",
            at: self.at,
        };
        let Some(Value::Dict(dict)) = self.stack.last_mut() else {
            return Err(malformed);
        };
        if !items.len().is_multiple_of(2) {
            return Err(malformed);
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            if matches!(key, Value::Dict(_)) {
                return Err(malformed);
            }
            if let Value::Dict(inner) = &value {
                dict.depth = dict.depth.max(inner.depth.saturating_add(1));
            }
            dict.items.push((key, value));
        }
        if dict.depth > MAX_DEPTH {
            return Err(self.malformed("dicts nested too deep"));
        }
        Ok(())
    }

    fn remember(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'q' => u32::from(u8::from_le_bytes(self.bytes()?)),
            b'r' => u32::from_le_bytes(self.bytes()?),
            _ => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
        };
        let value = match self.stack.last() {
            Some(Value::Dict(_) | Value::Instance) => Value::Shared,
            Some(value) => value.clone(),
            None => return Err(self.malformed("nothing to remember")),
        };
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<(), PickleError> {
        let key = match opcode {
            b'h' => u32::from(u8::from_le_bytes(self.bytes()?)),
            _ => u32::from_le_bytes(self.bytes()?),
        };
        let value = self.memo.get(&key).cloned();
        let value = value.ok_or_else(|| self.malformed("a memo that was never set"))?;
        self.stack.push(value);
        Ok(())
    }

    fn class(&mut self, opcode: u8) -> Result<(), PickleError> {
        let known = if opcode == b'c' {
            self.line(CLASS[0])? && self.line(CLASS[1])?
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => [&*module, &*name] == CLASS,
                _ => false,
            }
        };
        if !known {
            return Err(self.malformed("a class other than PersistentData"));
        }
        self.stack.push(Value::Class);
        Ok(())
    }

    /// Whether the next line is `expected`.
    fn line(&mut self, expected: &str) -> Result<bool, PickleError> {
        for wanted in expected.bytes().chain([b'\n']) {
            let [found] = self.bytes()?;
            if found != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        if self
            .marks
            .last()
            .is_some_and(|mark| *mark >= self.stack.len())
        {
            return Err(self.malformed("a value is missing"));
        }
        self.stack
            .pop()
            .ok_or_else(|| self.malformed("a value is missing"))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let mut bytes = [0; N];
        match self.input.read_exact(&mut bytes) {
            Ok(()) => {
                self.at += N as u64;
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(PickleError::Cut),
            Err(error) => Err(error.into()),
        }
    }

    fn malformed(&self, what: &'static str) -> PickleError {
        PickleError::Malformed { what, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DICT: &[u8] = include_bytes!("../../tests/fixtures/chroma-1.5.9.pickle");
    const INSTANCE: &[u8] = include_bytes!("../../tests/fixtures/chroma-0.5.23.pickle");

    #[test]
    fn both_shapes_are_read() {
        for pickle in [DICT, INSTANCE] {
            let read = read(pickle).unwrap();
            let mut ids: Vec<_> = read
                .id_to_label
                .iter()
                .map(|(id, label)| (&**id, *label))
                .collect();
            ids.sort_unstable_by_key(|(_, label)| *label);
            let expected = [
                "r00000", "r00001", "é ☃", "🚀", "r00004", "r00005", "r00006",
            ];
            assert_eq!(ids.len(), expected.len(), "{read:?}");
            assert!(
                expected
                    .iter()
                    .all(|wanted| ids.iter().any(|(id, _)| id == wanted)),
                "{ids:?}"
            );
            assert_eq!(read.label_to_id.len(), 7);
            for (label, id) in &read.label_to_id {
                assert!(read.id_to_label.contains(&(Rc::clone(id), *label)));
            }
        }
    }

    #[test]
    fn every_cut_is_an_error() {
        for pickle in [DICT, INSTANCE] {
            for end in 0..pickle.len() {
                assert!(read(&pickle[..end]).is_err(), "cut at {end}");
            }
            let longer = [pickle, b"."].concat();
            assert!(read(&*longer).is_err());
        }
    }

    #[test]
    fn a_pickle_that_would_run_code_is_refused() {
        let system = b"cos\nsystem\n(S'true'\ntR.";
        assert!(matches!(
            read(&system[..]),
            Err(PickleError::Malformed { .. })
        ));
        let reduce = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.";
        assert!(read(&reduce[..]).is_err());
    }

    #[test]
    fn nesting_does_not_exhaust_the_stack() {
        let mut deep = b"\x80\x03".to_vec();
        deep.extend(std::iter::repeat_n(b"}X\x01\0\0\0a".as_slice(), 200_000).flatten());
        deep.push(b'N');
        deep.extend(std::iter::repeat_n(b's', 200_000));
        deep.push(b'.');
        let result = read(&*deep);
        assert!(
            matches!(result, Err(PickleError::Malformed { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        assert!(read(&b"X\xff\xff\xff\xff"[..]).is_err());
        assert!(read(&b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"[..]).is_err());
    }

    #[test]
    fn long_integers_keep_their_sign() {
        for (bytes, expected) in [
            (&b"\x8a\x00"[..], 0),
            (&b"\x8a\x01\xff"[..], -1),
            (&b"\x8a\x02\xff\x00"[..], 255),
            (&b"\x8a\x05\x00\x00\x00\x00\x01"[..], 1 << 32),
            (&b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80"[..], i64::MIN),
        ] {
            let pickle = [
                b"}X\x0b\0\0\0id_to_label}X\x01\0\0\0a",
                bytes,
                b"ssX\x0b\0\0\0label_to_id}s.",
            ]
            .concat();
            assert_eq!(
                read(&*pickle).unwrap().id_to_label,
                [("a".into(), expected)]
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&*bytes);
        }

        #[test]
        fn opcodes_in_any_order_never_panic(
            bytes in proptest::collection::vec(
                proptest::sample::select(b"\x80\x95N\x88KMJ\x8aX\x8c\x8d})(su\x94qrhjc\x93\x81b.\0\x01a".to_vec()),
                0..200,
            ),
        ) {
            let _ = read(&*bytes);
        }

        #[test]
        fn mutated_pickles_never_panic(
            first in any::<bool>(),
            edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut pickle = if first { DICT } else { INSTANCE }.to_vec();
            for (at, byte) in edits {
                let at = at.index(pickle.len());
                pickle[at] = byte;
            }
            let _ = read(&*pickle);
        }
    }
}

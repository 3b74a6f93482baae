//! What the server sends, with large COPY messages cut into small ones.
//!
//! PostgreSQL sends each row of a COPY as one `CopyData` message, however large the row, and a client
//! that follows the protocol message by message holds it whole. The protocol gives the boundaries of
//! these messages no meaning: their contents, one after the other, are the stream. So a message that
//! is larger than a limit is passed on as several, and everything else byte for byte.
//!
//! Format of a message from the server: one byte that says its kind, `i32` length (big-endian, itself
//! included, the kind not), contents. `CopyData` has the kind `d`.
//!
//! Memory: five bytes.

/// Kind and length.
const HEADER: usize = 5;

/// The length counts itself.
const LENGTH: usize = 4;

const COPY_DATA: u8 = b'd';

/// Cuts the messages of one connection.
#[derive(Debug)]
pub(crate) struct Pieces {
    /// Contents of a `CopyData` message that is passed on.
    limit: usize,
    header: [u8; HEADER],
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the next header have come.
    Reading(usize),
    /// So many bytes of the header have been passed on; contents of that length follow in this
    /// message, and more in messages that are made here.
    Writing {
        written: usize,
        piece: usize,
        more: usize,
    },
    /// As above, within the contents.
    Contents { piece: usize, more: usize },
}

impl Pieces {
    /// `limit`: bytes of a `CopyData` message, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            header: [0; HEADER],
            state: State::Reading(0),
        }
    }

    /// Passes on what has come: takes bytes off the front of `input`, writes to the front of `output`.
    /// Returns how many were taken and written. It stops when `input` is used up or `output` is full.
    pub(crate) fn pass(&mut self, mut input: &[u8], mut output: &mut [u8]) -> (usize, usize) {
        let (came, room) = (input.len(), output.len());
        loop {
            match self.state {
                State::Reading(read) => {
                    let end = HEADER.min(read + input.len());
                    let Some(slots) = self.header.get_mut(read..end) else {
                        break;
                    };
                    let (taken, rest) = input.split_at(slots.len());
                    slots.copy_from_slice(taken);
                    input = rest;
                    if end < HEADER {
                        self.state = State::Reading(end);
                        break;
                    }
                    self.begin();
                }
                State::Writing {
                    written,
                    piece,
                    more,
                } => {
                    let left = self.header.get(written..).unwrap_or_default();
                    let written = written + copy(left, &mut output);
                    if written < HEADER {
                        self.state = State::Writing {
                            written,
                            piece,
                            more,
                        };
                        break;
                    }
                    self.state = State::Contents { piece, more };
                }
                State::Contents { piece: 0, more: 0 } => self.state = State::Reading(0),
                State::Contents { piece: 0, more } => self.cut(more),
                State::Contents { piece, more } => {
                    let part = input.get(..piece.min(input.len())).unwrap_or_default();
                    let moved = copy(part, &mut output);
                    if moved == 0 {
                        break;
                    }
                    input = input.get(moved..).unwrap_or_default();
                    let piece = piece - moved;
                    self.state = State::Contents { piece, more };
                }
            }
        }
        (came - input.len(), room - output.len())
    }

    /// Bytes that come next and are passed on as they are, without a look at them.
    pub(crate) fn plain(&self) -> usize {
        match self.state {
            State::Contents { piece, .. } => piece,
            _ => 0,
        }
    }

    /// Says that so many of the [`Pieces::plain`] bytes went another way.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let State::Contents { piece, .. } = &mut self.state {
            *piece = piece.saturating_sub(bytes);
        }
    }

    /// Begins the message whose header has come.
    fn begin(&mut self) {
        let [kind, length @ ..] = self.header;
        let contents = usize::try_from(i32::from_be_bytes(length))
            .ok()
            .and_then(|length| length.checked_sub(LENGTH));
        match contents {
            Some(contents) if kind == COPY_DATA && contents > self.limit => self.cut(contents),
            // No message has such a length, and whoever reads it says so. Nothing is known of what
            // follows.
            contents => {
                self.state = State::Writing {
                    written: 0,
                    piece: contents.unwrap_or(usize::MAX),
                    more: 0,
                }
            }
        }
    }

    /// Begins the next piece of contents of which so many bytes are left.
    fn cut(&mut self, left: usize) {
        let piece = left.min(self.limit);
        // The limit is far below what an i32 counts.
        let length = i32::try_from(piece + LENGTH).unwrap_or(i32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        self.header = [COPY_DATA, a, b, c, d];
        self.state = State::Writing {
            written: 0,
            piece,
            more: left - piece,
        };
    }
}

/// Writes as much as there is room for, and says how much.
fn copy(from: &[u8], to: &mut &mut [u8]) -> usize {
    let bytes = from.len().min(to.len());
    let (front, rest) = std::mem::take(to).split_at_mut(bytes);
    front.copy_from_slice(from.get(..bytes).unwrap_or_default());
    *to = rest;
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Kind and contents.
    type Message = (u8, Vec<u8>);

    fn message() -> impl Strategy<Value = Message> {
        let kinds = prop_oneof![3 => Just(b'd'), 1 => any::<u8>()];
        (kinds, proptest::collection::vec(any::<u8>(), 0..90))
    }

    fn wire(messages: &[Message]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, contents) in messages {
            bytes.push(*kind);
            bytes.extend((contents.len() as i32 + 4).to_be_bytes());
            bytes.extend(contents);
        }
        bytes
    }

    fn parse(mut bytes: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
            let length = i32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let (contents, rest) = rest.split_at(length - 4);
            messages.push((header[0], contents.to_vec()));
            bytes = rest;
        }
        assert!(bytes.is_empty(), "a message is cut off");
        messages
    }

    /// Passes `wire` in pieces of `sizes`, through buffers of `rooms`, some plain bytes another way.
    fn passed(wire: &[u8], limit: usize, sizes: &[usize], rooms: &[usize]) -> Vec<u8> {
        let mut pieces = Pieces::new(limit);
        let mut out = Vec::new();
        let (mut sizes, mut rooms) = (sizes.iter().cycle(), rooms.iter().cycle());
        let mut rest = wire;
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            let mut now = now;
            // What is plain may be read past the cutter.
            if pieces.plain() > 0 && now.len() % 2 == 1 {
                let plain = pieces.plain().min(now.len());
                out.extend(&now[..plain]);
                pieces.passed(plain);
                now = &now[plain..];
            }
            loop {
                let mut buffer = vec![0; *rooms.next().unwrap()];
                let (taken, written) = pieces.pass(now, &mut buffer);
                out.extend(&buffer[..written]);
                now = &now[taken..];
                if now.is_empty() && written < buffer.len() {
                    break;
                }
            }
            rest = later;
        }
        out
    }

    proptest! {
        #[test]
        fn the_stream_of_copy_data_and_all_else_are_the_same_however_they_arrive(
            messages in proptest::collection::vec(message(), 0..12),
            limit in 1usize..40,
            sizes in proptest::collection::vec(1usize..70, 1..6),
            rooms in proptest::collection::vec(1usize..70, 1..6),
        ) {
            let found = parse(&passed(&wire(&messages), limit, &sizes, &rooms));
            let mut found = found.into_iter();
            for (kind, contents) in messages {
                let mut joined = Vec::new();
                loop {
                    let (k, piece) = found.next().expect("a message is missing");
                    prop_assert_eq!(k, kind);
                    prop_assert!(kind != COPY_DATA || piece.len() <= limit);
                    prop_assert!(kind == COPY_DATA || piece.len() == contents.len());
                    joined.extend(piece);
                    if joined.len() >= contents.len() {
                        break;
                    }
                }
                prop_assert_eq!(joined, contents);
            }
            prop_assert!(found.next().is_none());
        }

        #[test]
        fn bytes_that_are_no_messages_are_passed_on_unread(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            sizes in proptest::collection::vec(1usize..9, 1..4),
        ) {
            let mut wire = vec![b'Z', 0, 0, 0, 3];
            wire.extend(bytes);
            prop_assert_eq!(passed(&wire, 8, &sizes, &[7]), wire);
        }
    }

    #[test]
    fn what_fits_is_not_touched() {
        let wire = wire(&[(b'd', vec![7; 8]), (b'D', vec![1; 80]), (b'd', Vec::new())]);
        assert_eq!(passed(&wire, 8, &[3], &[5]), wire);
    }
}

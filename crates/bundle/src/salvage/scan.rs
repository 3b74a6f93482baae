//! Looking for things in a damaged file: signatures, deflate streams, lines.
//!
//! Memory: a buffer of 1 MiB for each of them, and one line.

use std::{fs::File, io};

use flate2::{Decompress, FlushDecompress, Status};
use memchr::memmem;

use arkstream_pipeline::os;

/// What is read at once.
const WINDOW: usize = 1 << 20;
/// Unreadable bytes are passed over in steps of so many.
const SECTOR: usize = 4096;
/// What a decoder is given at once.
const INPUT: usize = 64 << 10;

/// Reads what can be read; the rest is zero.
fn read_leniently(file: &File, buffer: &mut [u8], at: u64) {
    if os::read_exact_at(file, buffer, at).is_ok() {
        return;
    }
    for (number, piece) in buffer.chunks_mut(SECTOR).enumerate() {
        if os::read_exact_at(file, piece, at + (number * SECTOR) as u64).is_err() {
            piece.fill(0);
        }
    }
}

/// The places at which four bytes stand.
pub(super) struct Signatures<'a> {
    file: &'a File,
    end: u64,
    finder: memmem::Finder<'static>,
    window: Vec<u8>,
    /// Where the window begins, and where the search goes on.
    window_at: u64,
    at: u64,
}

impl<'a> Signatures<'a> {
    pub(super) fn new(file: &'a File, signature: u32, start: u64, end: u64) -> Self {
        Self {
            file,
            end,
            finder: memmem::Finder::new(&signature.to_le_bytes()).into_owned(),
            window: Vec::new(),
            window_at: start,
            at: start,
        }
    }

    /// Goes on behind `at`.
    pub(super) fn go_on_at(&mut self, at: u64) {
        self.at = self.at.max(at);
    }

    pub(super) fn next(&mut self) -> Option<u64> {
        loop {
            let inside = self.at.saturating_sub(self.window_at) as usize;
            let rest = self.window.get(inside..).unwrap_or_default();
            if let Some(found) = self.finder.find(rest) {
                let place = self.at + found as u64;
                self.at = place + 4;
                return Some(place);
            }
            let window_end = self.window_at + self.window.len() as u64;
            // The last three bytes may be the beginning of one.
            let next = self.at.max(window_end.saturating_sub(3));
            let len = self.end.saturating_sub(next).min(WINDOW as u64) as usize;
            if len < 4 || window_end >= self.end {
                return None;
            }
            (self.window_at, self.at) = (next, next);
            self.window.resize(len, 0);
            read_leniently(self.file, &mut self.window, next);
        }
    }
}

/// Why a deflate stream gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its end is here.
    End,
    /// The file ends before it does.
    CutOff,
    /// What follows is no deflate stream.
    Invalid,
}

/// A deflate stream in a file, decoded as far as it goes.
pub(super) struct Inflating<'a> {
    file: &'a File,
    at: u64,
    end: u64,
    input: Vec<u8>,
    used: usize,
    decoder: Decompress,
    stop: Option<Stop>,
}

impl<'a> Inflating<'a> {
    pub(super) fn new(file: &'a File, start: u64, end: u64) -> Self {
        Self {
            file,
            at: start,
            end,
            input: Vec::new(),
            used: 0,
            decoder: Decompress::new(false),
            stop: None,
        }
    }

    /// Bytes of the stream that were decoded.
    pub(super) fn consumed(&self) -> u64 {
        self.decoder.total_in()
    }

    /// Fills the buffer as far as it goes. The error says why nothing follows.
    pub(super) fn pull(&mut self, out: &mut [u8]) -> Result<usize, Stop> {
        loop {
            if let Some(stop) = self.stop {
                return Err(stop);
            }
            if self.used == self.input.len() && !self.refill() {
                return Err(self.stop_with(Stop::CutOff));
            }
            let (read, written) = (self.decoder.total_in(), self.decoder.total_out());
            let input = self.input.get(self.used..).unwrap_or_default();
            let outcome = self.decoder.decompress(input, out, FlushDecompress::None);
            let taken = (self.decoder.total_in() - read) as usize;
            let given = (self.decoder.total_out() - written) as usize;
            self.used += taken;
            match outcome {
                Ok(Status::StreamEnd) => self.stop = Some(Stop::End),
                Ok(_) if taken > 0 || given > 0 => {}
                _ => self.stop = Some(Stop::Invalid),
            }
            if given > 0 {
                return Ok(given);
            }
        }
    }

    fn stop_with(&mut self, stop: Stop) -> Stop {
        self.stop = Some(stop);
        stop
    }

    fn refill(&mut self) -> bool {
        let len = self.end.saturating_sub(self.at).min(INPUT as u64) as usize;
        self.input.resize(len, 0);
        self.used = 0;
        let read: io::Result<()> = os::read_exact_at(self.file, &mut self.input, self.at);
        self.at += len as u64;
        len > 0 && read.is_ok()
    }
}

/// Gathers lines that are not longer than a limit; longer ones are passed over.
pub(super) struct Lines {
    line: Vec<u8>,
    limit: u64,
    too_long: bool,
}

impl Lines {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            line: Vec::new(),
            limit,
            too_long: false,
        }
    }

    /// Calls `each` with every line that ends in `bytes`.
    pub(super) fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ends) = match piece.strip_suffix(b"\n") {
                Some(content) => (content, true),
                None => (piece, false),
            };
            if (self.line.len() + content.len()) as u64 > self.limit {
                self.too_long = true;
                self.line.clear();
            }
            if !self.too_long {
                self.line.extend_from_slice(content);
            }
            if ends {
                if !self.too_long {
                    each(&self.line);
                }
                self.line.clear();
                self.too_long = false;
            }
        }
    }
}

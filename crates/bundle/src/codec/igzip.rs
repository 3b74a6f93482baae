//! ISA-L's deflate (igzip): five times as fast as zlib at nearly its size.
//!
//! The one place of the project with `unsafe`: calls into a C library, whose structures are made,
//! used and dropped inside one function each. What C sees are pointers into slices that outlive the
//! call, with their true lengths; both functions refuse lengths that do not fit its 32-bit counters.
#![expect(unsafe_code, reason = "a C library is called")]

use isal_sys::igzip_lib as c;

/// Levels of igzip that are used. Level 0 expands float vectors, level 3 gains nothing on level 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    One,
    Two,
}

impl Level {
    /// The level and the bytes of working memory it asks for.
    fn parameters(self) -> (u32, u32) {
        match self {
            Self::One => (1, c::ISAL_DEF_LVL1_EXTRA_LARGE),
            Self::Two => (2, c::ISAL_DEF_LVL2_EXTRA_LARGE),
        }
    }
}

/// Compresses `raw` as raw deflate that ends in a sync flush; `None` if the result would not be
/// smaller than `raw`, or the library refuses.
pub(super) fn deflate(raw: &[u8], level: Level) -> Option<Vec<u8>> {
    let mut out = vec![0_u8; raw.len()];
    let (level, level_buf_size) = level.parameters();
    let mut level_buf = vec![0_u8; level_buf_size as usize];
    let avail_in = u32::try_from(raw.len()).ok()?;
    let avail_out = u32::try_from(out.len()).ok()?;
    let mut stream = zeroed_stream();
    // SAFETY: `stream` is a whole structure, all of whose bytes are initialised.
    unsafe { c::isal_deflate_init(&raw mut *stream) };
    stream.level = level;
    stream.level_buf = level_buf.as_mut_ptr();
    stream.level_buf_size = level_buf_size;
    stream.flush = c::SYNC_FLUSH as u16;
    stream.end_of_stream = 0;
    // The library only reads there; its interface lacks the `const`.
    stream.next_in = raw.as_ptr().cast_mut();
    stream.avail_in = avail_in;
    stream.next_out = out.as_mut_ptr();
    stream.avail_out = avail_out;
    // SAFETY: `next_in`, `next_out` and `level_buf` point to as many bytes as the lengths beside them
    // say; `raw`, `out` and `level_buf` live until after the call, and nobody else writes to them.
    let outcome = unsafe { c::isal_deflate(&raw mut *stream) };
    // With room left, the flush is complete.
    let complete = outcome == c::COMP_OK as i32 && stream.avail_in == 0 && stream.avail_out > 0;
    complete.then(|| {
        out.truncate(stream.total_out as usize);
        out
    })
}

/// Decompresses what [`deflate`] and its like write, into `out`. Returns the bytes that were read and
/// written; `None` if the data is invalid.
pub(super) fn inflate(stored: &[u8], out: &mut [u8]) -> Option<(usize, usize)> {
    let avail_in = u32::try_from(stored.len()).ok()?;
    let avail_out = u32::try_from(out.len()).ok()?;
    let mut state = zeroed_state();
    // SAFETY: `state` is a whole structure, all of whose bytes are initialised.
    unsafe { c::isal_inflate_init(&raw mut *state) };
    state.next_in = stored.as_ptr().cast_mut();
    state.avail_in = avail_in;
    state.next_out = out.as_mut_ptr();
    state.avail_out = avail_out;
    // SAFETY: as in `deflate`; the library writes to `out` alone, at most `avail_out` bytes.
    let outcome = unsafe { c::isal_inflate(&raw mut *state) };
    (outcome == c::ISAL_DECOMP_OK as i32).then(|| {
        let read = stored.len() - state.avail_in as usize;
        (read, state.total_out as usize)
    })
}

fn zeroed_stream() -> Box<c::isal_zstream> {
    // SAFETY: integers, arrays of them and raw pointers, for all of which zero is a value.
    Box::new(unsafe { std::mem::zeroed() })
}

fn zeroed_state() -> Box<c::inflate_state> {
    // SAFETY: as in `zeroed_stream`; its union is of integers.
    Box::new(unsafe { std::mem::zeroed() })
}

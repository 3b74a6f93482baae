//! What a journal speaks of must cover the file without a gap and without an overlap.
//!
//! Whatever this program journals does. A journal that does not (a line is gone, somebody edited it)
//! would lead to a bundle that is published and not whole. What stands behind the first place where
//! the cover ends is given up and made again.

use arkstream_format::{DeadRange, Member};

use crate::{
    framing::{Entry, check_name},
    journal::{Torn, chunk_end},
    opening::Totals,
    resume::end_of,
};

/// Keeps the members and dead ranges that follow one another from the first byte on, and tells where
/// they end. Members that are given up are named in `missing`.
pub(crate) fn keep_tiles(
    members: &mut Vec<Member>,
    dead: &mut Vec<DeadRange>,
    missing: &mut Vec<String>,
) -> u64 {
    members.sort_by_key(|member| member.header_offset);
    dead.sort_by_key(|range| range.offset);
    let mut end = 0;
    let (mut listed, mut buried) = (0, 0);
    loop {
        if let Some(member) = members.get(listed)
            && member.header_offset == end
            && is_possible(member)
        {
            end = end_of(member);
            listed += 1;
        } else if let Some(range) = dead.get(buried)
            && range.offset == end
            && range.len > 0
        {
            end = range.end();
            buried += 1;
        } else {
            break;
        }
    }
    for member in members.drain(listed..) {
        missing.push(format!(
            "{}: the journal leaves a gap before it",
            member.name
        ));
    }
    dead.truncate(buried);
    end
}

/// Whether a torn member begins there, and its data behind its header.
pub(crate) fn follows(torn: &Torn, end: u64) -> bool {
    let entry = torn.opening.entry(torn.header_offset, Totals::UNKNOWN);
    torn.header_offset == end
        && torn.data_offset == end.saturating_add(entry.local_header().len() as u64)
        && check_name(&torn.opening.name).is_ok()
}

/// How many of its chunks follow one another.
pub(crate) fn contiguous(torn: &Torn) -> usize {
    let mut end = torn.data_offset;
    torn.chunks
        .iter()
        .take_while(|chunk| {
            let follows = chunk.offset == end;
            end = chunk_end(chunk);
            follows
        })
        .count()
}

/// Whether a bundle may have such a member.
fn is_possible(member: &Member) -> bool {
    let header = Entry::from(member).local_header().len() as u64;
    member.data_offset == member.header_offset.saturating_add(header)
        && check_name(&member.name).is_ok()
}

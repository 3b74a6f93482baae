//! Dumps: complete means that `pg_dump`'s own end marker is there.

use arkstream_format::{Component, Member};
use arkstream_pipeline::{BundleReader, ContentCheck, Finding};

/// What `pg_dump` writes last (a `\unrestrict` line of recent releases may follow).
const END_MARKER: &[u8] = b"-- PostgreSQL database dump complete";

/// How much of the end is searched.
const TAIL: usize = 4096;

/// Checks the end of each dump.
#[derive(Debug)]
pub(crate) struct DumpCheck;

impl ContentCheck for DumpCheck {
    fn name(&self) -> &'static str {
        "dumps"
    }

    fn wants(&self, member: &Member) -> bool {
        matches!(member.component, Component::Graph | Component::OdooDump)
    }

    fn check(&mut self, bundle: &dyn BundleReader, member: &Member) -> Vec<Finding> {
        let mut tail: Vec<u8> = Vec::new();
        // The marker may stand across the last two chunks.
        for index in member.chunks.len().saturating_sub(2)..member.chunks.len() {
            match bundle.read_chunk(member, index) {
                Ok(raw) => tail.extend_from_slice(&raw[raw.len().saturating_sub(TAIL)..]),
                Err(finding) => return vec![finding],
            }
        }
        if tail.windows(END_MARKER.len()).any(|at| at == END_MARKER) {
            Vec::new()
        } else {
            vec![Finding::in_member(
                member,
                "the dump is not complete: pg_dump's end marker is missing",
            )]
        }
    }

    fn conclude(&mut self, _: &dyn BundleReader) -> Vec<Finding> {
        Vec::new()
    }
}

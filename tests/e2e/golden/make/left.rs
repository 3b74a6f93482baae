//! What runs leave that are killed: unfinished bundles with their journals, and an unfinished copy.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use arkstream_bundle::{BundleFile, BundleWriter, Leftover, OutputPaths};
use arkstream_format::{Component, Compression};
use arkstream_pipeline::{BundleReader as _, BundleSink as _, Sink as _};

use super::{DUMP, case_of, open, plan, put, stream};
use crate::{
    golden::{
        contents::{
            CHUNK_AND_MORE, ENCODER, LINE, LINES, dump, first_generation, generation,
            plain_manifest, spec,
        },
        unfinished,
    },
    support::{runtime, scratch},
};

/// A run that has written its first members.
async fn begun() -> (OutputPaths, Arc<BundleWriter>) {
    let paths = OutputPaths::new(&scratch("make").join("bundle.zip"));
    let writer = open(&paths, 1, Leftover::Discard).await;
    writer
        .begin_generation(generation(1))
        .await
        .expect("a barrier");
    for item in first_generation() {
        put(&writer, item).await;
    }
    (paths, writer)
}

/// What a run leaves that is killed while it streams the dump: unfinished bundle and journal.
async fn interrupted() -> (Vec<u8>, Vec<u8>) {
    let (paths, writer) = begun().await;
    writer.sync().await.expect("synced");
    let spec = spec(DUMP, Component::OdooDump, Compression::Deflate);
    let mut member = writer.begin(spec).await.expect("a member");
    // Two chunks are in the file, the third is not whole.
    for piece in dump(2 * LINES).chunks(1 << 20).take(10) {
        member
            .write(Bytes::copy_from_slice(piece))
            .await
            .expect("written");
    }
    writer.sync().await.expect("synced");
    // The process dies: nobody gives it up.
    std::mem::forget(member);
    let partial = fs::read(&paths.partial).expect("a file");
    (partial, fs::read(&paths.journal).expect("a file"))
}

pub(super) fn unfinished_bundles(folder: &Path, finished: &[u8]) {
    let (partial, journal) = runtime().block_on(interrupted());
    let lines: Vec<&[u8]> = journal.split_inclusive(|byte| *byte == b'\n').collect();
    let record = |line: &[u8]| -> Value { serde_json::from_slice(&line[9..]).expect("a record") };
    let chunks: Vec<usize> = (0..lines.len())
        .filter(|line| record(lines[*line])["record"] == "chunk")
        .collect();
    assert!(chunks.len() >= 2, "{} chunks", chunks.len());
    let up_to = |line: usize| lines[..line].concat();
    let chunk_at = |line: usize| {
        let chunk = record(lines[line])["chunk"].clone();
        let number = |key: &str| chunk[key].as_u64().expect("a number") as usize;
        (number("offset"), number("stored_len"))
    };
    let (second, len) = chunk_at(chunks[1]);
    let case = |name: &str, what: &str, partial: &[u8], journal: &[u8]| {
        let files: [(&str, &[u8]); 2] = [
            ("bundle.zip.partial", partial),
            ("bundle.zip.journal", journal),
        ];
        let write = case_of(folder, name, &files);
        let resume = unfinished::resume(&folder.join(name));
        write(
            json!({"kind": "unfinished", "what": what, "plan": plan(), "resume": resume,
                     "streamed": {"name": DUMP, "line": LINE, "times": LINES}}),
        );
    };
    let torn = partial[..second + len / 2].to_vec();
    let before = up_to(chunks[1]);
    case(
        "torn-in-a-chunk",
        "killed while the second chunk of a dump was written",
        &torn,
        &before,
    );
    let mut half = before.clone();
    half.extend_from_slice(&lines[chunks[1]][..70]);
    case(
        "torn-in-a-journal-line",
        "killed while a line of the journal was written",
        &partial,
        &half,
    );
    let (cut_partial, cut_journal) = after_a_cut(&torn, &before);
    case(
        "torn-after-a-cut",
        "continued once, and killed again before the first sync",
        &[cut_partial, vec![0xAB; 1000]].concat(),
        &cut_journal,
    );
    case(
        "torn-at-the-end",
        "killed right after a sync",
        &partial,
        &journal,
    );
    let short = record_end(&lines, "odoo_data/filestore/cc/empty", record) + 200;
    case(
        "shorter-than-the-journal",
        "the disk has lost what it had acknowledged",
        &partial[..short],
        &journal,
    );
    let (cut_partial, cut_journal) = after_a_cut(&partial[..short], &journal);
    case(
        "cut-below-members",
        "the same, continued once and killed again: the journal still names what was cut off",
        &[cut_partial, vec![0xAB; 5000]].concat(),
        &cut_journal,
    );
    // What the first sync made durable: the members before the dump.
    let opened = (0..lines.len()).find(|line| record(lines[*line])["record"] == "open");
    let opened = opened.expect("the dump streams");
    let header = record(lines[opened])["header_offset"].as_u64();
    let settled = &partial[..header.expect("a number") as usize];
    let settled_journal = up_to(opened);
    let mut begin = record(lines[0]);
    begin["of_tomorrow"] = json!(7);
    case(
        "journal-unknown-field",
        "a field that is not known, in a record that is",
        settled,
        &[line_of(&begin), lines[1..opened].concat()].concat(),
    );
    let mut flipped = settled.to_vec();
    let stored = record_end(&lines, "odoo_data/filestore/aa/stored", record);
    flipped[stored - 1000] ^= 1;
    case(
        "flipped-in-a-member",
        "a bit of a finished member is flipped",
        &flipped,
        &settled_journal,
    );
    let mut bad = settled_journal.clone();
    let member = lines[..5].concat().len();
    bad[member + 40] ^= 1;
    case(
        "bad-line",
        "a line of the journal does not have its CRC",
        settled,
        &bad,
    );
    let (whole, whole_journal) = runtime().block_on(before_the_rename());
    case(
        "before-the-rename",
        "killed when all but the name was there",
        &whole,
        &whole_journal,
    );

    refused_bundles(folder, settled, &lines[..opened]);
    let files: [(&str, &[u8]); 2] = [
        ("bundle.zip", finished),
        ("bundle.zip.journal", &settled_journal),
    ];
    case_of(folder, "journal-stays", &files)(json!({
        "kind": "unfinished", "what": "killed after the rename, before the journal was removed",
        "plan": plan(), "refuse": ["it exists already"],
    }));
}

/// Journals on which nothing is built.
fn refused_bundles(folder: &Path, partial: &[u8], lines: &[&[u8]]) {
    let refused = |name: &str, what: &str, journal: &[u8], words: &[&str]| {
        let files: [(&str, &[u8]); 2] = [
            ("bundle.zip.partial", partial),
            ("bundle.zip.journal", journal),
        ];
        case_of(folder, name, &files)(json!({"kind": "unfinished", "what": what, "plan": plan(),
            "refuse": words}));
    };
    let begun = |key: &str, value: Value| {
        let mut begin: Value = serde_json::from_slice(&lines[0][9..]).expect("a record");
        begin[key] = value;
        [line_of(&begin), lines[1..].concat()].concat()
    };
    refused(
        "journal-major-2",
        "begun by a major version that is not known",
        &begun("format_version", json!("2.0.0")),
        &["in format 2.0.0"],
    );
    let teleport = line_of(&json!({"record": "teleport", "to": 7}));
    refused(
        "journal-unknown-record",
        "a record that is not known",
        &[lines.concat(), teleport].concat(),
        &["whose journal cannot be read", "not known to this version"],
    );
    refused(
        "journal-first-line-torn",
        "not even the first line is whole",
        &lines[0][..50],
        &["without a whole journal"],
    );
    let other = json!({"odoo database": "another", "models": "sam_ai"});
    refused(
        "journal-other-plan",
        "begun for another database",
        &begun("plan", other),
        &[
            "for something else",
            "odoo database was \"another\", is \"golden\"",
        ],
    );
}

/// A record as the journal writes it.
fn line_of(record: &Value) -> Vec<u8> {
    let json = record.to_string();
    format!("{} {json}\n", arkstream_format::Crc32::of(json.as_bytes())).into_bytes()
}

/// Offset behind a member that the journal speaks of.
fn record_end(lines: &[&[u8]], name: &str, record: impl Fn(&[u8]) -> Value) -> usize {
    let found = lines
        .iter()
        .map(|line| record(line))
        .find(|record| record["member"]["name"] == name);
    found.expect(name)["end_offset"].as_u64().expect("a number") as usize
}

fn after_a_cut(partial: &[u8], journal: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let paths = OutputPaths::new(&scratch("make").join("bundle.zip"));
    fs::write(&paths.partial, partial).expect("a file");
    fs::write(&paths.journal, journal).expect("a file");
    let continued = Leftover::Continue {
        recheck: false,
        insist: true,
    };
    let writer = runtime().block_on(open(&paths, 2, continued));
    let journal = fs::read(&paths.journal).expect("a file");
    let partial = fs::read(&paths.partial).expect("a file");
    drop(writer);
    (partial, journal)
}

/// The unfinished bundle as it is when it gets its name, with its journal.
async fn before_the_rename() -> (Vec<u8>, Vec<u8>) {
    let (paths, writer) = begun().await;
    stream(&writer, DUMP, Component::OdooDump, dump(CHUNK_AND_MORE)).await;
    writer.sync().await.expect("synced");
    let journal = fs::read(&paths.journal).expect("a file");
    let version = arkstream_format::FORMAT_VERSION;
    let published = writer
        .publish(plain_manifest(version))
        .await
        .expect("a bundle");
    (fs::read(published.path).expect("a bundle"), journal)
}

/// A copy that was killed: a part of its source, and the record.
pub(super) fn unfinished_copy(folder: &Path, complete: &[u8]) {
    let name = "unfinished-copy";
    let half = complete.len() / 2;
    let partial = [&complete[..half], &[0; 500]].concat();
    let source = scratch("make").join("source.zip");
    fs::write(&source, complete).expect("a file");
    let manifest = BundleFile::open(&source)
        .expect("it opens")
        .manifest_digest();
    let record =
        json!({"version": 1, "manifest": manifest, "bytes": complete.len(), "written": half / 2});
    let record = record.to_string();
    let files: [(&str, &[u8]); 2] = [
        ("copy.zip.partial", &partial),
        ("copy.zip.copy", record.as_bytes()),
    ];
    case_of(folder, name, &files)(json!({
        "kind": "copy", "what": "a copy of the complete bundle that was killed",
        "source": format!("complete-{ENCODER}"), "written": half / 2, "half": half,
    }));
}

//! Makes the golden cases. Everything is fixed, so the same code makes the same bytes.

mod left;
mod newer;

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};

use arkstream_bundle::{Beginning, BundleFile, BundleWriter, Leftover, OutputPaths};
use arkstream_format::{Component, Compression, FORMAT_VERSION, Manifest, Member, RunId};
use arkstream_pipeline::{BundleReader as _, BundleSink as _, MemberFacts, Sink as _};

use super::{
    bundles::digests,
    contents::{
        CHUNK_AND_MORE, ENCODER, Item, changed_part, complete_manifest, descriptions, dump,
        first_generation, generation, moment, plain_manifest, run_id, spec,
    },
    no_wait,
};
use crate::support::{runtime, scratch};

/// The dump at which runs are interrupted.
pub(super) const DUMP: &str = "databases/odoo_dump.sql";
const GRAPH_DUMP: &str = "databases/postgres_graph_dump.sql";

/// The one case that differs with the encoder.
pub(super) fn complete_case(folder: &Path) -> Vec<u8> {
    fs::create_dir_all(folder).expect("the folder");
    let complete = runtime().block_on(complete());
    readable(
        folder,
        &format!("complete-{ENCODER}"),
        "every kind of member, two generations, proofs, dead bytes",
        &complete,
    );
    complete
}

pub(super) fn all_cases(folder: &Path) {
    let complete = complete_case(folder);
    damaged_bundles(folder);
    let newer = newer::with_unknown_fields(&runtime().block_on(small(FORMAT_VERSION, false)));
    readable(
        folder,
        "minor-1.9",
        "a later minor version, with fields that are not known",
        &newer,
    );
    let major = runtime().block_on(small("2.0.0", false));
    let case = case_of(folder, "major-2", &[("bundle.zip", &major)]);
    let says = json!({"kind": "bundle", "what": "a major version that is not known", "exit_code": 5,
                      "opens": ["its format is 2.0.0"]});
    case(says);
    left::unfinished_bundles(folder, &major);
    left::unfinished_copy(folder, &complete);
}

/// Writes a case's files; returns what writes its `case.json`.
fn case_of(folder: &Path, name: &str, files: &[(&str, &[u8])]) -> impl Fn(Value) + use<> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file");
    }
    move |mut says: Value| {
        says["written_by"] = json!(format!(
            "arkstream {}, format {}, {ENCODER}",
            env!("CARGO_PKG_VERSION"),
            FORMAT_VERSION
        ));
        let mut text = serde_json::to_string_pretty(&says).expect("JSON");
        text.push('\n');
        fs::write(folder.join("case.json"), text).expect("a file");
    }
}

fn readable(folder: &Path, name: &str, what: &str, bytes: &[u8]) {
    let write = case_of(folder, name, &[("bundle.zip", bytes)]);
    let bundle = BundleFile::open(&folder.join(name).join("bundle.zip")).expect("it opens");
    write(json!({
        "kind": "bundle", "what": what, "exit_code": 0, "members": digests(&bundle), "damage": [],
        "dead_ranges": bundle.manifest().dead_ranges.len(),
        "generations": bundle.manifest().generations.len(),
    }));
}

async fn open(paths: &OutputPaths, run: u32, leftover: Leftover) -> Arc<BundleWriter> {
    loop {
        let beginning = Beginning {
            run_id: RunId(run_id(run)),
            plan: plan(),
            at: moment(),
        };
        match BundleWriter::open(paths.clone(), beginning, leftover, no_wait()) {
            Ok((writer, _)) => return Arc::new(writer),
            // The lock goes with the thread of the writer before.
            Err(failure) if failure.why().contains("another run") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
}

pub(super) fn plan() -> std::collections::BTreeMap<String, String> {
    [("odoo database", "golden"), ("models", "sam_ai")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

async fn put(writer: &BundleWriter, item: Item) {
    let (spec, bytes, facts) = (item.spec(), item.bytes, item.facts);
    let name = spec.name.clone();
    writer.put(spec, bytes, facts).await.expect(&name);
}

pub(super) async fn stream(writer: &BundleWriter, name: &str, component: Component, bytes: Bytes) {
    let spec = spec(name, component, Compression::Deflate);
    let mut member = writer.begin(spec).await.expect(name);
    for piece in bytes.chunks(1 << 20) {
        member
            .write(Bytes::copy_from_slice(piece))
            .await
            .expect(name);
    }
    member.finish(MemberFacts::default()).await.expect(name);
}

/// Two generations: the second keeps what is unchanged.
async fn complete() -> Vec<u8> {
    let paths = OutputPaths::new(&scratch("make").join("bundle.zip"));
    let first = open(&paths, 1, Leftover::Discard).await;
    first
        .begin_generation(generation(1))
        .await
        .expect("a barrier");
    for item in first_generation() {
        put(&first, item).await;
    }
    stream(&first, GRAPH_DUMP, Component::Graph, dump(CHUNK_AND_MORE)).await;
    let given_up = spec("databases/given_up", Component::Graph, Compression::Deflate);
    let mut given_up = first.begin(given_up).await.expect("a member");
    given_up.write(dump(CHUNK_AND_MORE)).await.expect("written");
    given_up
        .abandon("the source changed")
        .await
        .expect("given up");
    first.sync().await.expect("synced");
    drop(first);

    let continued = Leftover::Continue {
        recheck: false,
        insist: true,
    };
    let second = open(&paths, 2, continued).await;
    second
        .begin_generation(generation(2))
        .await
        .expect("a barrier");
    let changed = changed_part();
    for item in first_generation() {
        if item.name != changed.name {
            second.keep(item.name, None).await.expect(item.name);
        }
    }
    second.keep(GRAPH_DUMP, None).await.expect(GRAPH_DUMP);
    put(&second, changed).await;
    put(
        &second,
        Item {
            name: DUMP,
            component: Component::OdooDump,
            ..one_dump()
        },
    )
    .await;
    describe(&second).await;
    let published = second.publish(complete_manifest()).await.expect("a bundle");
    fs::read(published.path).expect("a bundle")
}

fn one_dump() -> Item {
    let mut item = changed_part();
    item.compression = Compression::Deflate;
    item.bytes = dump(20);
    item.facts = MemberFacts::default();
    item
}

async fn describe(writer: &BundleWriter) {
    let checksum = Manifest::checksum_of(&members_with_descriptions(writer).await);
    for item in descriptions(&checksum) {
        put(writer, item).await;
    }
}

/// The checksum covers the descriptions as well, all but the one that holds it.
async fn members_with_descriptions(writer: &BundleWriter) -> Vec<Member> {
    let mut members = writer.members().await.expect("members");
    for item in descriptions("") {
        let mut member = members[0].clone();
        member.name = item.name.to_owned();
        let digest = arkstream_format::Digest::of(&item.bytes);
        member.digest = arkstream_format::Digest::of_chunks([&digest]);
        members.push(member);
    }
    members
}

/// A bundle of few bytes: a compressed, a stored and a dead member; with a dump that streams, on request.
async fn small(version: &str, streamed: bool) -> Vec<u8> {
    let paths = OutputPaths::new(&scratch("make").join("bundle.zip"));
    let writer = open(&paths, 1, Leftover::Discard).await;
    let items = first_generation();
    let wanted = [DEFLATED, "odoo_data/filestore/dd/ünïcode ☃"];
    for item in items.into_iter().filter(|item| wanted.contains(&item.name)) {
        put(&writer, item).await;
    }
    let mut superseded = one_dump();
    superseded.name = "databases/superseded";
    put(&writer, superseded).await;
    writer
        .retract("databases/superseded", "superseded")
        .await
        .expect("retracted");
    if streamed {
        stream(&writer, DUMP, Component::OdooDump, dump(CHUNK_AND_MORE)).await;
    }
    describe(&writer).await;
    let published = writer.publish(plain_manifest(version)).await;
    fs::read(published.expect("a bundle").path).expect("a bundle")
}

const DEFLATED: &str = "odoo_data/filestore/bb/deflated";

/// A good bundle, of which damaged ones are made.
struct Good<'a> {
    folder: &'a Path,
    bytes: Vec<u8>,
    bundle: BundleFile,
}

impl<'a> Good<'a> {
    fn new(folder: &'a Path, name: &str, what: &str, bytes: Vec<u8>) -> Self {
        readable(folder, name, what, &bytes);
        let bundle = BundleFile::open(&folder.join(name).join("bundle.zip")).expect("it opens");
        Self {
            folder,
            bytes,
            bundle,
        }
    }

    fn member(&self, name: &str) -> &Member {
        self.bundle.member(name).expect("listed")
    }

    fn flipped(&self, at: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[usize::try_from(at).expect("small")] ^= 0x20;
        bytes
    }

    /// A bit is flipped, which keeps nobody from opening it.
    fn damaged(
        &self,
        name: &str,
        what: &str,
        at: u64,
        damage: (Option<&str>, Option<usize>, &str),
    ) {
        let (member, chunk, words) = damage;
        let write = case_of(self.folder, name, &[("bundle.zip", &self.flipped(at))]);
        write(json!({
            "kind": "bundle", "what": what, "exit_code": 4, "members": digests(&self.bundle),
            "damage": [{"member": member, "chunk": chunk, "words": words}],
            "dead_ranges": 1, "generations": 0,
        }));
    }
}

fn damaged_bundles(folder: &Path) {
    let bytes = runtime().block_on(small(FORMAT_VERSION, true));
    let good = Good::new(folder, "streamed", "a member with a data descriptor", bytes);
    let dump = good.member(DUMP);
    let end = |member: &Member| member.data_offset + member.stored_len;
    good.damaged(
        "flipped-chunk",
        "a bit in the second chunk of a member",
        dump.chunks[1].offset + 20,
        (Some(DUMP), Some(1), "stored bytes do not have their BLAKE3"),
    );
    good.damaged(
        "flipped-descriptor",
        "a bit in a data descriptor",
        end(dump) + 5,
        (
            Some(DUMP),
            None,
            "the data descriptor is not what it must be",
        ),
    );

    let bytes = runtime().block_on(small(FORMAT_VERSION, false));
    let good = Good::new(
        folder,
        "small",
        "few bytes: damaged ones are made of them",
        bytes,
    );
    let deflated = good.member(DEFLATED);
    good.damaged(
        "flipped-header",
        "a bit in a local header",
        deflated.header_offset + 11,
        (
            Some(DEFLATED),
            None,
            "the local header is not what it must be",
        ),
    );
    good.damaged(
        "flipped-stream-end",
        "a bit behind the last chunk of a deflate member",
        end(deflated) - 1,
        (
            Some(DEFLATED),
            None,
            "the end of its data is not what it must be",
        ),
    );
    let manifest = good.bundle.manifest();
    good.damaged(
        "flipped-dead-range",
        "a bit in dead bytes",
        manifest.dead_ranges[0].offset + 50,
        (None, None, "dead bytes do not have their BLAKE3"),
    );
    let directory = good.bytes.windows(4).position(|four| four == b"PK\x01\x02");
    good.damaged(
        "flipped-directory",
        "a bit in the ZIP directory",
        directory.expect("a directory") as u64 + 17,
        (
            Some(&manifest.members[0].name),
            None,
            "the entry in the ZIP directory is not what it must be",
        ),
    );
    closed_bundles(folder, &good);
}

/// Damage that keeps everybody from opening them.
fn closed_bundles(folder: &Path, good: &Good<'_>) {
    let closed = |name: &str, what: &str, bytes: &[u8], word: &str| {
        case_of(folder, name, &[("bundle.zip", bytes)])(json!({
            "kind": "bundle", "what": what, "exit_code": 4, "opens": [word],
        }));
    };
    let len = good.bytes.len();
    closed(
        "flipped-manifest",
        "a bit in the stored bytes of the manifest",
        &good.flipped(newer::manifest_place(&good.bytes).1 as u64 + 40),
        "the manifest does not have the BLAKE3 that the archive comment gives",
    );
    closed(
        "flipped-comment",
        "a bit in the hash that the archive comment holds",
        &good.flipped(len as u64 - 9),
        "archive comment",
    );
    let no_end = "does not end like a ZIP file";
    closed(
        "cut-tail",
        "the last 30 bytes are gone",
        &good.bytes[..len - 30],
        no_end,
    );
    closed(
        "cut-in-half",
        "the second half is gone",
        &good.bytes[..len / 2],
        no_end,
    );
    let longer = [good.bytes.as_slice(), &[0]].concat();
    closed(
        "a-byte-more",
        "a byte follows behind the end",
        &longer,
        no_end,
    );
}

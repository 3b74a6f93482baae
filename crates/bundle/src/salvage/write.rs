//! Writing what is proven good into a new bundle.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use arkstream_format::{
    CHUNK_SIZE, Component, Compression, Crc32, Digest, FORMAT_VERSION, Generator, LostMember,
    Manifest, Member, Omission, Salvage, member_names,
};
use arkstream_pipeline::{
    Budget, BundleSink as _, Failure, FailureKind, MemberFacts, MemberSpec, Sink as _,
};

use crate::{
    document::DESCRIPTION_MODE,
    durable,
    reader::read_proven,
    salvage::{
        Describe, SalvageOptions, Salvaged, Saved, UnprovenBytes,
        headers::read_raw,
        judge::{ByCrc, Examined, Judged, Unproven},
    },
    writer::{Beginning, BundleWriter, Leftover},
};

/// Raw and stored bytes of the chunks in flight.
const IN_FLIGHT: u64 = 4 * CHUNK_SIZE as u64;
/// A `metadata.json` that is longer is none.
const LONGEST_METADATA: u64 = 64 << 20;

pub(super) async fn write(
    options: SalvageOptions,
    examined: Examined,
    describe: Describe<'_>,
) -> Result<Salvaged, Failure> {
    let Examined {
        damaged,
        judged,
        by_crc,
        unproven,
        mut lost,
    } = examined;
    let file = Arc::new(damaged.file);
    let unproven = extract_unproven(&file, unproven, options.unproven.as_deref())?;
    let beginning = Beginning {
        run_id: options.run_id.clone(),
        plan: BTreeMap::from([(
            "salvage".to_owned(),
            options.source.to_string_lossy().into_owned(),
        )]),
        at: options.at,
    };
    let leftover = match options.fresh {
        true => Leftover::Discard,
        false => Leftover::Continue {
            recheck: false,
            insist: false,
        },
    };
    let paths = options.out.clone();
    let (writer, _) = BundleWriter::open(paths, beginning, leftover, options.wait.clone())?;
    let rows = rows_of_parts(damaged.claims.description.as_ref());
    let mut output =
        Output::new(writer, Arc::clone(&file), options.source.clone(), &judged).await?;
    let mut metadata = None;
    let mut crc = by_crc.into_iter().peekable();
    for judged in judged {
        options.cancel.check()?;
        while let Some(member) =
            crc.next_if(|member| member.header.header_offset < judged.member.header_offset)
        {
            output
                .by_crc(member, &rows, damaged.len, &mut metadata)
                .await?;
        }
        if judged.whole && judged.member.name == member_names::METADATA {
            if judged.member.raw_len <= LONGEST_METADATA {
                metadata = Some(output.read_metadata(&judged.member)?);
            }
        } else if judged.whole {
            output.whole(judged.member).await?;
        } else {
            output.pieces(judged, &mut lost).await?;
        }
    }
    for member in crc {
        output
            .by_crc(member, &rows, damaged.len, &mut metadata)
            .await?;
    }

    let facts = Facts {
        generations: damaged.claims.generations,
        source_bytes: damaged.len,
        run_id: damaged.claims.begun.map(|(run_id, _)| run_id),
        proven_by_crc: output.proven_by_crc(),
        lost,
    };
    let manifest = manifest(&options, damaged.claims.description, facts);
    output.metadata(describe, metadata, &manifest).await?;
    let salvage = manifest.salvage.clone();
    let published = output.writer.publish(manifest).await?;
    let salvage = salvage.ok_or_else(|| {
        Failure::new(
            FailureKind::Internal,
            "salvage",
            "the manifest does not say so",
        )
    })?;
    Ok(Salvaged {
        truth: damaged.truth,
        cause: damaged.why.map(|failure| failure.why().to_owned()),
        saved: output.saved,
        pieces_bytes: output.pieces_bytes,
        salvage,
        unproven,
        published,
    })
}

/// The bundle that is written.
struct Output {
    writer: BundleWriter,
    file: Arc<File>,
    source: PathBuf,
    budget: Budget,
    /// What an interrupted salvage left.
    earlier: HashMap<String, Digest>,
    /// Names that are taken.
    names: HashSet<String>,
    saved: Vec<Saved>,
    pieces_bytes: u64,
}

impl Output {
    async fn new(
        writer: BundleWriter,
        file: Arc<File>,
        source: PathBuf,
        judged: &[Judged],
    ) -> Result<Self, Failure> {
        let mut earlier = HashMap::new();
        for component in Component::ALL {
            for member in writer.earlier(component).await? {
                earlier.insert(member.name, member.digest);
            }
        }
        let whole = judged.iter().filter(|judged| judged.whole);
        Ok(Self {
            writer,
            file,
            source,
            budget: Budget::new(IN_FLIGHT),
            earlier,
            names: whole.map(|judged| judged.member.name.clone()).collect(),
            saved: Vec::new(),
            pieces_bytes: 0,
        })
    }

    fn proven_by_crc(&self) -> Vec<String> {
        let by_crc = self.saved.iter().filter(|saved| saved.proof == "crc32");
        by_crc.map(|saved| saved.name.clone()).collect()
    }

    fn spec(&self, member: &Member, name: String, component: Component) -> MemberSpec {
        MemberSpec {
            name,
            component,
            compression: member.compression,
            modified_at: member.modified_at,
            mode: member.mode,
            budget: self.budget.clone(),
        }
    }

    /// A member as it was.
    async fn whole(&mut self, member: Member) -> Result<(), Failure> {
        self.saved.push(Saved {
            name: member.name.clone(),
            component: member.component,
            rows: member.rows,
            raw_len: member.raw_len,
            proof: "blake3",
        });
        if self.earlier.get(&member.name) == Some(&member.digest)
            && self.writer.keep(&member.name, None).await?.is_some()
        {
            return Ok(());
        }
        let spec = self.spec(&member, member.name.clone(), member.component);
        let facts = MemberFacts {
            rows: member.rows,
            proof: member.proof,
        };
        let chunks = member.chunks;
        self.writer
            .copy_chunks(spec, chunks, facts, &self.file, &self.source)
            .await
    }

    /// Each run of good chunks of a member that is not whole.
    async fn pieces(&mut self, judged: Judged, lost: &mut [LostMember]) -> Result<(), Failure> {
        let member = judged.member;
        let mut starts = vec![0u64];
        for chunk in &member.chunks {
            let last = starts.last().copied().unwrap_or(0);
            starts.push(last + u64::from(chunk.raw_len));
        }
        let start = |index: usize| starts.get(index).copied().unwrap_or(0);
        let mut pieces = Vec::new();
        for run in judged.good {
            let (first, end) = (start(run.start), start(run.end));
            if first == end {
                continue;
            }
            let name = self.piece_name(&member.name, first, end);
            let spec = self.spec(&member, name.clone(), Component::Description);
            let chunks = member.chunks.get(run).unwrap_or_default().to_vec();
            self.writer
                .copy_chunks(
                    spec,
                    chunks,
                    MemberFacts::default(),
                    &self.file,
                    &self.source,
                )
                .await?;
            self.pieces_bytes += end - first;
            pieces.push(name);
        }
        let entry = lost
            .iter_mut()
            .find(|lost| lost.member.as_deref() == Some(&member.name) && lost.pieces.is_empty());
        if let Some(entry) = entry {
            entry.pieces = pieces;
        }
        Ok(())
    }

    /// A name that nothing else has.
    fn piece_name(&mut self, member: &str, first: u64, end: u64) -> String {
        let folder = member_names::SALVAGED_DIR;
        let mut name = format!("{folder}{member}/{first:016}-{end:016}");
        if name.len() > 1000 {
            let digest = Digest::of(member.as_bytes());
            name = format!("{folder}{digest}/{first:016}-{end:016}");
        }
        while !self.names.insert(name.clone()) {
            name.push('~');
        }
        name
    }

    /// A whole member that its CRC-32 proves.
    async fn by_crc(
        &mut self,
        member: ByCrc,
        rows: &HashMap<String, u64>,
        file_len: u64,
        metadata: &mut Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let name = member.header.name.clone();
        let component = Component::of_member(&name);
        let rows = rows.get(&name).copied();
        if name == member_names::METADATA {
            if member.raw_len > LONGEST_METADATA {
                return Ok(());
            }
            let (mut bytes, len) = (Vec::new(), member.raw_len);
            let read = read_raw(&self.file, &member.header, len, file_len, &mut |piece| {
                bytes.write_all(piece)
            });
            if read.is_err() || Crc32::of(&bytes) != member.crc32 {
                return Err(changed(&self.source, &name));
            }
            *metadata = Some(bytes);
            return Ok(());
        }
        if !self.names.insert(name.clone()) {
            return Ok(());
        }
        let spec = MemberSpec {
            name: name.clone(),
            component,
            compression: member.header.compression,
            modified_at: member.header.modified_at,
            mode: member.header.mode.unwrap_or(DESCRIPTION_MODE),
            budget: self.budget.clone(),
        };
        let (raw_len, expected) = (member.raw_len, member.crc32);
        let (send, mut receive) = mpsc::channel::<Bytes>(2);
        let file = Arc::clone(&self.file);
        let reading = tokio::task::spawn_blocking(move || {
            read_raw(&file, &member.header, raw_len, file_len, &mut |piece| {
                let piece = Bytes::copy_from_slice(piece);
                send.blocking_send(piece).map_err(std::io::Error::other)
            })
        });
        let mut writer = self.writer.begin(spec).await?;
        let mut hasher = crc32fast::Hasher::new();
        while let Some(piece) = receive.recv().await {
            hasher.update(&piece);
            writer.write(piece).await?;
        }
        let read = reading.await.map_err(std::io::Error::other).flatten();
        if read.is_err() || Crc32(hasher.finalize()) != expected {
            writer.abandon("it changed while it was read").await?;
            return Err(changed(&self.source, &name));
        }
        let facts = MemberFacts { rows, proof: None };
        writer.finish(facts).await?;
        self.saved.push(Saved {
            name,
            component,
            rows,
            raw_len,
            proof: "crc32",
        });
        Ok(())
    }

    fn read_metadata(&self, member: &Member) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        for chunk in &member.chunks {
            let proven = read_proven(self.file.as_ref(), member.compression, chunk)
                .map_err(|_| changed(&self.source, &member.name))?;
            bytes.extend_from_slice(&proven.raw);
        }
        Ok(bytes)
    }

    /// The last member of the caller's: it covers all others.
    async fn metadata(
        &mut self,
        describe: Describe<'_>,
        original: Option<Vec<u8>>,
        manifest: &Manifest,
    ) -> Result<(), Failure> {
        let members = self.writer.members().await?;
        let bytes = describe(original.as_deref(), manifest, &members)?;
        let spec = MemberSpec {
            name: member_names::METADATA.to_owned(),
            component: Component::Description,
            compression: Compression::Deflate,
            modified_at: manifest.started_at,
            mode: DESCRIPTION_MODE,
            budget: self.budget.clone(),
        };
        let facts = MemberFacts::default();
        self.writer.put(spec, bytes.into(), facts).await.map(drop)
    }
}

pub(super) fn changed(source: &Path, name: &str) -> Failure {
    Failure::new(
        FailureKind::Damaged,
        format!("read {name} from {}", source.display()),
        "its bytes are not what they were a moment ago",
    )
    .help("copy the bundle to a sound disk, and salvage the copy")
}

/// Rows of the parts of tables, by member.
fn rows_of_parts(described: Option<&Manifest>) -> HashMap<String, u64> {
    let tables = described.iter().flat_map(|manifest| &manifest.tables);
    let parts = tables.flat_map(|table| &table.parts);
    parts.map(|part| (part.member.clone(), part.rows)).collect()
}

struct Facts {
    generations: Vec<arkstream_format::Generation>,
    source_bytes: u64,
    run_id: Option<arkstream_format::RunId>,
    proven_by_crc: Vec<String>,
    lost: Vec<LostMember>,
}

fn manifest(options: &SalvageOptions, described: Option<Manifest>, facts: Facts) -> Manifest {
    let name = options.source.file_name().unwrap_or_default();
    let mut salvage = Salvage {
        source: name.to_string_lossy().into_owned(),
        source_bytes: facts.source_bytes,
        source_run_id: facts.run_id,
        at: options.at,
        described: described.is_some(),
        proven_by_crc: facts.proven_by_crc,
        lost: facts.lost,
    };
    let mut manifest = described.unwrap_or_else(|| {
        Manifest::empty(options.run_id.clone(), Generator::new("", ""), options.at)
    });
    if manifest.generations.is_empty() {
        manifest.generations = facts.generations;
    }
    manifest.omissions.extend(salvage.lost.iter().map(omission));
    // What was lost in an earlier salvage is still lost.
    if let Some(before) = manifest.salvage.take() {
        salvage.described &= before.described;
        salvage.lost.splice(0..0, before.lost);
        salvage.proven_by_crc.splice(0..0, before.proven_by_crc);
    }
    manifest.format_version = FORMAT_VERSION.to_owned();
    manifest.run_id = options.run_id.clone();
    manifest.generator = Generator {
        name: "arkstream".to_owned(),
        version: options.version.clone(),
    };
    manifest.salvage = Some(salvage);
    manifest
}

/// What is lost, for people.
fn omission(lost: &LostMember) -> Omission {
    let first = lost.ranges.first();
    let reason = first.map_or("", |range| range.reason.as_str());
    let what = match (&lost.member, first) {
        (Some(name), _) => name.clone(),
        (None, Some(range)) => match (range.file_start, range.file_end) {
            (Some(start), Some(end)) => format!("bytes {start}..{end} of the damaged file"),
            (Some(start), None) => format!("everything behind byte {start} of the damaged file"),
            _ => "something".to_owned(),
        },
        (None, None) => "something".to_owned(),
    };
    let mut reason = format!("lost: {reason}");
    if lost.ranges.len() > 1 {
        reason.push_str(&format!("; {} ranges in all", lost.ranges.len()));
    }
    if !lost.pieces.is_empty() {
        let folder = member_names::SALVAGED_DIR;
        reason.push_str(&format!("; what is left of it is below {folder}"));
    }
    Omission {
        component: lost.component.unwrap_or(Component::Description),
        what,
        reason,
    }
}

/// Counts what is not proven, and writes it to a folder where that was asked for.
fn extract_unproven(
    file: &File,
    unproven: Vec<Unproven>,
    folder: Option<&Path>,
) -> Result<Vec<UnprovenBytes>, Failure> {
    let mut told = Vec::new();
    for bytes in unproven {
        let target = folder.map(|folder| {
            let name = format!("{:016}-{:016}", 0, bytes.raw_len);
            folder.join(&bytes.header.name).join(name)
        });
        if let Some(target) = &target {
            extract(file, &bytes, target).map_err(|error| {
                let attempted = format!("extract {}", target.display());
                Failure::io(FailureKind::Refused, attempted, error)
                    .help("name an empty folder that you may write")
            })?;
        }
        told.push(UnprovenBytes {
            chunks: bytes.raw_len.div_ceil(CHUNK_SIZE as u64),
            raw_len: bytes.raw_len,
            name: bytes.header.name,
            file: target,
        });
    }
    Ok(told)
}

fn extract(file: &File, bytes: &Unproven, target: &Path) -> std::io::Result<()> {
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut out = durable::create_extracted(target, DESCRIPTION_MODE)?;
    read_raw(
        file,
        &bytes.header,
        bytes.raw_len,
        bytes.end,
        &mut |piece| out.write_all(piece),
    )
}

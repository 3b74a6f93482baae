//! A bundle read back by whoever wrote it, who knows what is in it.

use std::{borrow::Cow, path::Path};

use bytes::Bytes;

use arkstream_format::{Digest, Generator, Manifest, Member, TableEntry};
use arkstream_pipeline::{BundleReader, BundleSink as _, Failure, FailureKind, Finding, Sink as _};

use crate::{
    disk::{Disk, DiskFile},
    durable::LocalDisk,
    names::ByName,
    reader::read_chunk,
    writer::BundleWriter,
};

/// A file, and a list of members whose bytes in it have their hashes, as those of any bundle.
#[derive(Debug)]
struct ReadBack<'a> {
    file: Box<dyn DiskFile>,
    len: u64,
    manifest: Cow<'a, Manifest>,
    by_name: ByName,
}

/// A reader of a bundle whose manifest its writer still holds.
///
/// # Errors
/// When the file cannot be opened.
pub fn read_back<'a>(
    path: &Path,
    manifest: &'a Manifest,
) -> Result<Box<dyn BundleReader + 'a>, Failure> {
    Ok(Box::new(ReadBack::open(
        &LocalDisk,
        path,
        Cow::Borrowed(manifest),
    )?))
}

impl BundleWriter {
    /// A reader of what is finished so far, with these tables. What is retracted later is still given out.
    ///
    /// # Errors
    /// When the file cannot be synced or opened.
    pub async fn readable(
        &self,
        tables: Vec<TableEntry>,
    ) -> Result<Box<dyn BundleReader>, Failure> {
        self.sync().await?;
        let generator = Generator::new("arkstream", env!("CARGO_PKG_VERSION"));
        let run_id = arkstream_format::RunId(String::new());
        let manifest = Manifest {
            members: self.members().await?,
            tables,
            ..Manifest::empty(run_id, generator, chrono::Utc::now())
        };
        let disk = self.disk.as_ref();
        Ok(Box::new(ReadBack::open(
            disk,
            &self.partial,
            Cow::Owned(manifest),
        )?))
    }
}

impl<'a> ReadBack<'a> {
    fn open(disk: &dyn Disk, path: &Path, manifest: Cow<'a, Manifest>) -> Result<Self, Failure> {
        let opened = disk
            .open_to_read(path)
            .and_then(|file| file.size().map(|len| (file, len)));
        let (file, len) = opened.map_err(|error| {
            let attempted = format!("read {} back", path.display());
            Failure::io(FailureKind::Refused, attempted, error)
        })?;
        Ok(Self {
            file,
            len,
            manifest,
            by_name: ByName::default(),
        })
    }
}

impl BundleReader for ReadBack<'_> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.by_name.find(&self.manifest.members, name)
    }

    /// Whether the file holds a manifest is not asked: the digest of the members.
    fn manifest_digest(&self) -> Digest {
        Digest::of_chunks(self.manifest.members.iter().map(|member| &member.digest))
    }

    fn file_len(&self) -> u64 {
        self.len
    }

    fn check_framing(&self) -> Vec<Finding> {
        vec![Finding::note(
            "the bundle is read back by its writer: what stands between members was not looked at",
        )]
    }

    fn read_chunk(&self, member: &Member, index: usize) -> Result<Bytes, Finding> {
        read_chunk(self.file.as_ref(), member, index)
    }
}

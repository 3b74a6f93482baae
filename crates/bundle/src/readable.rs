//! An unfinished bundle, read back by whoever writes it: for what is made of members that are there.

use std::collections::HashMap;

use bytes::Bytes;

use arkstream_format::{Digest, Generator, Manifest, Member, TableEntry};
use arkstream_pipeline::{BundleReader, BundleSink as _, Failure, FailureKind, Finding, Sink as _};

use crate::{disk::DiskFile, reader::read_chunk, writer::BundleWriter};

/// The members that were finished when it was opened. Their bytes have their hashes, as those of any bundle.
#[derive(Debug)]
struct Unfinished {
    file: Box<dyn DiskFile>,
    manifest: Manifest,
    /// Places in the manifest's list, by name.
    by_name: HashMap<String, usize>,
    len: u64,
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
        let members = self.members().await?;
        let open = || {
            let file = self.disk.open_to_read(&self.partial)?;
            let len = file.size()?;
            Ok((file, len))
        };
        let (file, len) = open().map_err(|error| {
            let attempted = format!("read {} back", self.partial.display());
            Failure::io(FailureKind::Refused, attempted, error)
        })?;
        let generator = Generator::new("arkstream", env!("CARGO_PKG_VERSION"));
        let run_id = arkstream_format::RunId(String::new());
        let places = members.iter().enumerate();
        Ok(Box::new(Unfinished {
            file,
            len,
            by_name: places
                .map(|(at, member)| (member.name.clone(), at))
                .collect(),
            manifest: Manifest {
                members,
                tables,
                ..Manifest::empty(run_id, generator, chrono::Utc::now())
            },
        }))
    }
}

impl BundleReader for Unfinished {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn member(&self, name: &str) -> Option<&Member> {
        self.manifest.members.get(*self.by_name.get(name)?)
    }

    /// There is no manifest in the file yet: the digest of the members there are.
    fn manifest_digest(&self) -> Digest {
        Digest::of_chunks(self.manifest.members.iter().map(|member| &member.digest))
    }

    fn file_len(&self) -> u64 {
        self.len
    }

    fn check_framing(&self) -> Vec<Finding> {
        vec![Finding::note(
            "the bundle is unfinished: nothing says yet what stands between members",
        )]
    }

    fn read_chunk(&self, member: &Member, index: usize) -> Result<Bytes, Finding> {
        read_chunk(self.file.as_ref(), member, index)
    }
}

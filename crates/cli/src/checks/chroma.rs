//! The bundled ChromaDB directory, by the checks of the chroma crate.
//!
//! SQLite needs a file: the database (and its write-ahead log, if there is one) is unpacked into a
//! private temporary folder, which is removed afterwards. The vector files are read in place.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use arkstream_chroma::{ChromaFiles, DATABASE};
use arkstream_format::{Component, Manifest, Member, member_names};
use arkstream_pipeline::{BundleReader, ContentCheck, Finding, Place};

use super::member_file::MemberStream;

/// Checks the directory as a whole.
#[derive(Debug)]
pub(crate) struct ChromaCheck;

impl ContentCheck for ChromaCheck {
    fn name(&self) -> &'static str {
        "chroma"
    }

    fn wants(&self, member: &Member) -> bool {
        member.component == Component::Chroma
    }

    fn check(&mut self, _: &dyn BundleReader, _: &Member) -> Vec<Finding> {
        // A file of the directory means nothing by itself.
        Vec::new()
    }

    fn conclude(&mut self, bundle: &dyn BundleReader) -> Vec<Finding> {
        if relative_members(bundle.manifest()).next().is_none() {
            return Vec::new();
        }
        match BundledFiles::unpack(bundle) {
            Ok(mut files) => arkstream_chroma::verify(&mut files)
                .into_iter()
                .map(|problem| {
                    let place = Place {
                        member: problem
                            .path
                            .as_ref()
                            .map(|path| format!("{}{path}", member_names::CHROMA_DIR))
                            .filter(|name| bundle.member(name).is_some()),
                        ..Place::default()
                    };
                    Finding::damage(place, problem.to_string())
                })
                .collect(),
            Err(error) => vec![Finding::damage(
                Place::default(),
                format!("the ChromaDB directory cannot be checked: {error}"),
            )],
        }
    }
}

/// Members of the directory with their paths in it.
fn relative_members(manifest: &Manifest) -> impl Iterator<Item = (&str, &Member)> {
    manifest.members.iter().filter_map(|member| {
        let path = member.name.strip_prefix(member_names::CHROMA_DIR)?;
        (member.component == Component::Chroma).then_some((path, member))
    })
}

struct BundledFiles<'a> {
    bundle: &'a dyn BundleReader,
    database: PathBuf,
    _folder: TempDir,
}

impl<'a> BundledFiles<'a> {
    fn unpack(bundle: &'a dyn BundleReader) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("arkstream-verify-")
            .tempdir()?;
        let wal = format!("{DATABASE}-wal");
        for (path, member) in relative_members(bundle.manifest()) {
            if path == DATABASE || path == wal {
                let mut file =
                    arkstream_bundle::durable::create_private(&folder.path().join(path))?;
                MemberStream::new(bundle, member).copy_to(&mut file)?;
            }
        }
        Ok(Self {
            bundle,
            database: folder.path().join(DATABASE),
            _folder: folder,
        })
    }
}

impl ChromaFiles for BundledFiles<'_> {
    fn database(&self) -> &Path {
        &self.database
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(relative_members(self.bundle.manifest())
            .filter(|(path, _)| !path.starts_with(DATABASE))
            .map(|(path, member)| (path.to_owned(), member.raw_len))
            .collect())
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        let (_, member) = relative_members(self.bundle.manifest())
            .find(|(known, _)| *known == path)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(MemberStream::new(self.bundle, member)))
    }
}

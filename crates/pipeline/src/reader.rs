//! The port through which a bundle is read back.

use std::fmt;

use bytes::Bytes;

use arkstream_format::{Digest, Manifest, Member};

/// A bundle that is open for reading. Every byte it gives out has been checked.
pub trait BundleReader: Send + Sync {
    /// The index.
    fn manifest(&self) -> &Manifest;

    /// The listed member of that name.
    fn member(&self, name: &str) -> Option<&Member> {
        self.manifest().members.iter().find(|m| m.name == name)
    }

    /// BLAKE3 of the manifest as it stands in the file: equal for equal content only.
    fn manifest_digest(&self) -> Digest;

    /// Size of the file in bytes.
    fn file_len(&self) -> u64;

    /// Holds every byte outside the members' data (headers, descriptors, directory, dead ranges)
    /// against what the manifest demands. Returns what differs.
    fn check_framing(&self) -> Vec<Finding>;

    /// The raw bytes of one chunk, its hashes checked before and after decompression.
    ///
    /// # Errors
    /// A [`Finding`] that names the chunk and its place in the file.
    fn read_chunk(&self, member: &Member, index: usize) -> Result<Bytes, Finding>;
}

/// All bytes of a member, for members that have to be in memory as a whole: descriptions, a value.
///
/// # Errors
/// The first damage that is met.
pub fn read_whole(bundle: &dyn BundleReader, member: &Member) -> Result<Vec<u8>, Finding> {
    let mut bytes = Vec::new();
    for index in 0..member.chunks.len() {
        bytes.extend_from_slice(&bundle.read_chunk(member, index)?);
    }
    Ok(bytes)
}

/// All bytes of the member of that name. `None` if the bundle has no such member.
///
/// # Errors
/// The first damage that is met.
pub fn read_member(bundle: &dyn BundleReader, name: &str) -> Result<Option<Vec<u8>>, Finding> {
    let member = bundle.member(name);
    member.map(|member| read_whole(bundle, member)).transpose()
}

/// Looks at what a member means, once all its bytes are known to be good.
pub trait ContentCheck: Send {
    /// What is checked, for people.
    fn name(&self) -> &'static str;

    /// Whether it has to see this member.
    fn wants(&self, member: &Member) -> bool;

    /// Checks one member.
    fn check(&mut self, bundle: &dyn BundleReader, member: &Member) -> Vec<Finding>;

    /// Checks that need all members; called once, at the end.
    fn conclude(&mut self, bundle: &dyn BundleReader) -> Vec<Finding>;
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; the bundle is good.
    Note,
    /// The bundle is damaged.
    Damage,
}

/// A place in a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The member, if the place belongs to one.
    pub member: Option<String>,
    /// The chunk's number in the member.
    pub chunk: Option<usize>,
    /// Byte range in the file: first byte, and first byte behind it.
    pub bytes: Option<(u64, u64)>,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What.
    pub what: String,
}

impl Finding {
    /// Damage at a place.
    pub fn damage(place: Place, what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Damage,
            place,
            what: what.into(),
        }
    }

    /// Damage somewhere in a member.
    pub fn in_member(member: &Member, what: impl Into<String>) -> Self {
        Self::damage(
            Place {
                member: Some(member.name.clone()),
                ..Place::default()
            },
            what,
        )
    }

    /// Something worth knowing.
    pub fn note(what: impl Into<String>) -> Self {
        Self {
            severity: Severity::Note,
            place: Place::default(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(member) = &self.member {
            parts.push(format!("member {member}"));
        }
        if let Some(chunk) = self.chunk {
            parts.push(format!("chunk {chunk}"));
        }
        if let Some((first, end)) = self.bytes {
            parts.push(format!("bytes {first}..{end} of the file"));
        }
        f.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place == Place::default() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.place, self.what)
        }
    }
}

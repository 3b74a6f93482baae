//! Names of files in the filestore, as attachments give them.
//!
//! They come from a table that users and modules write to, so they are not trusted: a name must
//! lead to a place below the filestore, by letters and not only by links.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where a name leads, if it stays below the filestore by its letters.
pub(super) fn path_of(dir: &Path, name: &str) -> Option<PathBuf> {
    let relative = Path::new(name);
    let normal = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // `a//b` and `a/./b` are other names for `a/b`; Odoo writes none of them. A backslash would be
    // a folder to some tools that unzip.
    let plain = relative.components().count() == name.split('/').count()
        && !name.contains(['\\', '\0'])
        && !name.is_empty();
    (normal && plain).then(|| dir.join(relative))
}

/// Whether a path, all links followed, is still below the filestore.
pub(super) fn is_inside(dir: &Path, path: &Path) -> io::Result<bool> {
    Ok(fs::canonicalize(path)?.starts_with(fs::canonicalize(dir)?))
}

/// The SHA-1 that the name promises, in lower-case hexadecimal; `None` where it is no SHA-1.
pub(super) fn promised(name: &str) -> Option<String> {
    let file = name.rsplit('/').next()?;
    (file.len() == 40 && file.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| file.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_out_of_the_filestore() {
        let dir = Path::new("/srv/filestore/db");
        for bad in [
            "../x",
            "ab/../../x",
            "/etc/passwd",
            "",
            ".",
            "ab/./x",
            "ab//x",
            "ab\\x",
            "a\0b",
            "ab/",
        ] {
            assert_eq!(path_of(dir, bad), None, "{bad:?}");
        }
        assert_eq!(path_of(dir, "ab/abc").unwrap(), dir.join("ab/abc"));
    }

    #[test]
    fn a_link_cannot_lead_out_of_the_filestore() {
        let (store, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = other.path().join("secret");
        #[allow(clippy::disallowed_methods)]
        fs::write(&outside, "x").unwrap();
        let link = store.path().join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(!is_inside(store.path(), &link).unwrap());
        assert!(is_inside(other.path(), &outside).unwrap());
    }

    #[test]
    fn only_a_sha1_promises_something() {
        let sha1 = "DA39a3ee5e6b4b0d3255bfef95601890afd80709";
        assert_eq!(
            promised(&format!("da/{sha1}")).unwrap(),
            sha1.to_lowercase()
        );
        assert_eq!(promised("da/readme"), None);
    }
}

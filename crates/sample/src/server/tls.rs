//! Certificates for a server that speaks TLS: an authority of its own, and a leaf for
//! `localhost` and `127.0.0.1` signed by it (verifying clients refuse an authority as a leaf).

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::user::ServerUser;
use crate::error::SampleError;
use crate::files;

/// Where the three files are.
pub(super) struct Certificates {
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

pub(super) fn make(folder: &Path, user: ServerUser) -> Result<Certificates, SampleError> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "Arkstream sample authority");
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    leaf.distinguished_name
        .push(DnType::CommonName, "localhost");
    let leaf_pem = leaf.signed_by(&key, &issuer)?.pem();

    let files = Certificates {
        authority: folder.join("ca.crt"),
        certificate: folder.join("server.crt"),
        key: folder.join("server.key"),
    };
    for (path, text, mode) in [
        (&files.authority, authority_pem, 0o644),
        (&files.certificate, leaf_pem, 0o644),
        (&files.key, key.serialize_pem(), 0o600),
    ] {
        files::write(path, text)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(SampleError::io("protect", path))?;
        user.own(path)?;
    }
    Ok(files)
}

//! TLS as libpq's `sslmode` means it, on rustls.
//!
//! | mode | certificate must be signed by a trusted authority | must name the host |
//! |---|---|---|
//! | `prefer`, `require` | no | no |
//! | `verify-ca` | yes | no |
//! | `verify-full` | yes | yes |
//!
//! The authorities are those of `sslrootcert`, of `~/.postgresql/root.crt`, or with
//! `sslrootcert=system` those of the operating system. A certificate that itself stands in that
//! file is trusted as it is, which is how self-signed servers are pinned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arkstream_pipeline::{Failure, FailureKind};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{ConnectSpec, SslMode};

/// What opens TLS connections for that spec.
pub(crate) fn connector(spec: &ConnectSpec) -> Result<MakeRustlsConnect, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(spec, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failure("choose TLS versions", error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (&spec.ssl_cert, &spec.ssl_key) {
        (Some(certificate), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| failure(format!("read the key {}", key.display()), error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, key)
                .map_err(|error| {
                    failure(
                        format!("use the client certificate {}", certificate.display()),
                        error,
                    )
                })?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(failure(
                "set up TLS",
                "sslcert and sslkey must be given together",
            ));
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn verifier(spec: &ConnectSpec, provider: &Arc<CryptoProvider>) -> Result<Verifier, Failure> {
    let check_name = spec.ssl_mode == SslMode::VerifyFull;
    if !check_name && spec.ssl_mode != SslMode::VerifyCa {
        return Ok(Verifier {
            provider: Arc::clone(provider),
            authorities: None,
        });
    }
    let roots = roots(spec)?;
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(roots.iter().cloned());
    if unusable > 0 {
        tracing::warn!("{unusable} of the trusted certificates could not be read and are ignored");
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .build()
        .map_err(|error| failure("set up the check of the server's certificate", error))?;
    Ok(Verifier {
        provider: Arc::clone(provider),
        authorities: Some(Authorities {
            chain,
            pinned: roots,
            check_name,
        }),
    })
}

fn roots(spec: &ConnectSpec) -> Result<Vec<CertificateDer<'static>>, Failure> {
    match spec.ssl_root_cert.as_deref() {
        Some("system") => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                let why = found.errors.first().map_or_else(
                    || "it has none".to_owned(),
                    std::string::ToString::to_string,
                );
                return Err(failure("read the system's trusted certificates", why)
                    .help("install ca-certificates, or name a file with sslrootcert"));
            }
            Ok(found.certs)
        }
        Some(path) => certificates(Path::new(path)),
        None => {
            let home = std::env::var_os("HOME")
                .map(PathBuf::from)
                .unwrap_or_default();
            certificates(&home.join(".postgresql/root.crt"))
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let attempted = || format!("read the certificates of {}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failure(attempted(), error))?;
    if found.is_empty() {
        return Err(failure(attempted(), "it holds none"));
    }
    Ok(found)
}

fn failure(attempted: impl Into<String>, why: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Usage, attempted, why).help(
        "name the file of the authority that signed the server's certificate with \
         sslrootcert=FILE, use sslrootcert=system, or choose sslmode=require to do without a check",
    )
}

#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Option<Authorities>,
}

#[derive(Debug)]
struct Authorities {
    chain: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else {
            return Ok(ServerCertVerified::assertion());
        };
        if authorities
            .pinned
            .iter()
            .any(|pinned| pinned.as_ref() == end_entity.as_ref())
        {
            if authorities.check_name {
                let parsed = ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let verified = authorities.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is looked at last, when the chain has been found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !authorities.check_name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

//! TLS: what is asked for is what is done, for us and for `pg_dump`.

use std::{path::PathBuf, sync::OnceLock};

use arkstream_sample::ServerOptions;

use super::{FEW_MODELS, backup, fails, keeps_secrets, new_out};
use crate::support::{Stack, StackOptions, run, scratch, sh};

/// A stack whose server offers TLS and writes down who connects how.
fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let on = |name: &str| (name.to_owned(), "on".to_owned());
        Stack::new(StackOptions {
            scale: 0.02,
            graph: false,
            chroma: false,
            // The owner may dump the whole database.
            force_row_security: false,
            server: ServerOptions {
                tls: true,
                extra_settings: vec![on("log_connections")],
                ..ServerOptions::default()
            },
            ..StackOptions::default()
        })
    })
}

fn url(host: &str, parameters: &str) -> String {
    let stack = stack();
    format!(
        "host={host} port={} user=odoo password='{}' dbname={} {parameters}",
        stack.server.port(),
        Stack::OWNER_PASSWORD,
        stack.odoo
    )
}

fn authority() -> String {
    stack()
        .server
        .ca_file()
        .expect("TLS is on")
        .display()
        .to_string()
}

/// An authority that signed nothing here.
fn other_authority() -> PathBuf {
    let folder = scratch("other-authority");
    sh(
        &folder,
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.pem -days 2 \
         -subj '/CN=Somebody else' 2>/dev/null",
    );
    folder.join("ca.pem")
}

#[test]
fn with_the_right_authority_every_connection_is_encrypted() {
    let root = authority();
    for parameters in [
        "sslmode=require".to_owned(),
        format!("sslmode=verify-ca sslrootcert={root}"),
        format!("sslmode=verify-full sslrootcert={root}"),
    ] {
        let out = new_out();
        let before = stack().server.log().len();
        let mut command = backup(&url("127.0.0.1", &parameters), &out, &FEW_MODELS);
        let ended = run(command.arg("--odoo-dump")).ok();
        keeps_secrets(&ended.stdout, &ended.stderr);
        let log = stack().server.log().split_off(before);
        let connected: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("connection authorized"))
            .collect();
        assert!(
            connected.len() >= 4,
            "discovery, plan, workers, pg_dump: {log}"
        );
        for line in connected {
            assert!(line.contains("SSL enabled"), "{parameters}: {line}");
        }
    }
}

#[test]
fn a_server_that_another_authority_signed_for_is_not_trusted() {
    let out = new_out();
    for mode in ["verify-ca", "verify-full"] {
        let wrong = other_authority().display().to_string();
        let url = url("127.0.0.1", &format!("sslmode={mode} sslrootcert={wrong}"));
        let words = ["connect to 127.0.0.1", "certificate"];
        fails(&mut backup(&url, &out, &[]), &out, 7, &words, "sslrootcert");
    }
}

#[test]
fn verify_full_looks_at_the_name_and_verify_ca_does_not() {
    // The certificate is for localhost and 127.0.0.1.
    let (out, root) = (new_out(), authority());
    let elsewhere = |mode: &str| {
        let parameters = format!("hostaddr=127.0.0.1 sslmode={mode} sslrootcert={root}");
        backup(&url("db.example.org", &parameters), &out, &FEW_MODELS)
    };
    fails(
        &mut elsewhere("verify-full"),
        &out,
        7,
        &["certificate"],
        "verify-ca",
    );
    run(elsewhere("verify-ca").arg("--dry-run")).ok();
}

#[test]
fn an_authority_that_cannot_be_read_is_a_usage_error() {
    let out = new_out();
    let url = url(
        "127.0.0.1",
        "sslmode=verify-full sslrootcert=/no/such/ca.pem",
    );
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        2,
        &["/no/such/ca.pem"],
        "sslrootcert",
    );
}

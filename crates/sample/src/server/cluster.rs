//! Making a cluster: `initdb`, access rules, settings.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::{Server, ServerOptions, command_failed};
use crate::error::SampleError;
use crate::files;

impl Server {
    /// `initdb`, the socket's folder, and who may connect how.
    pub(super) fn init(&self) -> Result<(), SampleError> {
        let pwfile = self.folder.path().join("pw");
        files::write(&pwfile, format!("{}\n", self.password))?;
        self.user.own(&pwfile)?;
        let program = self.original_bin.join("initdb");
        let output = self
            .user
            .command(&program, false)
            .args([
                "-N",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--locale=C",
                "-A",
                "scram-sha-256",
            ])
            .arg(format!("--pwfile={}", pwfile.display()))
            .arg("-D")
            .arg(self.data_dir())
            .current_dir(self.folder.path())
            .output()
            .map_err(SampleError::io("run", &program))?;
        fs::remove_file(&pwfile).map_err(SampleError::io("remove", &pwfile))?;
        if !output.status.success() {
            return Err(command_failed("initdb", &output));
        }
        let socket_dir = self.socket_dir();
        fs::create_dir(&socket_dir).map_err(SampleError::io("create", &socket_dir))?;
        self.user.own(&socket_dir)?;
        let hba = self.data_dir().join("pg_hba.conf");
        files::write(
            &hba,
            "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n",
        )
    }

    /// Writes the settings, those of the options last.
    pub(super) fn configure(&self, options: &ServerOptions) -> Result<(), SampleError> {
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("listen_addresses".to_owned(), "127.0.0.1".to_owned()),
            ("port".to_owned(), self.port.to_string()),
            (
                "unix_socket_directories".to_owned(),
                self.socket_dir().display().to_string(),
            ),
            ("fsync".to_owned(), switch(options.fsync)),
            ("full_page_writes".to_owned(), switch(options.fsync)),
            ("password_encryption".to_owned(), "scram-sha-256".to_owned()),
            ("timezone".to_owned(), "UTC".to_owned()),
            ("log_timezone".to_owned(), "UTC".to_owned()),
            ("lc_messages".to_owned(), "C".to_owned()),
        ];
        if let Some(files) = &self.certificates {
            settings.push(("ssl".to_owned(), "on".to_owned()));
            settings.push((
                "ssl_cert_file".to_owned(),
                files.certificate.display().to_string(),
            ));
            settings.push(("ssl_key_file".to_owned(), files.key.display().to_string()));
        }
        settings.extend(options.extra_settings.iter().cloned());
        let text: String = settings
            .iter()
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
            .collect();
        // Written by initdb as an empty file to be filled; the last word on every setting.
        let path = self.data_dir().join("postgresql.auto.conf");
        files::write(&path, text)
    }
}

/// A TCP port that is free at this moment.
pub(super) fn free_port() -> Result<u16, SampleError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(SampleError::io(
            "find a free port on",
            Path::new("127.0.0.1"),
        ))
}

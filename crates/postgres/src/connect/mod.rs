//! Where a database is and how to get in: what libpq reads, read the same way.
//!
//! Sources, the first one that names a value wins: the connection string (a URL or key=value
//! pairs), the `PG…` environment variables, libpq's defaults. The password comes from the
//! string, `PGPASSWORD`, the password file that was given, or the `.pgpass` file.
//!
//! Parameters that would change what is trusted and that are not supported here are refused by
//! name instead of being ignored.

mod conninfo;
mod passfile;
mod pieces;
mod tls;
mod wire;

use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use arkstream_pipeline::{Failure, FailureKind};
use secrecy::{ExposeSecret, SecretString};

pub(crate) use passfile::Lookup;
#[cfg(feature = "fuzzing")]
pub use passfile::password_in;
pub(crate) use tls::connector;
pub(crate) use wire::{Socket, Wire, tls_for};

/// How much the connection must be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS where the server offers it, its certificate unchecked.
    Prefer,
    /// Always TLS, the certificate unchecked unless a root certificate is given.
    Require,
    /// TLS with a certificate that a trusted authority signed.
    VerifyCa,
    /// TLS with such a certificate that also names the host.
    VerifyFull,
}

impl SslMode {
    /// The word that libpq knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// One host of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostSpec {
    /// A name, an address, or the folder of a Unix socket; `None` for the usual places.
    pub(crate) host: Option<String>,
    pub(crate) hostaddr: Option<IpAddr>,
    pub(crate) port: u16,
}

impl HostSpec {
    /// Whether both lead to the same server, as far as names tell. Every way to this machine is one.
    fn same_server(&self, other: &Self) -> bool {
        self.port == other.port
            && match (self.is_local(), other.is_local()) {
                (true, true) => true,
                (false, false) => {
                    (self.host.is_some() && self.host == other.host)
                        || (self.hostaddr.is_some() && self.hostaddr == other.hostaddr)
                }
                _ => false,
            }
    }

    fn is_local(&self) -> bool {
        match (&self.hostaddr, &self.host) {
            (Some(address), _) => address.is_loopback(),
            (None, None) => true,
            (None, Some(host)) => {
                self.is_socket()
                    || host == "localhost"
                    || host
                        .parse::<IpAddr>()
                        .is_ok_and(|address| address.is_loopback())
            }
        }
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.hostaddr.is_none()
            && self
                .host
                .as_deref()
                .is_some_and(|host| host.starts_with('/'))
    }

    fn describe(&self) -> String {
        match (&self.host, self.hostaddr) {
            (Some(host), _) if host.contains(':') => format!("[{host}]:{}", self.port),
            (Some(host), _) => format!("{host}:{}", self.port),
            (None, Some(address @ IpAddr::V6(_))) => format!("[{address}]:{}", self.port),
            (None, Some(address)) => format!("{address}:{}", self.port),
            (None, None) => format!("local:{}", self.port),
        }
    }
}

/// Where a database is and how to get in. Shows no secret, however it is printed.
#[derive(Clone)]
pub struct ConnectSpec {
    pub(crate) hosts: Vec<HostSpec>,
    pub(crate) user: String,
    pub(crate) dbname: String,
    pub(crate) options: Option<String>,
    pub(crate) application_name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) ssl_mode: SslMode,
    pub(crate) ssl_root_cert: Option<String>,
    pub(crate) ssl_cert: Option<PathBuf>,
    pub(crate) ssl_key: Option<PathBuf>,
    password: Option<SecretString>,
    passfile: Option<PathBuf>,
}

impl ConnectSpec {
    /// Reads a libpq URL (`postgresql://…`) or a key=value string. What it leaves open is taken
    /// from the environment.
    ///
    /// # Errors
    /// When the text is neither, or names a parameter that is unknown or not supported. The
    /// message never repeats the text, for it may hold a password.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::build(conninfo::parse(text)?, &|name| std::env::var(name).ok())
    }

    /// From libpq's parameters by name, such as `host`, `port`, `dbname`; empty values count as
    /// not given. What is left open is taken from the environment.
    ///
    /// # Errors
    /// As for [`ConnectSpec::parse`].
    pub fn from_parameters<'a>(
        parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Failure> {
        let parameters = parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self::build(parameters, &|name| std::env::var(name).ok())
    }

    /// Takes the password from the first line of a file, unless the connection string or
    /// `PGPASSWORD` gave one.
    ///
    /// # Errors
    /// When the file is needed and cannot be read.
    pub fn with_password_file(mut self, path: &Path) -> Result<Self, Failure> {
        if self.password.is_none() {
            let attempted = format!("read the password file {}", path.display());
            let text = fs::read_to_string(path)
                .map_err(|error| Failure::io(FailureKind::Usage, attempted, error))?;
            let line = text.lines().next().unwrap_or_default();
            self.password = Some(SecretString::from(line.to_owned()));
        }
        Ok(self)
    }

    /// The same server and role, another database.
    #[must_use]
    pub fn with_database(&self, dbname: &str) -> Self {
        Self {
            dbname: dbname.to_owned(),
            ..self.clone()
        }
    }

    /// Whether both lead to the same server, whatever the user and the database.
    #[must_use]
    pub fn same_server(&self, other: &Self) -> bool {
        self.hosts
            .iter()
            .any(|one| other.hosts.iter().any(|another| one.same_server(another)))
    }

    /// The database's name.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.dbname
    }

    /// The role's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// `host:port/database as user`, without a secret.
    #[must_use]
    pub fn describe(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(HostSpec::describe).collect();
        format!("{}/{} as {}", hosts.join(","), self.dbname, self.user)
    }

    /// A key=value string that [`ConnectSpec::parse`] reads back to the same, but for the password.
    #[must_use]
    pub fn without_password(&self) -> String {
        let quoted =
            |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
        let hidden = ["PGPASSWORD", "PGPASSFILE"];
        self.child_env()
            .iter()
            .filter(|(name, _)| !hidden.contains(&name.as_str()))
            .map(|(name, value)| {
                let key = match name.as_str() {
                    "PGDATABASE" => "dbname".to_owned(),
                    "PGAPPNAME" => "application_name".to_owned(),
                    "PGCONNECT_TIMEOUT" => "connect_timeout".to_owned(),
                    other => other.trim_start_matches("PG").to_lowercase(),
                };
                format!("{key}={}", quoted(value))
            })
            .chain(
                self.passfile
                    .as_ref()
                    .map(|path| format!("passfile={}", quoted(&path.display().to_string()))),
            )
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The environment in which `pg_dump` or `psql` reaches the same database the same way, so
    /// that nothing secret stands in their arguments.
    ///
    /// Whoever starts the child must first remove all `PG…` variables it would inherit; see
    /// [`ConnectSpec::is_libpq_variable`].
    #[must_use]
    pub fn child_env(&self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        let mut put = |name: &str, value: String| env.push((name.to_owned(), value));
        let joined = |part: &dyn Fn(&HostSpec) -> String| {
            self.hosts.iter().map(part).collect::<Vec<_>>().join(",")
        };
        if self.hosts.iter().any(|host| host.host.is_some()) {
            put(
                "PGHOST",
                joined(&|host| host.host.clone().unwrap_or_default()),
            );
        }
        if self.hosts.iter().any(|host| host.hostaddr.is_some()) {
            put(
                "PGHOSTADDR",
                joined(&|host| {
                    host.hostaddr
                        .map(|address| address.to_string())
                        .unwrap_or_default()
                }),
            );
        }
        put("PGPORT", joined(&|host| host.port.to_string()));
        put("PGUSER", self.user.clone());
        put("PGDATABASE", self.dbname.clone());
        put("PGSSLMODE", self.ssl_mode.name().to_owned());
        put(
            "PGCONNECT_TIMEOUT",
            self.connect_timeout.as_secs().max(2).to_string(),
        );
        if let Some(password) = &self.password {
            put("PGPASSWORD", password.expose_secret().to_owned());
        } else if let Some(path) = &self.passfile {
            put("PGPASSFILE", path.display().to_string());
        }
        if let Some(root) = &self.ssl_root_cert {
            put("PGSSLROOTCERT", root.clone());
        }
        if let Some(path) = &self.ssl_cert {
            put("PGSSLCERT", path.display().to_string());
        }
        if let Some(path) = &self.ssl_key {
            put("PGSSLKEY", path.display().to_string());
        }
        if let Some(options) = &self.options {
            put("PGOPTIONS", options.clone());
        }
        put(
            "PGAPPNAME",
            self.application_name
                .clone()
                .unwrap_or_else(|| "arkstream".to_owned()),
        );
        env
    }

    /// Whether libpq would take a setting from the environment variable of that name.
    #[must_use]
    pub fn is_libpq_variable(name: &str) -> bool {
        name.starts_with("PG")
    }

    /// The password for one of the hosts.
    pub(crate) fn password_for(&self, host: &HostSpec) -> Lookup {
        match (&self.password, &self.passfile) {
            (Some(password), _) => Lookup::Found(password.clone()),
            (None, Some(path)) => passfile::lookup(path, host, &self.dbname, &self.user),
            (None, None) => Lookup::NotFound,
        }
    }

    /// The same with only that host left, so that every further connection meets one server.
    pub(crate) fn narrowed_to(&self, host: HostSpec) -> Self {
        Self {
            hosts: vec![host],
            ..self.clone()
        }
    }

    fn build(
        given: Vec<(String, String)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let parameters = conninfo::Parameters::new(given, env)?;
        let user = match parameters.get("user") {
            Some(user) => user,
            None => whoami::username().map_err(|error| {
                usage(format!(
                    "no user is named and the system's is unknown: {error}"
                ))
            })?,
        };
        let ssl_root_cert = parameters.get("sslrootcert");
        Ok(Self {
            hosts: conninfo::hosts(&parameters)?,
            dbname: parameters.get("dbname").unwrap_or_else(|| user.clone()),
            user,
            options: parameters.get("options"),
            application_name: parameters.get("application_name"),
            connect_timeout: conninfo::connect_timeout(&parameters)?,
            ssl_mode: conninfo::ssl_mode(&parameters, ssl_root_cert.as_deref())?,
            ssl_root_cert,
            ssl_cert: parameters.get("sslcert").map(PathBuf::from),
            ssl_key: parameters.get("sslkey").map(PathBuf::from),
            password: parameters.get("password").map(SecretString::from),
            passfile: parameters
                .get("passfile")
                .map(PathBuf::from)
                .or_else(|| passfile::default_path(env)),
        })
    }
}

impl fmt::Debug for ConnectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ConnectSpec({}, sslmode={})",
            self.describe(),
            self.ssl_mode.name()
        )
    }
}

pub(crate) fn usage(why: impl fmt::Display) -> Failure {
    Failure::new(FailureKind::Usage, "read a connection string", why).help(
        "write postgresql://user@host:5432/database?sslmode=prefer or \
         'host=… port=… dbname=… user=…'; keep the password in PGPASSWORD, ~/.pgpass or a file",
    )
}

#[cfg(test)]
mod tests;

//! Opening a connection: hosts in turn, TLS by mode, and errors that say what to do.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arkstream_pipeline::{Failure, FailureKind};
use secrecy::ExposeSecret;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode as WireSslMode;
use tokio_postgres::{CancelToken, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::driver::Driver;
use crate::connect::{ConnectSpec, HostSpec, Lookup, Socket, SslMode, Wire, connector, tls_for};
use crate::failure::failure_of;

/// Where servers put their socket unless told otherwise.
const SOCKET_DIRS: [&str; 3] = ["/var/run/postgresql", "/run/postgresql", "/tmp"];

pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) driver: Driver,
    pub(super) spec: ConnectSpec,
    pub(super) tls: MakeRustlsConnect,
}

/// Tries the hosts in their order and takes the first that answers.
pub(super) async fn open(spec: &ConnectSpec, application_name: &str) -> Result<Opened, Failure> {
    let tls = connector(spec)?;
    let mut failures = Vec::new();
    for host in &spec.hosts {
        let narrowed = spec.narrowed_to(resolve_default(host));
        match open_host(&narrowed, application_name, &tls).await {
            Ok((client, driver)) => {
                return Ok(Opened {
                    client,
                    driver,
                    spec: narrowed,
                    tls,
                });
            }
            Err(failure) => failures.push(failure),
        }
    }
    let whys: Vec<String> = failures
        .iter()
        .zip(&spec.hosts)
        .map(|(failure, host)| {
            format!(
                "{}: {}",
                host.host.as_deref().unwrap_or("local"),
                failure.why()
            )
        })
        .collect();
    let several = failures.len() > 1;
    match failures.pop() {
        Some(last) if several => {
            let help = last.advice().map(str::to_owned);
            let failure = Failure::new(last.kind, attempted(spec), whys.join("; "));
            Err(match help {
                Some(help) => failure.help(help),
                None => failure,
            })
        }
        Some(only) => Err(only),
        None => Err(Failure::new(
            FailureKind::Usage,
            attempted(spec),
            "no host is named",
        )),
    }
}

/// A text that no other session has.
pub(super) fn unique_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{nanos}-{count}", std::process::id())
}

/// Without a host, libpq looks into the usual socket folders; without a socket, at localhost.
fn resolve_default(host: &HostSpec) -> HostSpec {
    if host.host.is_some() || host.hostaddr.is_some() {
        return host.clone();
    }
    let socket = SOCKET_DIRS
        .into_iter()
        .find(|folder| cfg!(unix) && socket_path(Path::new(folder), host.port).exists());
    HostSpec {
        host: Some(socket.unwrap_or("localhost").to_owned()),
        ..host.clone()
    }
}

fn socket_path(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn attempted(spec: &ConnectSpec) -> String {
    format!("connect to {}", spec.describe())
}

async fn open_host(
    spec: &ConnectSpec,
    application_name: &str,
    tls: &MakeRustlsConnect,
) -> Result<(Client, Driver), Failure> {
    let Some(host) = spec.hosts.first() else {
        return Err(Failure::new(
            FailureKind::Usage,
            attempted(spec),
            "no host is named",
        ));
    };
    let password = spec.password_for(host);
    let config = config(spec, &password, application_name);
    // Sockets carry no TLS; libpq ignores the mode there.
    let mode = if host.is_socket() {
        SslMode::Disable
    } else {
        spec.ssl_mode
    };
    let wire_mode = match mode {
        SslMode::Disable => WireSslMode::Disable,
        SslMode::Prefer => WireSslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireSslMode::Require,
    };
    let first = connect_within(spec, &config, wire_mode, tls).await;
    let outcome = match first {
        // As libpq: what was only preferred may also be done without.
        Err(Trouble::Server(error)) if mode == SslMode::Prefer && may_do_without_tls(&error) => {
            match connect_within(spec, &config, WireSslMode::Disable, tls).await {
                Ok(opened) => Ok(opened),
                Err(_) if !is_tls(&error) => Err(Trouble::Server(error)),
                Err(second) => Err(second),
            }
        }
        outcome => outcome,
    };
    outcome.map_err(|trouble| explain(spec, host, &password, trouble))
}

enum Trouble {
    TooSlow(Duration),
    /// There is no connection to speak over.
    Socket(io::Error),
    Server(tokio_postgres::Error),
}

async fn connect_within(
    spec: &ConnectSpec,
    config: &Config,
    mode: WireSslMode,
    tls: &MakeRustlsConnect,
) -> Result<(Client, Driver), Trouble> {
    let Some(host) = spec.hosts.first() else {
        return Err(Trouble::Socket(io::ErrorKind::AddrNotAvailable.into()));
    };
    let mut config = config.clone();
    config.ssl_mode(mode);
    let connecting = async {
        if let Some(folder) = socket_folder(host) {
            let stream = local(folder, host.port).await.map_err(Trouble::Socket)?;
            speak(stream, host, &config, tls).await
        } else {
            let stream = tcp(host).await.map_err(Trouble::Socket)?;
            speak(stream, host, &config, tls).await
        }
    };
    tokio::time::timeout(spec.connect_timeout, connecting)
        .await
        .map_err(|_| Trouble::TooSlow(spec.connect_timeout))?
}

/// Begins the protocol on a socket.
async fn speak<S: Socket>(
    stream: S,
    host: &HostSpec,
    config: &Config,
    tls: &MakeRustlsConnect,
) -> Result<(Client, Driver), Trouble> {
    let asks = config.get_ssl_mode() != WireSslMode::Disable;
    let wire = Wire::new(stream, asks);
    let tls = tls_for::<S>(tls, &server_name(host));
    let (client, connection) = config
        .connect_raw(wire, tls)
        .await
        .map_err(Trouble::Server)?;
    let driver = Driver::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection ended: {error}");
        }
    });
    Ok((client, driver))
}

/// Asks the server to stop what it does for a session.
///
/// # Errors
/// When the request did not get through.
pub(super) async fn cancel(
    spec: &ConnectSpec,
    token: &CancelToken,
    tls: &MakeRustlsConnect,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Some(host) = spec.hosts.first() else {
        return Ok(());
    };
    if let Some(folder) = socket_folder(host) {
        let stream = local(folder, host.port).await?;
        token.cancel_query_raw(stream, NoTls).await?;
    } else {
        // The request is the same with TLS or without; the session's mode goes along with it.
        let wire = Wire::new(tcp(host).await?, true);
        let tls = tls_for::<TcpStream>(tls, &server_name(host));
        token.cancel_query_raw(wire, tls).await?;
    }
    Ok(())
}

#[cfg(unix)]
async fn local(folder: &str, port: u16) -> io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::connect(socket_path(Path::new(folder), port)).await
}

/// There are none on this system.
#[cfg(not(unix))]
async fn local(_: &str, _: u16) -> io::Result<TcpStream> {
    Err(io::ErrorKind::Unsupported.into())
}

async fn tcp(host: &HostSpec) -> io::Result<TcpStream> {
    let stream = match host.hostaddr {
        Some(address) => TcpStream::connect((address, host.port)).await?,
        None => TcpStream::connect((server_name(host).as_str(), host.port)).await?,
    };
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10));
    // Not every Windows lets their number be set; it is 10 there.
    #[cfg(not(windows))]
    let keepalive = keepalive.with_retries(6);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The folder of the Unix socket.
fn socket_folder(host: &HostSpec) -> Option<&str> {
    host.host.as_deref().filter(|_| host.is_socket())
}

/// What a certificate has to name: the host, or the address where only that is given.
fn server_name(host: &HostSpec) -> String {
    match (&host.host, host.hostaddr) {
        (Some(name), _) => name.clone(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "localhost".to_owned(),
    }
}

fn config(spec: &ConnectSpec, password: &Lookup, application_name: &str) -> Config {
    let mut config = Config::new();
    config
        .user(&spec.user)
        .dbname(&spec.dbname)
        .application_name(spec.application_name.as_deref().unwrap_or(application_name));
    if let Lookup::Found(password) = password {
        config.password(password.expose_secret());
    }
    if let Some(options) = &spec.options {
        config.options(options);
    }
    config
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string().contains("TLS handshake")
}

fn may_do_without_tls(error: &tokio_postgres::Error) -> bool {
    is_tls(error) || error.code().is_some_and(|code| code.code() == "28000")
}

fn explain(spec: &ConnectSpec, host: &HostSpec, password: &Lookup, trouble: Trouble) -> Failure {
    let attempted = attempted(spec);
    let error = match trouble {
        Trouble::Server(error) => error,
        Trouble::Socket(error) => {
            let why = format!("error connecting to server: {error}");
            return Failure::new(FailureKind::Source, attempted, why)
                .passing()
                .help(no_connection(host));
        }
        Trouble::TooSlow(limit) => {
            let why = format!("no answer within {} s", limit.as_secs());
            return Failure::new(FailureKind::Source, attempted, why).help(
                "check host, port and firewalls; a slow network needs a larger connect_timeout",
            );
        }
    };
    let refused = match password {
        Lookup::Refused(why) => Some(why.as_str()),
        Lookup::Found(_) | Lookup::NotFound => None,
    };
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    let failure = failure_of(&attempted, &error);
    if error.as_db_error().is_some() {
        let encryption =
            failure.why().contains("no encryption") || failure.why().contains("SSL off");
        return match refused {
            _ if encryption && spec.ssl_mode == SslMode::Disable => failure
                .help("the server wants TLS from this address: use sslmode=require or stricter"),
            Some(why) => failure.help(why),
            None => failure,
        };
    }
    if cause.contains("password missing") {
        let why = "the server asks for a password and none was found";
        return Failure::new(FailureKind::Source, attempted, why)
            .help(refused.unwrap_or(
                "give it in PGPASSWORD, in ~/.pgpass (mode 0600) or in a password file",
            ));
    }
    if cause.contains("does not support TLS") {
        return failure.help(format!(
            "sslmode={} demands TLS and the server has it switched off: switch it on there \
             (ssl = on), or use sslmode=prefer where the network is trusted",
            spec.ssl_mode.name()
        ));
    }
    if is_tls(&error) {
        return failure.help(
            "the server's certificate was not accepted: name its authority with sslrootcert=FILE \
             (or system); sslmode=verify-ca does not look at the host's name",
        );
    }
    failure.help(no_connection(host))
}

fn no_connection(host: &HostSpec) -> &'static str {
    if host.is_socket() {
        return "no server listens on that socket: check the folder and the port, or whether the \
                server runs";
    }
    "check host and port, whether the server runs, listens on that address (listen_addresses) and no \
     firewall is in between"
}

//! A throwaway PostgreSQL server.
//!
//! Each server has a fresh folder with its own data, socket, log and private copy of the
//! installation, and listens on a Unix socket (trusted) and on `127.0.0.1` (SCRAM password).
//! It ends with its value: dropping it shuts the server down and removes the folder. If the
//! process is killed outright, the kernel ends the server; its folder is removed by the next
//! server that starts.
//!
//! Durability: by default `fsync` is off. A crash of the *server* ([`Server::kill_9`]) still
//! loses nothing that was committed, as the operating system keeps the written pages.

mod cluster;
mod folder;
mod install;
mod process;
mod tls;
mod user;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio_postgres::NoTls;

use crate::error::SampleError;
use cluster::free_port;
use folder::Folder;
use process::Spawner;
use tls::Certificates;
use user::ServerUser;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How to start a server. Not `Debug`: it may hold a password.
#[derive(Clone, Default)]
pub struct ServerOptions {
    /// The major to run; `None` for the newest one installed.
    pub major: Option<u32>,
    /// Offer TLS on TCP, with a certificate signed by [`Server::ca_file`].
    pub tls: bool,
    /// Password of the superuser `postgres`; `None` makes a random one.
    pub password: Option<String>,
    /// Further lines of `postgresql.conf`; they win over ours.
    pub extra_settings: Vec<(String, String)>,
    /// Whether the server syncs to disk (off: faster, and as good for a test).
    pub fsync: bool,
}

/// How a running server is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Disconnect the clients, write a checkpoint.
    Fast,
    /// Stop at once; the next start recovers from the log.
    Immediate,
}

/// A running PostgreSQL that ends with this value.
pub struct Server {
    child: Mutex<Option<Child>>,
    spawner: Spawner,
    user: ServerUser,
    major: u32,
    bin: PathBuf,
    /// The folder the copy was made from; what does not look for extensions runs from there.
    original_bin: PathBuf,
    port: u16,
    password: String,
    certificates: Option<Certificates>,
    // Last: the folder goes when everything else is down.
    folder: Folder,
}

impl Server {
    /// Every installed major with its program folder, ascending.
    pub fn installed() -> Vec<(u32, PathBuf)> {
        install::installed()
    }

    /// Makes a new cluster and starts it.
    pub fn start(options: ServerOptions) -> Result<Self, SampleError> {
        let (major, original) = install::find(options.major)?;
        let user = ServerUser::find()?;
        let folder = Folder::create(&user)?;
        let bin = install::private_copy(&original, &folder.path().join("i"))?;
        let certificates = match options.tls {
            true => Some(tls::make(folder.path(), user)?),
            false => None,
        };
        let spawner = Spawner::new().map_err(SampleError::io("start a thread for", &bin))?;
        let password = options
            .password
            .clone()
            .unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let mut server = Self {
            child: Mutex::new(None),
            spawner,
            user,
            major,
            bin,
            original_bin: original,
            port: 0,
            password,
            certificates,
            folder,
        };
        server.init()?;
        // Another program may take the free port before the server does; it is asked for anew.
        let mut attempts = 0;
        loop {
            server.port = free_port()?;
            server.configure(&options)?;
            match server.start_again() {
                Err(SampleError::DidNotStart { log, .. })
                    if attempts < 5 && log.contains("Address already in use") =>
                {
                    attempts += 1;
                }
                outcome => return outcome.map(|()| server),
            }
        }
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// A libpq URL for `database` over the Unix socket, as the superuser, without a password.
    pub fn conninfo(&self, database: &str) -> String {
        format!(
            "postgresql://postgres@/{}?host={}&port={}",
            percent(database),
            percent(&self.socket_dir().to_string_lossy()),
            self.port
        )
    }

    /// A libpq URL for `database` over TCP.
    pub fn tcp_url(&self, database: &str, user: &str, password: &str) -> String {
        format!(
            "postgresql://{}:{}@127.0.0.1:{}/{}",
            percent(user),
            percent(password),
            self.port,
            percent(database)
        )
    }

    /// The TCP port, which also names the socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password, for TCP.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The folder of the Unix socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// The folder of the server's programs (`psql`, `pg_dump` …), in the private copy.
    pub fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The authority that signed the server's certificate, when TLS is on.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|c| c.authority.as_path())
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Connects as the superuser over the socket; the connection is driven by a spawned task.
    pub async fn superuser_connect(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, SampleError> {
        let action = format!("connect to the sample database {database}");
        let (client, connection) = tokio_postgres::connect(&self.conninfo(database), NoTls)
            .await
            .map_err(SampleError::sql(action))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the sample server ended");
            }
        });
        Ok(client)
    }

    /// Creates an empty UTF-8 database.
    pub fn create_database(&self, name: &str) -> Result<(), SampleError> {
        let quoted = name.replace('"', "\"\"");
        self.psql(
            "postgres",
            &format!("CREATE DATABASE \"{quoted}\" TEMPLATE template0"),
        )
        .map(|_| ())
    }

    /// Runs statements with the real `psql` and returns the rows: unaligned, `|` between columns,
    /// one line a row, without the final line end.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, SampleError> {
        let program = self.bin.join("psql");
        let mut command = Command::new(&program);
        clean_environment(&mut command);
        command
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(self.conninfo(database))
            .args(["-c", sql])
            .stdin(Stdio::null());
        let output = command.output().map_err(SampleError::io("run", &program))?;
        if !output.status.success() {
            return Err(command_failed("psql", &output));
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    /// Stops the server and starts it again on the same port.
    pub fn restart(&self, mode: StopMode) -> Result<(), SampleError> {
        self.stop(mode)?;
        self.start_again()
    }

    /// Stops the server; its data stay.
    pub fn stop(&self, mode: StopMode) -> Result<(), SampleError> {
        let mut guard = self.child();
        let child = guard.as_mut().ok_or(SampleError::NotRunning)?;
        stop_child(child, mode)
            .map_err(SampleError::io("stop the server in", self.folder.path()))?;
        *guard = None;
        Ok(())
    }

    /// Kills the postmaster and all its processes, as a crash would.
    pub fn kill_9(&self) -> Result<(), SampleError> {
        let mut guard = self.child();
        let child = guard.as_mut().ok_or(SampleError::NotRunning)?;
        process::kill_family(child)
            .map_err(SampleError::io("kill the server in", self.folder.path()))?;
        *guard = None;
        Ok(())
    }

    /// Starts a stopped or killed server on its data and waits until it accepts connections.
    pub fn start_again(&self) -> Result<(), SampleError> {
        let log_path = self.log_path();
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(SampleError::io("open", &log_path))?;
        let program = self.bin.join("postgres");
        let mut command = self.user.command(&program, true);
        command
            .arg("-D")
            .arg(self.data_dir())
            .current_dir(self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let child = self
            .spawner
            .spawn(command)
            .map_err(SampleError::io("start", &program))?;
        let mut guard = self.child();
        let child = guard.insert(child);
        let outcome = self.wait_ready(child);
        if outcome.is_err() {
            // It may hang rather than have ended; either way it must not stay.
            let _ = child.kill();
            let _ = child.wait();
            *guard = None;
        }
        outcome
    }

    /// The postmaster writes its state into line 8 of `postmaster.pid`.
    fn wait_ready(&self, child: &mut Child) -> Result<(), SampleError> {
        let failed = |reason: String| SampleError::DidNotStart {
            reason,
            log: tail(&self.log()),
        };
        let pid = child.id().to_string();
        let pid_file = self.data_dir().join("postmaster.pid");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            let mut lines = text.lines();
            if lines.next() == Some(pid.as_str()) && lines.nth(6).map(str::trim) == Some("ready") {
                return Ok(());
            }
            if let Some(status) = child
                .try_wait()
                .map_err(SampleError::io("watch", &self.bin.join("postgres")))?
            {
                return Err(failed(format!("it ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(failed(format!(
                    "not ready after {} s",
                    START_LIMIT.as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A killed postmaster leaves its System V memory segment; line 7 of its pid file names it.
    fn remove_shared_memory(&self) {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let Some(id) = text
            .lines()
            .nth(6)
            .and_then(|l| l.split_whitespace().nth(1))
        else {
            return;
        };
        let outcome = Command::new("ipcrm").args(["-m", id]).output();
        tracing::debug!(
            ?outcome,
            "removed the shared memory of a killed sample server"
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child().take()
            && let Err(error) = stop_child(&mut child, StopMode::Immediate)
        {
            tracing::warn!(%error, "could not stop the sample server");
        }
        self.remove_shared_memory();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("major", &self.major)
            .field("port", &self.port)
            .field("folder", &self.folder.path())
            .finish_non_exhaustive()
    }
}

/// The settings of whoever runs the tests must not reach the sample.
fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
}

fn command_failed(program: &str, output: &Output) -> SampleError {
    SampleError::Command {
        program: program.to_owned(),
        status: output.status.to_string(),
        stderr: tail(&String::from_utf8_lossy(&output.stderr)),
    }
}

fn stop_child(child: &mut Child, mode: StopMode) -> std::io::Result<()> {
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let signal = match mode {
        StopMode::Fast => Signal::INT,
        StopMode::Immediate => Signal::QUIT,
    };
    process::signal(child, signal)?;
    let deadline = Instant::now() + STOP_LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            return process::kill_family(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

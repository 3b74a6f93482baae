//! The `pg_dump` process: started, drained, judged, and never left behind.

use std::process::Stdio;
use std::time::Duration;

use arkstream_format::Component;
use arkstream_pipeline::{Event, Failure, FailureKind, MemberWriter, Run};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::connect::ConnectSpec;
use crate::tools::{Tool, run_limited};

/// Bytes handed to the sink at once.
const PIECE: usize = 1 << 20;

/// Bytes of `pg_dump`'s messages that are kept.
const KEPT_MESSAGES: usize = 64 << 10;

/// The line a complete dump ends with, and how far from the end it may stand: newer releases
/// write `\unrestrict` behind it.
const END_MARK: &[u8] = b"-- PostgreSQL database dump complete";
const END_WITHIN: usize = 512;

/// Newer releases draw this word at random, which would make every dump differ.
const RESTRICT_KEY: &str = "arkstreamdump";

/// A running `pg_dump`. Dropped, it is killed and reaped.
pub(super) struct PgDump {
    child: Child,
    stdout: Option<ChildStdout>,
    messages: JoinHandle<Vec<u8>>,
    /// The last bytes of the stream.
    tail: Vec<u8>,
    attempted: String,
}

impl PgDump {
    pub(super) fn start(
        tool: &Tool,
        spec: &ConnectSpec,
        snapshot: Option<&str>,
        lock_timeout: Duration,
        attempted: &str,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(&tool.path);
        command
            .args([
                "--format=plain",
                "--no-owner",
                "--no-acl",
                "--no-password",
                "--encoding=UTF8",
            ])
            .arg(format!(
                "--lock-wait-timeout={}",
                lock_timeout.as_millis().max(1)
            ))
            .args(snapshot.map(|snapshot| format!("--snapshot={snapshot}")));
        if run_limited(&tool.path, "--help").is_ok_and(|help| help.contains("--restrict-key")) {
            command.arg(format!("--restrict-key={RESTRICT_KEY}"));
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(ConnectSpec::is_libpq_variable) {
                command.env_remove(name);
            }
        }
        let mut child = command
            .envs(spec.child_env())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let attempted = format!("start {}", tool.path.display());
                Failure::io(FailureKind::Source, attempted, error)
            })?;
        let stdout = child.stdout.take();
        let messages = tokio::spawn(read_messages(child.stderr.take()));
        Ok(Self {
            child,
            stdout,
            messages,
            tail: Vec::new(),
            attempted: attempted.to_owned(),
        })
    }

    /// Moves everything it writes into the member.
    pub(super) async fn pump(
        &mut self,
        run: &Run,
        component: Component,
        writer: &mut dyn MemberWriter,
    ) -> Result<(), Failure> {
        let Some(mut stdout) = self.stdout.take() else {
            return Ok(());
        };
        let mut cancelled = std::pin::pin!(run.cancel.raised());
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            while piece.len() < PIECE {
                let read = tokio::select! {
                    biased;
                    () = &mut cancelled => return Err(Failure::interrupted()),
                    read = stdout.read_buf(&mut piece) => read,
                };
                let read = read.map_err(|error| {
                    Failure::io(FailureKind::Source, self.attempted.clone(), error)
                })?;
                if read == 0 {
                    break;
                }
                run.tell(Event::Read {
                    component,
                    bytes: read as u64,
                });
            }
            if piece.is_empty() {
                return Ok(());
            }
            self.keep_tail(&piece);
            writer.write(piece.freeze()).await?;
        }
    }

    /// Waits for its end and judges it: by its exit status and by the end of its stream.
    pub(super) async fn conclude(&mut self, run: &Run) -> Result<(), Failure> {
        let status = self
            .child
            .wait()
            .await
            .map_err(|error| Failure::io(FailureKind::Source, self.attempted.clone(), error))?;
        let messages = (&mut self.messages).await.unwrap_or_default();
        let messages = String::from_utf8_lossy(&messages);
        if !status.success() {
            let said = last_lines(&messages);
            let why = match said.is_empty() {
                true => format!("pg_dump ended with {status} and said nothing"),
                false => format!("pg_dump ended with {status}: {said}"),
            };
            let failure = Failure::new(FailureKind::Source, self.attempted.clone(), why);
            let failure = match status.code().is_none() || is_lost_connection(&messages) {
                true => failure.passing(),
                false => failure,
            };
            return Err(with_advice(failure, &messages));
        }
        if !self
            .tail
            .windows(END_MARK.len())
            .any(|window| window == END_MARK)
        {
            let why = "pg_dump ended with success, but its output is not complete: the end mark \
                       is missing";
            return Err(
                Failure::new(FailureKind::Source, self.attempted.clone(), why)
                    .help("run again; look into the server's log if it happens again"),
            );
        }
        for line in messages.lines().filter(|line| !line.trim().is_empty()) {
            run.tell(match line.contains("warning:") {
                true => Event::Warning(line.to_owned()),
                false => Event::Note(line.to_owned()),
            });
        }
        Ok(())
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!("pg_dump had ended before it was killed: {error}");
        }
    }

    fn keep_tail(&mut self, piece: &[u8]) {
        self.tail.extend_from_slice(
            piece
                .get(piece.len().saturating_sub(END_WITHIN)..)
                .unwrap_or(piece),
        );
        let surplus = self.tail.len().saturating_sub(END_WITHIN);
        self.tail.drain(..surplus);
    }
}

/// Reads to the end, so that the child never waits, and keeps the last part.
async fn read_messages(stderr: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stderr) = stderr else {
        return kept;
    };
    let mut piece = [0; 4096];
    while let Ok(read) = stderr.read(&mut piece).await
        && read > 0
    {
        kept.extend_from_slice(piece.get(..read).unwrap_or_default());
        let surplus = kept.len().saturating_sub(KEPT_MESSAGES);
        kept.drain(..surplus);
    }
    kept
}

/// Whether libpq says that the server went away. `LC_ALL=C` makes it say so in English.
fn is_lost_connection(messages: &str) -> bool {
    [
        "server closed the connection",
        "terminating connection",
        "connection to server",
        "could not receive data from server",
        "no connection to the server",
        "the database system is",
        // The session that exported the snapshot is gone.
        "invalid snapshot identifier",
        "snapshot \"",
    ]
    .iter()
    .any(|phrase| messages.contains(phrase))
}

fn last_lines(messages: &str) -> String {
    let lines: Vec<&str> = messages
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines
        .get(lines.len().saturating_sub(6)..)
        .unwrap_or(&lines)
        .join("; ")
}

fn with_advice(failure: Failure, messages: &str) -> Failure {
    if messages.contains("row-level security") {
        failure.help(
            "connect as a superuser, as a role with BYPASSRLS, or as the tables' owner: row-level \
             security would leave rows out",
        )
    } else if messages.contains("permission denied") {
        failure.help("connect as the database's owner or grant the role SELECT on everything in it")
    } else if messages.contains("lock timeout") || messages.contains("statement timeout") {
        failure.help(
            "a statement that changes a table is waiting for the end of this backup, or holds a \
             lock; let it finish, then run again",
        )
    } else if messages.contains("conflict with recovery") {
        failure
            .help("this is a standby: raise max_standby_streaming_delay there, or dump the primary")
    } else {
        failure.help("the server's log says more")
    }
}

//! `psql`, fed with a dump.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use arkstream_format::{Component, Member};
use arkstream_pipeline::{Event, Failure, FailureKind, Restoring, fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::scan::DumpScan;
use crate::connect::ConnectSpec;
use crate::tools::all_pg_dumps;

/// Bytes of `psql`'s messages that are kept, from their end.
const KEPT_MESSAGES: usize = 8 << 10;

/// The newest `psql`: it stands beside `pg_dump`.
pub(super) fn find(pg_path: Option<&Path>) -> Result<PathBuf, Failure> {
    let name = format!("psql{}", std::env::consts::EXE_SUFFIX);
    let mut tools = all_pg_dumps(pg_path);
    tools.sort_by_key(|tool| std::cmp::Reverse(tool.version_num));
    tools
        .iter()
        .map(|tool| tool.path.with_file_name(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Failure::new(
                FailureKind::Source,
                "find psql",
                "none is installed in pg_path, PATH or the usual folders",
            )
            .help(
                "install PostgreSQL's client programs (Debian and Ubuntu: postgresql-client), or name \
                 their folder with --pg-path",
            )
        })
}

/// Runs a dump and the SQL behind it in one transaction of `psql`. Returns what the dump had.
pub(super) async fn load(
    psql: &Path,
    spec: &ConnectSpec,
    restoring: &Restoring,
    member: &Member,
    behind: &str,
) -> Result<DumpScan, Failure> {
    let attempted = format!("load {} into {}", member.name, spec.database());
    let mut command = Command::new(psql);
    command.args([
        "-X",
        "-q",
        "-w",
        "-1",
        "-v",
        "ON_ERROR_STOP=1",
        "-o",
        "/dev/null",
        "-f",
        "-",
    ]);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(ConnectSpec::is_libpq_variable) {
            command.env_remove(name);
        }
    }
    let mut child = command
        .envs(spec.child_env())
        .env("LC_ALL", "C")
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::io(
                FailureKind::Source,
                format!("start {}", psql.display()),
                error,
            )
        })?;
    let stderr = child.stderr.take();
    let messages = tokio::spawn(async move {
        let mut kept = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut piece = [0; 4096];
            while let Ok(read) = stderr.read(&mut piece).await {
                if read == 0 {
                    break;
                }
                kept.extend(piece.iter().take(read));
                let excess = kept.len().saturating_sub(KEPT_MESSAGES);
                kept.drain(..excess);
            }
        }
        String::from_utf8_lossy(&kept).trim().to_owned()
    });
    let mut scan = DumpScan::default();
    let mut fed: Result<(), Failure> = Ok(());
    if let Some(mut stdin) = child.stdin.take() {
        let mut out = Vec::new();
        for chunk in 0..member.chunks.len() {
            if let Err(failure) = restoring.cancel.check() {
                fed = Err(failure);
                break;
            }
            let raw = match super::read_chunk(restoring, member, chunk).await {
                Ok(raw) => raw,
                Err(failure) => {
                    fed = Err(failure);
                    break;
                }
            };
            restoring.tell(Event::Read {
                component: Component::Graph,
                bytes: raw.len() as u64,
            });
            scan.push(&raw, &mut out);
            if let Err(failure) = fault::check("graph.fed") {
                fed = Err(failure);
                break;
            }
            // A broken pipe means that psql has ended; its exit and its words say why.
            if stdin.write_all(&out).await.is_err() {
                break;
            }
            out.clear();
        }
        if fed.is_ok() {
            scan.finish(&mut out);
            out.push(b'\n');
            out.extend_from_slice(behind.as_bytes());
            let _ = stdin.write_all(&out).await;
            let _ = stdin.shutdown().await;
        }
    }
    if let Err(failure) = fed {
        let _ = child.kill().await;
        return Err(failure);
    }
    let status = child
        .wait()
        .await
        .map_err(|error| Failure::io(FailureKind::Source, attempted.clone(), error))?;
    let said = messages.await.unwrap_or_default();
    if status.success() {
        return Ok(scan);
    }
    let last = said.lines().rev().take(4).collect::<Vec<_>>();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(Failure::new(
        FailureKind::Source,
        attempted,
        format!("psql ended with {status}: {}", last.join("; ")),
    )
    .help("nothing live was touched; the server's log says more"))
}

//! `psql`, fed with a dump.
//!
//! `psql -1` would commit what it has read when its input ends, also when it ends because we were
//! killed. So the transaction is ours: BEGIN stands in front of the dump and COMMIT behind the last
//! statement, and an input that ends before is rolled back by the server. What stands behind the
//! dump is sent only when all of the dump was taken and it ended outside of a table's rows.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use arkstream_format::{Component, Member};
use arkstream_pipeline::{Event, Failure, FailureKind, Restoring, fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};

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
    server_version: u32,
    behind: &str,
) -> Result<DumpScan, Failure> {
    let attempted = format!("load {} into {}", member.name, spec.database());
    let mut command = Command::new(psql);
    command.args(["-X", "-q", "-w", "-v", "ON_ERROR_STOP=1", "-f", "-"]);
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
    let mut scan = DumpScan::for_server(server_version);
    let fed = match child.stdin.take() {
        Some(mut stdin) => {
            let fed = feed(&mut stdin, restoring, member, &mut scan, behind).await;
            if fed.is_err() {
                // Before its input ends, so that it does not take the end for that of the dump.
                let _ = child.kill().await;
            }
            let _ = stdin.shutdown().await;
            fed
        }
        None => Ok(()),
    };
    fed?;
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

/// Writes the dump and what stands behind it. A `psql` that has ended takes nothing any more: its
/// exit and its words say why.
async fn feed(
    stdin: &mut ChildStdin,
    restoring: &Restoring,
    member: &Member,
    scan: &mut DumpScan,
    behind: &str,
) -> Result<(), Failure> {
    let mut out = b"BEGIN;\n".to_vec();
    for chunk in 0..member.chunks.len() {
        restoring.cancel.check()?;
        let raw = super::read_chunk(restoring, member, chunk).await?;
        restoring.tell(Event::Read {
            component: Component::Graph,
            bytes: raw.len() as u64,
        });
        scan.push(&raw, &mut out);
        fault::check("graph.fed")?;
        if stdin.write_all(&out).await.is_err() {
            return Ok(());
        }
        out.clear();
    }
    if !scan.finish(&mut out) {
        return Err(Failure::new(
            FailureKind::Damaged,
            format!("load {}", member.name),
            "the dump ends in the middle of a table's rows",
        )
        .help("restore from another bundle; leave the graph out with --components"));
    }
    out.push(b'\n');
    out.extend_from_slice(behind.as_bytes());
    out.extend_from_slice(b"\n;COMMIT;\n");
    let _ = stdin.write_all(&out).await;
    Ok(())
}

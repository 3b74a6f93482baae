//! The postmaster as a child process that cannot outlive us.
//!
//! The kernel's parent-death signal is sent when the **thread** that started the child ends, not
//! the process. A server is therefore spawned from a thread of its own, which lives as long as the
//! value does; when the process is killed, so is the thread, and the server shuts down.

use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

type Request = (Command, Sender<io::Result<Child>>);

/// The thread that starts servers.
pub(super) struct Spawner {
    requests: Sender<Request>,
}

impl Spawner {
    pub(super) fn new() -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::Builder::new()
            .name("sample-postgres".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                        // Nobody is left to own the child: it ends here.
                        let _ = orphan.kill();
                        let _ = orphan.wait();
                    }
                }
            })?;
        Ok(Self { requests })
    }

    pub(super) fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, outcome) = mpsc::channel();
        let gone = || io::Error::other("the thread that starts servers has ended");
        self.requests.send((command, answer)).map_err(|_| gone())?;
        outcome.recv().map_err(|_| gone())?
    }
}

pub(super) fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("the child has no process id"))?;
    Ok(kill_process(pid, signal)?)
}

/// Kills a postmaster and every process of its server, and waits until none is left.
pub(super) fn kill_family(child: &mut Child) -> io::Result<()> {
    // Stopped first, so that it neither reaps nor starts processes while they are counted.
    signal(child, Signal::STOP)?;
    let family = children_of(child.id())?;
    signal(child, Signal::KILL)?;
    for pid in &family {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    child.wait()?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while family.iter().any(|pid| alive(*pid)) {
        if Instant::now() > deadline {
            return Err(io::Error::other(
                "killed server processes are still there after 30 s",
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// `(state, parent)` of a process, from `/proc/<pid>/stat`: `pid (name) state parent …`.
fn status(pid: u32) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn alive(pid: u32) -> bool {
    status(pid).is_some_and(|(state, _)| state != "Z")
}

fn children_of(parent: u32) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        if status(pid).is_some_and(|(_, p)| p == parent) {
            found.push(pid);
        }
    }
    Ok(found)
}

//! The system user the server runs as.
//!
//! PostgreSQL refuses to run as root. When we are root it runs as the system user `postgres`,
//! otherwise as ourselves. `setpriv` changes the user and asks the kernel to end the server when
//! the thread that started it is gone.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::SampleError;

const NAME: &str = "postgres";

/// Who runs the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerUser {
    /// `(uid, gid)` of the system user; `None` when the server runs as we do.
    ids: Option<(u32, u32)>,
}

impl ServerUser {
    pub(super) fn find() -> Result<Self, SampleError> {
        let answer = Command::new("setpriv")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if answer.is_err() {
            return Err(SampleError::MissingTool {
                tool: "setpriv",
                package: "util-linux",
            });
        }
        if !rustix::process::geteuid().is_root() {
            return Ok(Self { ids: None });
        }
        Ok(Self {
            ids: Some((id("-u")?, id("-g")?)),
        })
    }

    /// `program` as this user. With `tied`, it is told to shut down at once (`SIGQUIT`) when the
    /// calling thread ends, by whatever death.
    pub(super) fn command(self, program: &Path, tied: bool) -> Command {
        let mut command = Command::new("setpriv");
        if self.ids.is_some() {
            command
                .arg(format!("--reuid={NAME}"))
                .arg(format!("--regid={NAME}"));
            command.arg("--init-groups");
        }
        if tied {
            command.arg("--pdeathsig=QUIT");
        }
        if self.ids.is_none() && !tied {
            command = Command::new(program);
        } else {
            command.arg("--").arg(program);
        }
        super::clean_environment(&mut command);
        command
    }

    pub(super) fn own(self, path: &Path) -> Result<(), SampleError> {
        match self.ids {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(SampleError::io("change the owner of", path)),
            None => Ok(()),
        }
    }

    pub(super) fn may_enter(self, folder: &Path) -> Result<bool, SampleError> {
        let status = self
            .command(Path::new("test"), false)
            .arg("-x")
            .arg(folder)
            .current_dir("/")
            .status()
            .map_err(SampleError::io("look into", folder))?;
        Ok(status.success())
    }
}

fn id(which: &str) -> Result<u32, SampleError> {
    Command::new("id")
        .args([which, NAME])
        .output()
        .ok()
        .and_then(|o| String::from_utf8_lossy(&o.stdout).trim().parse().ok())
        .ok_or(SampleError::NoServerUser)
}

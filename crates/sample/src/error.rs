//! What can go wrong while the sample is set up.

use std::path::{Path, PathBuf};

/// An error of the sample stack: what was attempted, on what, why it failed, what helps.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// No PostgreSQL server program was found.
    #[error(
        "PostgreSQL{} is not installed (looked in {looked_in}); install it, for example with `apt-get install postgresql`",
        major.map(|m| format!(" {m}")).unwrap_or_default()
    )]
    NotInstalled {
        /// The major asked for, or `None` for any.
        major: Option<u32>,
        /// The places that were searched.
        looked_in: String,
    },
    /// A helper program is missing.
    #[error("the program `{tool}` is not installed; it is part of the package `{package}`")]
    MissingTool {
        /// The program.
        tool: &'static str,
        /// The Debian package that holds it.
        package: &'static str,
    },
    /// PostgreSQL refuses to run as root, and the system user for it does not exist.
    #[error(
        "PostgreSQL does not run as root and there is no system user `postgres` to run it as; create it (`useradd -r postgres`) or run as an ordinary user"
    )]
    NoServerUser,
    /// No folder is short enough for a socket and open to the server's user.
    #[error(
        "no temporary folder fits the server (tried {tried}): its path must stay below 80 bytes for the Unix socket, and the user who runs PostgreSQL must be able to enter it; set TMPDIR"
    )]
    NoFolder {
        /// The folders tried.
        tried: String,
    },
    /// A file operation failed.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// The verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program ended with an error.
    #[error("{program} failed ({status}): {stderr}")]
    Command {
        /// The program's name.
        program: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// The server did not become ready.
    #[error("PostgreSQL did not start: {reason}; the end of its log:\n{log}")]
    DidNotStart {
        /// What was seen.
        reason: String,
        /// The last lines of the server's log.
        log: String,
    },
    /// The operation needs a running server and it is stopped.
    #[error("the sample server is not running; call `start_again` first")]
    NotRunning,
    /// A certificate could not be made.
    #[error("could not make the sample server's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A statement failed.
    #[error("could not {action}: {}", sql_reason(source))]
    Sql {
        /// What the statement was for.
        action: String,
        /// The server's answer.
        source: tokio_postgres::Error,
    },
    /// The compiled-in model descriptions do not fit together.
    #[error("the sample's model data is wrong: {0}")]
    Data(String),
    /// The options ask for something that cannot be built.
    #[error("the sample cannot be built this way: {0}")]
    Options(String),
    /// The writer's task ended abnormally.
    #[error("the sample's writer ended abnormally: {0}")]
    Writer(String),
}

impl SampleError {
    /// For `map_err`: a file operation that failed.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// For `map_err`: a statement that failed.
    pub(crate) fn sql(action: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let action = action.into();
        move |source| Self::Sql { action, source }
    }
}

fn sql_reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut text = format!("{} (SQLSTATE {})", db.message(), db.code().code());
            for extra in [db.detail(), db.hint(), db.where_()].into_iter().flatten() {
                text.push_str("; ");
                text.push_str(extra);
            }
            text
        }
        None => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(error);
            while let Some(inner) = cause {
                text.push_str(": ");
                text.push_str(&inner.to_string());
                cause = inner.source();
            }
            text
        }
    }
}

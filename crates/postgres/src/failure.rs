//! From the server's errors to failures that say what to do.
//!
//! Only the server's primary message, its detail and its hint are shown, never the statement or
//! a value that was bound to it. Details that may hold what a row holds (classes 22, 23 and 44:
//! "Failing row contains …", "Key (login)=(…) already exists") are cut down to the names in them.
//! Passwords cannot occur: the protocol never sends one back.

use std::error::Error as _;

use arkstream_pipeline::{Failure, FailureKind};
use tokio_postgres::error::{DbError, SqlState};

const READ_ROLE_HELP: &str = "grant the role CONNECT on the database, USAGE on the schema and SELECT on \
     the table, or connect as the database's owner";
const ROW_SECURITY_HELP: &str = "row-level security would leave rows out silently, so it is refused: \
     connect as a superuser, as a role with BYPASSRLS, or as the table's owner where the table \
     has no FORCE ROW LEVEL SECURITY";

const TOO_LONG_HELP: &str = "PostgreSQL handles no string of 1 GiB: the values of one row together, or what is made of one \
     value, are longer than that; pg_dump fails on the same row. Split the row, or leave its model out";

/// What failed, seen through the error the server or the connection gave.
///
/// `attempted` completes "could not …" and names what it was done on.
#[must_use]
pub fn failure_of(attempted: &str, error: &tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) => of_server(attempted, db),
        None => of_connection(attempted, error),
    }
}

/// Whether the error is a lock that was not to be had: `NOWAIT`, or `lock_timeout` ran out.
pub(crate) fn is_lock_unavailable(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Whether the error says that a table or column that was planned is no longer there.
pub(crate) fn is_vanished(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::WRONG_OBJECT_TYPE,
        ]
        .contains(code)
    })
}

fn of_server(attempted: &str, error: &DbError) -> Failure {
    let (kind, help) = classify(error);
    let mut why = error.message().to_owned();
    let detail = match error.detail() {
        Some(detail) if holds_values(error.code().code()) => key_of(detail)
            .map(str::to_owned)
            .or_else(|| error.column().map(|column| format!("column {column}"))),
        detail => detail.map(str::to_owned),
    };
    if let Some(detail) = detail {
        why.push_str(&format!(" ({detail})"));
    }
    why.push_str(&format!(" [SQLSTATE {}]", error.code().code()));
    let mut failure = Failure::new(kind, attempted, why);
    let code = error.code().code();
    if code.starts_with("08") || ["57P01", "57P02", "57P03", "53300"].contains(&code) {
        failure = failure.passing();
    }
    match help.or_else(|| error.hint().map(str::to_owned)) {
        Some(help) => failure.help(help),
        None => failure,
    }
}

/// Whether the server puts values of rows into the details of such errors.
fn holds_values(code: &str) -> bool {
    ["22", "23", "44"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// `Key (a, b)` of `Key (a, b)=(x, y) already exists.`, in the server's language, with the values where
/// all of them are numbers: a foreign key's are ids, and say which row is missing.
fn key_of(detail: &str) -> Option<&str> {
    let end = detail.find(")=(")?;
    let values = detail.get(end + 3..)?.split(')').next()?;
    if values
        .chars()
        .all(|c| c.is_ascii_digit() || ", ".contains(c))
    {
        return detail.get(..end + 4 + values.len());
    }
    detail.get(..=end)
}

fn classify(error: &DbError) -> (FailureKind, Option<String>) {
    let code = error.code().code();
    let message = error.message();
    let help = match code {
        "28P01" => {
            "check the password: in the URL, in PGPASSWORD, in ~/.pgpass or in the password file"
        }
        _ if code.starts_with("28") && message.contains("pg_hba.conf") => {
            "the server's pg_hba.conf has no line that admits this user from this address to this \
             database with this encryption; add one and reload, or try another sslmode"
        }
        _ if code.starts_with("28") => {
            "check the user name and how pg_hba.conf wants it to authenticate"
        }
        "3D000" => "check the database's name: `psql -l` on the same server lists what there is",
        "42501" if is_row_security(message) => ROW_SECURITY_HELP,
        "42501" => READ_ROLE_HELP,
        "53100" => "the server's own disk is full; free space there, then run again",
        "53200" => {
            "the server ran out of memory or of space for locks; raise \
             max_locks_per_transaction if the detail says so, then run again"
        }
        "53300" => {
            "the server has no connection left: use fewer with --jobs, or raise \
             max_connections"
        }
        "57P01" | "57P02" | "57P05" => "the server ended the connection; run again when it is up",
        "57P03" => {
            "the server is starting, stopping or recovering; wait until it accepts \
             connections"
        }
        "40001" if message.contains("conflict with recovery") => {
            "this is a standby, and its replay of the primary's changes has to pass: raise \
             max_standby_streaming_delay there (or set it to -1 for the backup), switch on \
             hot_standby_feedback, or back up from the primary"
        }
        "40P01" => "another transaction locked the same tables in another order; run again",
        "55P03" => "another transaction holds a lock on the table; wait for it to end",
        "25006" => "the session is read-only; this is a defect of Arkstream, please report it",
        // A row of COPY is one string for the server.
        "54000" if message.contains("out of memory") || message.contains("string buffer") => {
            TOO_LONG_HELP
        }
        "XX000" if message.contains("invalid memory alloc request size") => TOO_LONG_HELP,
        "XX000" | "XX001" | "XX002" if !is_row_security(message) => {
            "the server reports an internal error or damaged data; look into its log and, for \
             damaged pages, run pg_amcheck before anything else"
        }
        _ if is_row_security(message) => ROW_SECURITY_HELP,
        _ => return (FailureKind::Source, None),
    };
    let kind = match code {
        "53100" => FailureKind::NoSpace,
        _ => FailureKind::Source,
    };
    (kind, Some(help.to_owned()))
}

fn is_row_security(message: &str) -> bool {
    // In the server's language; the routine of the error is not on the wire of a pooler, and the
    // English phrase is what a session gets that could not set lc_messages.
    message.contains("row-level security")
}

fn of_connection(attempted: &str, error: &tokio_postgres::Error) -> Failure {
    let mut why = error.to_string();
    let mut cause = error.source();
    let mut by_system = false;
    while let Some(inner) = cause {
        by_system |= inner.is::<std::io::Error>();
        let text = inner.to_string();
        if !why.contains(&text) {
            why.push_str(": ");
            why.push_str(&text);
        }
        cause = inner.source();
    }
    let mut failure = Failure::new(FailureKind::Source, attempted, &why);
    if error.is_closed() || by_system {
        failure = failure.passing();
    }
    if error.is_closed() || why.contains("connection closed") || why.contains("unexpected EOF") {
        failure.help("the connection was lost; see the server's log for why, then run again")
    } else {
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_key_only_the_names_of_its_columns_are_shown() {
        let detail = "Key (login, lower(name))=(secret@example.com, x) already exists.";
        assert_eq!(key_of(detail), Some("Key (login, lower(name))"));
        assert_eq!(
            key_of("Key (p_id)=(5) is not present in table \"p\"."),
            Some("Key (p_id)=(5)")
        );
        assert_eq!(key_of("Failing row contains (1, secret)."), None);
        for code in ["23502", "23514", "23505", "22P02", "44000"] {
            assert!(holds_values(code), "{code}");
        }
        assert!(!holds_values("40P01"));
    }
}

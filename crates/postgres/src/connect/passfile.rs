//! The password file of libpq: `host:port:database:user:password`, the first matching line wins.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::HostSpec;

/// Folders whose socket libpq may have been built for; a socket there matches `localhost`.
const DEFAULT_SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// What came of looking for a password.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// There it is.
    Found(SecretString),
    /// No file, or no line for this connection.
    NotFound,
    /// The file was not read, and why.
    Refused(String),
}

/// Where the file is when nobody names it: in the home folder, on Windows in that of applications.
pub(super) fn default_path(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(Path::new(&env("APPDATA")?).join("postgresql/pgpass.conf"));
    }
    Some(Path::new(&env("HOME")?).join(".pgpass"))
}

/// Looks for the password of one connection.
///
/// As libpq does, a file that others may read is not used: whoever could read it must not become
/// the way in by accident.
pub(super) fn lookup(path: &Path, host: &HostSpec, dbname: &str, user: &str) -> Lookup {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Lookup::NotFound,
        Err(error) => return refused(path, &error.to_string()),
    };
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => return refused(path, "it is not a plain file"),
        Ok(metadata) if is_open_to_others(&metadata) => {
            return refused(
                path,
                "its group or everybody may read it; run `chmod 0600` on it",
            );
        }
        Ok(_) => {}
        Err(error) => return refused(path, &error.to_string()),
    }
    let mut text = String::new();
    if let Err(error) = file.read_to_string(&mut text) {
        return refused(path, &error.to_string());
    }
    match find(&text, host, dbname, user) {
        Some(password) => Lookup::Found(SecretString::from(password)),
        None => Lookup::NotFound,
    }
}

pub(super) fn find(text: &str, host: &HostSpec, dbname: &str, user: &str) -> Option<String> {
    let port = host.port.to_string();
    let address = host.hostaddr.map(|address| address.to_string());
    let host = match host.host.as_deref().or(address.as_deref()) {
        None => "localhost",
        Some(folder) if DEFAULT_SOCKET_DIRS.contains(&folder) => "localhost",
        Some(host) => host,
    };
    let field = text
        .split('\n')
        // As libpq: however many there are.
        .map(|line| line.trim_end_matches('\r'))
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            [host, &port, dbname, user]
                .into_iter()
                .try_fold(line, |rest, value| take_field(rest, value))
        })?;
    unescape(field)
}

/// The password that the text of a password file has for a connection.
#[cfg(feature = "fuzzing")]
pub fn password_in(text: &str, host: &str, port: u16, dbname: &str, user: &str) -> Option<String> {
    let host = HostSpec {
        host: Some(host.to_owned()),
        hostaddr: None,
        port,
    };
    find(text, &host, dbname, user)
}

/// The rest of the line behind the first field, when the field is `*` or the value.
fn take_field<'a>(line: &'a str, value: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut wanted = value.chars();
    let mut rest = line.char_indices();
    while let Some((index, character)) = rest.next() {
        let character = match character {
            // As libpq: within a value that has colons (an IPv6 address) they need no backslash.
            ':' if wanted.as_str().is_empty() => return line.get(index + 1..),
            '\\' => rest.next()?.1,
            character => character,
        };
        if wanted.next() != Some(character) {
            return None;
        }
    }
    None
}

/// The password field: backslashes taken away, ended by a colon that is not escaped.
fn unescape(field: &str) -> Option<String> {
    let mut password = String::new();
    let mut rest = field.chars();
    while let Some(character) = rest.next() {
        match character {
            ':' => break,
            '\\' => password.push(rest.next().unwrap_or('\\')),
            character => password.push(character),
        }
    }
    (!password.is_empty()).then_some(password)
}

fn refused(path: &Path, why: &str) -> Lookup {
    tracing::warn!("the password file {} is not used: {why}", path.display());
    Lookup::Refused(format!(
        "the password file {} was not used: {why}",
        path.display()
    ))
}

#[cfg(unix)]
fn is_open_to_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::Metadata) -> bool {
    false
}

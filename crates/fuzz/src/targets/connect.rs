//! Connection strings and password files, held against libpq's rules.

use std::collections::BTreeMap;

use arkstream_postgres::{ConnectSpec, fuzzing::password_in};

use super::{MARK, marked, shown};

/// Any text is read or refused without being repeated; what is read shows no password and is read
/// again from [`ConnectSpec::without_password`]. With 1 or 2 as the first byte, the rest are parts
/// that are written as a URL or as `key='value'` pairs, and come out as they went in. With 3, the rest
/// is a password that somebody put into a URL as it is: wherever it ends up, it is not shown.
pub fn connection_string(data: &[u8]) {
    match data {
        [1, parts @ ..] => written(parts, url),
        [2, parts @ ..] => written(parts, pairs),
        [3, password @ ..] => raw(password),
        data => any(data),
    }
}

fn any(data: &[u8]) {
    let Some((text, _)) = marked(data) else {
        return;
    };
    match ConnectSpec::parse(&text) {
        Err(failure) => assert!(!shown(&failure).contains(MARK), "{}", shown(&failure)),
        Ok(spec) => check(&spec),
    }
}

fn raw(password: &[u8]) {
    // What follows a `?` are parameters, and a comma makes two hosts.
    match std::str::from_utf8(password) {
        Ok(password) if !password.contains(['?', ',']) => {
            let text = format!("postgresql://u:{password}{MARK}@h/d");
            match ConnectSpec::parse(&text) {
                Err(failure) => assert!(!shown(&failure).contains(MARK), "{}", shown(&failure)),
                Ok(spec) => {
                    let shown = format!("{spec:?} {}", spec.describe());
                    assert!(!shown.contains(MARK), "{shown}");
                }
            }
        }
        _ => {}
    }
}

fn check(spec: &ConnectSpec) {
    let public = spec.without_password();
    let env = env(spec);
    if env.get("PGPASSWORD").is_some_and(|p| p.contains(MARK)) {
        assert!(
            !env.iter()
                .any(|(k, v)| k != "PGPASSWORD" && v.contains(MARK))
        );
        let shown = format!("{spec:?} {} {public}", spec.describe());
        assert!(!shown.contains(MARK), "{shown}");
    }
    let again = ConnectSpec::parse(&public)
        .unwrap_or_else(|failure| panic!("{public:?}: {}", shown(&failure)));
    let without_password = |spec: &ConnectSpec| {
        let mut env = self::env(spec);
        env.remove("PGPASSWORD");
        env.remove("PGPASSFILE");
        env
    };
    assert_eq!(without_password(&again), without_password(spec), "{public}");
    assert_eq!(again.describe(), spec.describe());
}

fn env(spec: &ConnectSpec) -> BTreeMap<String, String> {
    spec.child_env().into_iter().collect()
}

/// Parts separated by NUL: user, password, host, database, application name.
fn written(parts: &[u8], write: fn(&[(&str, String)]) -> String) {
    let Ok(text) = std::str::from_utf8(parts) else {
        return;
    };
    let mut parts = text.split('\0');
    let given: Vec<(&str, String)> = ["user", "password", "host", "dbname", "application_name"]
        .into_iter()
        .filter_map(|name| Some((name, parts.next().filter(|p| !p.is_empty())?.to_owned())))
        .map(|(name, part)| match name {
            // A list of hosts is another thing.
            "host" => (
                name,
                part.replace(|c: char| c == ',' || c.is_whitespace(), "-"),
            ),
            "password" => (name, format!("{part}{MARK}")),
            name => (name, part),
        })
        .collect();
    let spec = ConnectSpec::parse(&write(&given)).unwrap();
    let env = env(&spec);
    for (name, value) in &given {
        let variable = match *name {
            "user" => "PGUSER",
            "password" => "PGPASSWORD",
            "host" => "PGHOST",
            "dbname" => "PGDATABASE",
            _ => "PGAPPNAME",
        };
        assert_eq!(env.get(variable), Some(value), "{name}");
    }
    check(&spec);
}

fn url(given: &[(&str, String)]) -> String {
    let mut text = "postgresql:///?".to_owned();
    for (name, value) in given {
        let value: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        text.push_str(&format!("{name}={value}&"));
    }
    text
}

fn pairs(given: &[(&str, String)]) -> String {
    given
        .iter()
        .map(|(name, value)| {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            format!("{name}='{value}' ")
        })
        .collect()
}

/// A password file gives what libpq's own reader gives. Host, database and user come first, each
/// ended by a NUL.
pub fn password_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(4, '\0');
    let (Some(host), Some(dbname), Some(user), Some(file)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    // libpq reads C strings and asks for no password without these.
    if file.contains('\0') || [host, dbname, user].contains(&"") {
        return;
    }
    let expected = libpq(file, [host, "5432", dbname, user]);
    assert_eq!(password_in(file, host, 5432, dbname, user), expected);
}

/// `passwordFromFile` of libpq's fe-connect.c.
fn libpq(file: &str, [host, port, dbname, user]: [&str; 4]) -> Option<String> {
    let host = match host {
        "/var/run/postgresql" | "/tmp" => "localhost",
        host => host,
    };
    for line in file.split('\n') {
        let line = line.trim_end_matches('\r');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let rest = [host, port, dbname, user]
            .into_iter()
            .try_fold(line.as_bytes(), |rest, token| field(rest, token.as_bytes()));
        let Some(mut rest) = rest else {
            continue;
        };
        let mut password = Vec::new();
        while let [byte, tail @ ..] = rest {
            match (byte, tail) {
                (b':', _) => break,
                (b'\\', [next, tail @ ..]) => {
                    password.push(*next);
                    rest = tail;
                }
                _ => {
                    password.push(*byte);
                    rest = tail;
                }
            }
        }
        return Some(String::from_utf8(password).unwrap()).filter(|password| !password.is_empty());
    }
    None
}

/// `pwdfMatchesString`.
fn field<'a>(mut buffer: &'a [u8], mut token: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = buffer.strip_prefix(b"*:") {
        return Some(rest);
    }
    loop {
        match (buffer, token) {
            ([], _) => return None,
            ([b':', rest @ ..], []) => return Some(rest),
            _ => {}
        }
        if let [b'\\', rest @ ..] = buffer {
            buffer = rest;
        }
        let ([one, rest @ ..], [other, tail @ ..]) = (buffer, token) else {
            return None;
        };
        if one != other {
            return None;
        }
        (buffer, token) = (rest, tail);
    }
}

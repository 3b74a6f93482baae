//! The two ways libpq writes connection parameters, and what the parameters mean.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use arkstream_pipeline::Failure;

use super::{HostSpec, SslMode, usage};

/// Used where no `connect_timeout` is given: libpq would wait for minutes.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_PORT: u16 = 5432;

/// Parameters that are understood, with the environment variable that gives a default.
const KNOWN: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
];

/// Parameters that change nothing of what is read or trusted here.
const HARMLESS: &[&str] = &[
    "fallback_application_name",
    "client_encoding",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
    "channel_binding",
];

/// Parameters of libpq that are not supported here: they would change what is trusted or reached.
const UNSUPPORTED: &[&str] = &[
    "gssdelegation",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "sslnegotiation",
    "sslpassword",
    "target_session_attrs",
];

/// Splits a connection string into parameters, in the order they stand.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let text = text.trim();
    let rest = text
        .strip_prefix("postgresql://")
        .or_else(|| text.strip_prefix("postgres://"));
    let is_scheme = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    match rest {
        Some(rest) => url(rest),
        None if text
            .split_once("://")
            .is_some_and(|(head, _)| is_scheme(head)) =>
        {
            Err(usage(
                "the URL's scheme is neither postgresql:// nor postgres://",
            ))
        }
        None => key_values(text),
    }
}

/// What was given, completed by the environment.
pub(super) struct Parameters(HashMap<String, String>);

impl Parameters {
    /// Later mentions of a parameter win, as in libpq. Empty values count as not given.
    pub(super) fn new(
        given: Vec<(String, String)>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let mut values = HashMap::new();
        for (number, (name, value)) in (1..).zip(given) {
            // JDBC's spelling, which libpq accepts in URLs.
            let (name, value) = match (name.as_str(), value.as_str()) {
                ("ssl", "true") => ("sslmode".to_owned(), "require".to_owned()),
                _ => (name, value),
            };
            if KNOWN.iter().any(|(known, _)| *known == name) {
                values.insert(name, value);
            } else if UNSUPPORTED.contains(&name.as_str()) {
                return Err(usage(format!("the parameter `{name}` is not supported")));
            } else if !HARMLESS.contains(&name.as_str()) {
                // Its name may be the rest of a password that holds a space or a question mark.
                return Err(usage(format!(
                    "the name of parameter {number} is not known"
                )));
            }
        }
        values.retain(|_, value| !value.is_empty());
        for (name, variable) in KNOWN {
            // A host in the string and an address from the environment would be two servers.
            if *name == "hostaddr" && values.contains_key("host") {
                continue;
            }
            if !values.contains_key(*name)
                && let Some(value) = env(variable).filter(|value| !value.is_empty())
            {
                values.insert((*name).to_owned(), value);
            }
        }
        Ok(Self(values))
    }

    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// Pairs hosts, addresses and ports: as many ports as hosts, or one for all.
pub(super) fn hosts(parameters: &Parameters) -> Result<Vec<HostSpec>, Failure> {
    let list = |name: &str| -> Option<Vec<Option<String>>> {
        let text = parameters.get(name)?;
        Some(
            text.split(',')
                .map(|item| Some(item.trim().to_owned()).filter(|item| !item.is_empty()))
                .collect(),
        )
    };
    let names = list("host");
    let addresses = list("hostaddr");
    let ports = list("port").unwrap_or_else(|| vec![None]);
    let count = names.as_ref().or(addresses.as_ref()).map_or(1, Vec::len);
    if let (Some(names), Some(addresses)) = (&names, &addresses)
        && names.len() != addresses.len()
    {
        let (hosts, addresses) = (names.len(), addresses.len());
        return Err(usage(format!(
            "there are {hosts} hosts and {addresses} host addresses"
        )));
    }
    if ports.len() != 1 && ports.len() != count {
        return Err(usage(format!(
            "there are {} ports for {count} hosts",
            ports.len()
        )));
    }
    let at = |list: &Option<Vec<Option<String>>>, index: usize| {
        list.as_ref()
            .and_then(|list| list.get(index))
            .cloned()
            .flatten()
    };
    (0..count)
        .map(|index| {
            let address = at(&addresses, index).map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| usage("a hostaddr is no numeric IP address"))
            });
            Ok(HostSpec {
                host: at(&names, index),
                hostaddr: address.transpose()?,
                port: port(
                    ports
                        .get(index)
                        .or_else(|| ports.first())
                        .cloned()
                        .flatten(),
                )?,
            })
        })
        .collect()
}

pub(super) fn connect_timeout(parameters: &Parameters) -> Result<Duration, Failure> {
    let Some(text) = parameters.get("connect_timeout") else {
        return Ok(DEFAULT_CONNECT_TIMEOUT);
    };
    let seconds: i64 = text
        .trim()
        .parse()
        .map_err(|_| usage("connect_timeout is no whole number of seconds"))?;
    // libpq: zero or less waits for ever, one is too short and becomes two.
    Ok(match u64::try_from(seconds) {
        Ok(0) | Err(_) => Duration::from_secs(u64::from(u32::MAX)),
        Ok(seconds) => Duration::from_secs(seconds.max(2)),
    })
}

pub(super) fn ssl_mode(parameters: &Parameters, root: Option<&str>) -> Result<SslMode, Failure> {
    let system = root == Some("system");
    let mode = match parameters.get("sslmode").as_deref() {
        None if system => SslMode::VerifyFull,
        None | Some("prefer" | "allow") => SslMode::Prefer,
        Some("disable") => SslMode::Disable,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        Some(_) => {
            return Err(usage(
                "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full",
            ));
        }
    };
    if system && mode != SslMode::VerifyFull {
        return Err(usage(
            "sslrootcert=system needs sslmode=verify-full: anybody can have a certificate that \
             the system trusts",
        ));
    }
    // As libpq: who names an authority wants it checked.
    Ok(match mode {
        SslMode::Require if root.is_some() => SslMode::VerifyCa,
        mode => mode,
    })
}

fn port(text: Option<String>) -> Result<u16, Failure> {
    match text {
        None => Ok(DEFAULT_PORT),
        Some(text) => text
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| usage("a port is no number between 1 and 65535")),
    }
}

/// `[user[:password]@][host[:port],…][/dbname][?name=value&…]`, all parts percent-encoded.
fn url(rest: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut parameters = Vec::new();
    let mut put = |name: &str, value: &str| -> Result<(), Failure> {
        parameters.push((name.to_owned(), decode(value)?));
        Ok(())
    };
    let (rest, query) = rest
        .split_once('?')
        .map_or((rest, None), |(a, b)| (a, Some(b)));
    // The last @ before the first slash: libpq stops at the first one, but a password with a raw
    // @ is common and has no other reading.
    let (authority, dbname) = rest
        .split_once('/')
        .map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let (userinfo, hosts) = authority
        .rsplit_once('@')
        .map_or((None, authority), |(a, b)| (Some(a), b));
    if let Some(userinfo) = userinfo {
        let (user, password) = userinfo
            .split_once(':')
            .map_or((userinfo, None), |(a, b)| (a, Some(b)));
        put("user", user)?;
        if let Some(password) = password {
            put("password", password)?;
        }
    }
    if !hosts.is_empty() {
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for host in hosts.split(',') {
            let (name, port) = split_port(host)?;
            names.push(name);
            ports.push(port);
        }
        put("host", &names.join(","))?;
        if ports.iter().any(|port| !port.is_empty()) {
            put("port", &ports.join(","))?;
        }
    }
    if let Some(dbname) = dbname {
        // It would be shown as the name of a database.
        if dbname.contains('@') {
            return Err(usage(
                "an `@` stands behind the first `/`; write %2F for a slash in the password, and %40 \
                 for an @ in the name of a database",
            ));
        }
        put("dbname", dbname)?;
    }
    for pair in query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter(|p| !p.is_empty())
    {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| usage("a parameter behind the `?` has no value"))?;
        put(&decode(name)?, value)?;
    }
    Ok(parameters)
}

fn split_port(host: &str) -> Result<(&str, &str), Failure> {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, after) = rest
            .split_once(']')
            .ok_or_else(|| usage("an IPv6 address lacks its `]`"))?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if after.is_empty() => Ok((address, "")),
            None => Err(usage("something other than a port follows an IPv6 address")),
        };
    }
    Ok(host.split_once(':').unwrap_or((host, "")))
}

fn decode(text: &str) -> Result<String, Failure> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) if (high, low) != (0, 0) => {
                // Two hexadecimal digits fit a byte.
                bytes.push((high * 16 + low) as u8);
            }
            _ => {
                return Err(usage(
                    "a `%` in the URL is not followed by two hexadecimal digits; write %25 for a \
                     percent sign",
                ));
            }
        }
    }
    String::from_utf8(bytes).map_err(|_| usage("the URL is not UTF-8 once decoded"))
}

/// `name = value` pairs; values may stand in single quotes, a backslash takes the next character
/// as it is.
fn key_values(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut parameters = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(parameters);
        }
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && !c.is_whitespace()) {
            name.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') {
            // The word itself may be a misplaced secret and is not repeated.
            return Err(usage("a word is not followed by `=`"));
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        if rest.next_if_eq(&'\'').is_some() {
            loop {
                match rest.next() {
                    Some('\'') => break,
                    Some('\\') => value.extend(rest.next()),
                    Some(c) => value.push(c),
                    None => return Err(usage("a quoted value does not end")),
                }
            }
        } else {
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                if c == '\\' {
                    value.extend(rest.next());
                } else {
                    value.push(c);
                }
            }
        }
        parameters.push((name, value));
    }
}

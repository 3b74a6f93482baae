use std::collections::BTreeMap;

use super::*;

fn spec_in(env: &[(&str, &str)], text: &str) -> Result<ConnectSpec, Failure> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let lookup = |name: &str| env.get(name).map(|value| (*value).to_owned());
    ConnectSpec::build(conninfo::parse(text)?, &lookup)
}

fn spec(text: &str) -> ConnectSpec {
    spec_in(&[("PGUSER", "me")], text).unwrap()
}

fn password(spec: &ConnectSpec) -> Option<String> {
    match spec.password_for(&spec.hosts[0]) {
        Lookup::Found(password) => Some(password.expose_secret().to_owned()),
        Lookup::NotFound | Lookup::Refused(_) => None,
    }
}

#[test]
fn urls_and_key_values_are_read_as_libpq_does() {
    for (text, described) in [
        ("postgresql://", "local:5432/me as me"),
        ("postgres://h", "h:5432/me as me"),
        ("postgresql://u@h:6432/db", "h:6432/db as u"),
        ("postgresql://u:p%40ss@h/db", "h:5432/db as u"),
        ("postgresql://u:p@ss@h/db", "h:5432/db as u"),
        (
            "postgresql:///db?host=/tmp&port=5433&user=x",
            "/tmp:5433/db as x",
        ),
        ("postgresql://%2Fvar%2Frun/db", "/var/run:5432/db as me"),
        ("postgresql://[::1]:5433/db", "[::1]:5433/db as me"),
        (
            "postgresql://[2001:db8::1]/db",
            "[2001:db8::1]:5432/db as me",
        ),
        ("postgresql://a:1,b:2/db", "a:1,b:2/db as me"),
        ("postgresql://a,b:2/db", "a:5432,b:2/db as me"),
        ("postgresql://h/my%20db%2Fx", "h:5432/my db/x as me"),
        ("host=h dbname=d user=u", "h:5432/d as u"),
        (
            "  host = h   dbname = 'my db'  user='o\\'brien' ",
            "h:5432/my db as o'brien",
        ),
        ("host=h user=a\\ b", "h:5432/a b as a b"),
        ("host=a,b port=1,2 dbname=d", "a:1,b:2/d as me"),
        ("host=a,b port=7 dbname=d", "a:7,b:7/d as me"),
        ("hostaddr=10.0.0.1 dbname=d", "10.0.0.1:5432/d as me"),
        ("host=h dbname=d dbname=e", "h:5432/e as me"),
        ("host='' dbname=d", "local:5432/d as me"),
        ("", "local:5432/me as me"),
    ] {
        assert_eq!(spec(text).describe(), described, "{text}");
    }
}

#[test]
fn passwords_come_from_the_string_then_the_variable_then_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let passfile = folder.path().join("pass");
    write_private(&passfile, "*:*:*:*:from-passfile\n");
    let passfile_text = passfile.display().to_string();
    let given = folder.path().join("given");
    write_private(&given, "from-given\nsecond line\n");

    let all = [
        ("PGUSER", "u"),
        ("PGPASSWORD", "from-env"),
        ("PGPASSFILE", passfile_text.as_str()),
    ];
    let in_string = spec_in(&all, "postgresql://u:from-url@h/d").unwrap();
    assert_eq!(password(&in_string).as_deref(), Some("from-url"));
    let in_env = spec_in(&all, "host=h")
        .unwrap()
        .with_password_file(&given)
        .unwrap();
    assert_eq!(password(&in_env).as_deref(), Some("from-env"));
    let files = [("PGUSER", "u"), ("PGPASSFILE", passfile_text.as_str())];
    let in_given = spec_in(&files, "host=h")
        .unwrap()
        .with_password_file(&given)
        .unwrap();
    assert_eq!(password(&in_given).as_deref(), Some("from-given"));
    let in_passfile = spec_in(&files, "host=h").unwrap();
    assert_eq!(password(&in_passfile).as_deref(), Some("from-passfile"));
}

#[test]
fn a_password_file_that_is_needed_and_missing_is_an_error() {
    let missing = Path::new("/nonexistent/secret");
    let failure = spec("host=h").with_password_file(missing).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Usage);
    assert!(failure.to_string().contains("/nonexistent/secret"));
    assert!(
        spec("host=h password=x")
            .with_password_file(missing)
            .is_ok()
    );
}

#[test]
fn the_environment_fills_what_the_string_leaves_open() {
    let env = [
        ("PGHOST", "eh"),
        ("PGPORT", "7777"),
        ("PGUSER", "eu"),
        ("PGDATABASE", "ed"),
        ("PGSSLMODE", "require"),
    ];
    assert_eq!(spec_in(&env, "").unwrap().describe(), "eh:7777/ed as eu");
    let partly = spec_in(&env, "postgresql://h/d?sslmode=disable").unwrap();
    assert_eq!(partly.describe(), "h:7777/d as eu");
    assert_eq!(partly.ssl_mode, SslMode::Disable);
}

#[test]
fn ssl_modes_are_what_libpq_makes_of_them() {
    for (text, mode) in [
        ("", SslMode::Prefer),
        ("sslmode=allow", SslMode::Prefer),
        ("sslmode=require", SslMode::Require),
        ("sslmode=require sslrootcert=/ca.pem", SslMode::VerifyCa),
        (
            "sslmode=verify-full sslrootcert=/ca.pem",
            SslMode::VerifyFull,
        ),
        ("sslrootcert=system", SslMode::VerifyFull),
        ("postgresql://h/d?ssl=true", SslMode::Require),
    ] {
        assert_eq!(spec(text).ssl_mode, mode, "{text}");
    }
    assert!(spec_in(&[], "user=u sslmode=require sslrootcert=system").is_err());
}

#[test]
fn bad_strings_are_refused_without_being_repeated() {
    for text in [
        "hunter2",
        "host=h password='hunter2",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2%zz@h/d",
        "postgresql://u:hunter2@[::1/d",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hunter2@h/d?sslmode=maybe",
        "postgresql://u:hunter2@h/d?connect_timeout=soon",
        "postgresql://u:hunter2@h/d?sslcrl=/x",
        "postgresql://u:hunter2@h/d?service=x",
        "password=one hunter2=x",
        "postgresql://u:1234?hunter2=x@h/d",
        "postgresql://u:1234/hunter2@h/d",
        "host=a,b,c port=1,2 password=hunter2",
        "host=a,b hostaddr=1.1.1.1 password=hunter2",
        "hostaddr=name password=hunter2",
        "postgresql://u:hunter2@h/d?host",
    ] {
        let failure = spec_in(&[("PGUSER", "me")], text).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage, "{text}");
        let shown = format!("{failure} {:?} {failure:?}", failure.advice());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn what_is_printed_holds_no_secret() {
    let spec = spec("postgresql://u:hunter2@h/d");
    let shown = format!(
        "{spec:?} {} {:?}",
        spec.describe(),
        spec.with_database("other")
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn children_get_the_secret_in_their_environment() {
    let spec = spec("postgresql://u:hunter2@a:1,b:2/d?sslmode=require&application_name=x");
    let env: BTreeMap<String, String> = spec.child_env().into_iter().collect();
    let get = |name: &str| env.get(name).map(String::as_str);
    assert_eq!(get("PGHOST"), Some("a,b"));
    assert_eq!(get("PGPORT"), Some("1,2"));
    assert_eq!(get("PGUSER"), Some("u"));
    assert_eq!(get("PGDATABASE"), Some("d"));
    assert_eq!(get("PGPASSWORD"), Some("hunter2"));
    assert_eq!(get("PGSSLMODE"), Some("require"));
    assert!(env.keys().all(|name| ConnectSpec::is_libpq_variable(name)));
}

#[test]
fn pgpass_lines_match_as_libpq_matches_them() {
    let host = |host: &str| HostSpec {
        host: (!host.is_empty()).then(|| host.to_owned()),
        hostaddr: None,
        port: 5432,
    };
    for (line, at, expected) in [
        ("h:5432:d:u:secret", "h", Some("secret")),
        ("*:*:*:*:secret", "h", Some("secret")),
        ("h:5433:d:u:secret", "h", None),
        ("other:*:*:*:secret", "h", None),
        ("h:5432:dd:u:secret", "h", None),
        ("h:5432:d:uu:secret", "h", None),
        ("h:5432:d:u:se\\:cr\\\\et", "h", Some("se:cr\\et")),
        ("h:5432:d:u:secret:rest", "h", Some("secret")),
        ("h:5432:d:u:", "h", None),
        ("h:5432:d:u", "h", None),
        ("#h:5432:d:u:secret", "h", None),
        ("h:5432:d:u:secret\r", "h", Some("secret")),
        ("h:5432:d:u:secret\r\r\n", "h", Some("secret")),
        ("h:5432:d:u:secret\\\r\r\n", "h", Some("secret\\")),
        ("\\:\\:1:5432:d:u:secret", "::1", Some("secret")),
        ("localhost:5432:d:u:secret", "", Some("secret")),
        (
            "localhost:5432:d:u:secret",
            "/var/run/postgresql",
            Some("secret"),
        ),
        ("/srv/sock:5432:d:u:secret", "/srv/sock", Some("secret")),
        (
            "x:1:d:u:no\nh:*:*:u:first\nh:*:*:u:second",
            "h",
            Some("first"),
        ),
        ("h*:5432:d:u:secret", "hh", None),
    ] {
        let found = passfile::find(line, &host(at), "d", "u");
        assert_eq!(found.as_deref(), expected, "{line:?} at {at:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_pgpass_that_others_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pass");
    write_private(&path, "*:*:*:*:hunter2\n");
    let env = [("PGUSER", "u"), ("PGPASSFILE", path.to_str().unwrap())];
    assert_eq!(
        password(&spec_in(&env, "host=h").unwrap()).as_deref(),
        Some("hunter2")
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let spec = spec_in(&env, "host=h").unwrap();
    match spec.password_for(&spec.hosts[0]) {
        Lookup::Refused(why) => {
            assert!(
                why.contains("chmod 0600") && !why.contains("hunter2"),
                "{why}"
            );
        }
        other => panic!("{other:?}"),
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

//! `odoo.conf`: where Odoo's database and files are, as its administrator wrote it down.
//!
//! The format is that of Python's `RawConfigParser`: sections in brackets, `key = value` or
//! `key: value`, comments on lines of their own that start with `#` or `;`, indented lines that
//! continue the value above. Odoo reads the section `[options]` and takes `False`, `None` and
//! nothing for "not set".
//!
//! The password is kept as a secret and never shown.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, os};
use arkstream_postgres::ConnectSpec;
use secrecy::{ExposeSecret, SecretString};

/// What an `odoo.conf` says about databases and files.
#[derive(Clone, Debug, Default)]
pub struct OdooConf {
    /// The file it was read from.
    pub path: PathBuf,
    /// `db_host`; not set means a Unix socket.
    pub db_host: Option<String>,
    /// `db_port`.
    pub db_port: Option<String>,
    /// `db_user`.
    pub db_user: Option<String>,
    /// `db_password`.
    pub db_password: Option<SecretString>,
    /// `db_name`: several where the value is a list.
    pub db_names: Vec<String>,
    /// `db_sslmode`.
    pub db_sslmode: Option<String>,
    /// `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `pg_path`: the folder of `pg_dump` and `psql`.
    pub pg_path: Option<PathBuf>,
}

impl OdooConf {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no configuration file, or has no section `[options]`.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let attempted = format!("read the Odoo configuration {}", path.display());
        let text = fs::read_to_string(path)
            .map_err(|error| Failure::io(FailureKind::Usage, &attempted, error))?;
        Self::parse(&text, path).map_err(|why| {
            Failure::new(FailureKind::Usage, attempted, why)
                .help("--odoo-conf takes the file that Odoo itself is started with (`odoo -c`)")
        })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, String> {
        let mut options = options_of(text)?;
        let mut take = |key: &str| options.remove(key).filter(|value| is_set(value));
        let folder = |value: String| expand_home(&value);
        Ok(Self {
            path: path.to_owned(),
            db_host: take("db_host"),
            db_port: take("db_port"),
            db_user: take("db_user"),
            db_password: take("db_password").map(SecretString::from),
            db_names: take("db_name")
                .map(|names| list(&names))
                .unwrap_or_default(),
            db_sslmode: take("db_sslmode"),
            data_dir: take("data_dir").map(folder),
            pg_path: take("pg_path").map(folder),
        })
    }

    /// The database, where exactly one is named.
    ///
    /// # Errors
    /// When none or several are named: `--odoo-db` must then say which.
    pub fn database(&self) -> Result<&str, Failure> {
        let why = match self.db_names.as_slice() {
            [name] => return Ok(name),
            [] => "it sets no db_name".to_owned(),
            names => format!("its db_name is ambiguous: {}", names.join(", ")),
        };
        let attempted = format!("find the database in {}", self.path.display());
        Err(Failure::new(FailureKind::Usage, attempted, why)
            .help("name the database with --odoo-db, such as --odoo-db 'dbname=NAME'"))
    }

    /// How to connect to the Odoo database. `database` overrides `db_name`.
    ///
    /// # Errors
    /// When no single database is named, or a value is no valid parameter.
    pub fn connect_spec(&self, database: Option<&str>) -> Result<ConnectSpec, Failure> {
        let database = match database {
            Some(name) => name,
            None => self.database()?,
        };
        let password = self.db_password.as_ref().map(ExposeSecret::expose_secret);
        let parameters = [
            ("host", self.db_host.as_deref()),
            ("port", self.db_port.as_deref()),
            ("user", self.db_user.as_deref()),
            ("password", password),
            ("dbname", Some(database)),
            ("sslmode", self.db_sslmode.as_deref()),
        ];
        ConnectSpec::from_parameters(
            parameters
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?))),
        )
    }
}

/// Finds the filestore of a database: `data_dir/filestore/<database>` where the configuration
/// names `data_dir`, else in the folders that Odoo and its packages use.
///
/// # Errors
/// When there is none or more than one; the message names what was tried.
pub fn find_filestore(conf: Option<&OdooConf>, database: &str) -> Result<PathBuf, Failure> {
    let env = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    choose_filestore(data_dirs(conf, &env), database)
}

fn choose_filestore(data_dirs: Vec<PathBuf>, database: &str) -> Result<PathBuf, Failure> {
    let attempted = format!("find the filestore of {database}");
    let refused = |why: String| {
        Failure::new(FailureKind::Usage, &attempted, why)
            .help("name it with --filestore DIR, or leave it out with --no-filestore")
    };
    let mut components = Path::new(database).components();
    if !matches!(
        (components.next(), components.next()),
        (Some(std::path::Component::Normal(_)), None)
    ) {
        return Err(refused("the database's name is no folder name".to_owned()));
    }
    let candidates: Vec<_> = data_dirs
        .into_iter()
        .map(|dir| dir.join("filestore").join(database))
        .collect();
    let mut found: Vec<(PathBuf, &PathBuf)> = Vec::new();
    for candidate in candidates.iter().filter(|candidate| candidate.is_dir()) {
        let real = os::canonical(candidate).unwrap_or_else(|_| candidate.clone());
        if found.iter().all(|(known, _)| *known != real) {
            found.push((real, candidate));
        }
    }
    match found.as_slice() {
        [(_, only)] => Ok((*only).clone()),
        [] => Err(refused(format!(
            "none of these is a folder: {}",
            paths(candidates.iter())
        ))),
        _ => {
            let several = paths(found.iter().map(|(_, candidate)| *candidate));
            Err(refused(format!("there is more than one: {several}")))
        }
    }
}

/// Where `data_dir` may be: as configured, else Odoo's own default and those of its packages.
fn data_dirs(conf: Option<&OdooConf>, env: &dyn Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    if let Some(dir) = conf.and_then(|conf| conf.data_dir.clone()) {
        return vec![dir];
    }
    let mut dirs = Vec::new();
    dirs.extend(env("XDG_DATA_HOME").map(|dir| dir.join("Odoo")));
    dirs.extend(env("HOME").map(|home| home.join(".local/share/Odoo")));
    for dir in [
        "/var/lib/odoo",
        "/var/lib/Odoo",
        "/var/lib/odoo/.local/share/Odoo",
        "/home/odoo/.local/share/Odoo",
    ] {
        dirs.push(PathBuf::from(dir));
    }
    dirs
}

fn paths<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> String {
    paths
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The keys of `[options]`, in lower case.
fn options_of(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut options = BTreeMap::<String, String>::new();
    let mut in_options = None;
    let mut seen = false;
    let mut last_key: Option<String> = None;
    for (index, raw) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = raw.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let indented = raw.starts_with(char::is_whitespace);
        if let (true, Some(key)) = (indented, &last_key) {
            if let (Some(true), Some(value)) = (in_options, options.get_mut(key)) {
                value.push('\n');
                value.push_str(line);
            }
            continue;
        }
        if let Some(section) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            in_options = Some(section == "options");
            seen |= section == "options";
            last_key = None;
            continue;
        }
        let number = index + 1;
        // The line itself is not shown: it may hold a password.
        let (key, value) = line
            .split_once(['=', ':'])
            .ok_or_else(|| format!("line {number} is neither a section nor `key = value`"))?;
        let key = key.trim().to_lowercase();
        last_key = Some(key.clone());
        match in_options {
            None => return Err(format!("line {number} stands before the first section")),
            Some(false) => {}
            Some(true) => {
                if options
                    .insert(key.clone(), value.trim().to_owned())
                    .is_some()
                {
                    return Err(format!("line {number} sets `{key}` for the second time"));
                }
            }
        }
    }
    if seen {
        Ok(options)
    } else {
        Err("it has no section [options]".to_owned())
    }
}

fn is_set(value: &str) -> bool {
    !matches!(value, "" | "False" | "false" | "None" | "none")
}

fn list(value: &str) -> Vec<String> {
    value
        .split([',', '\n'])
        .map(str::trim)
        .filter(|name| is_set(name))
        .map(str::to_owned)
        .collect()
}

fn expand_home(value: &str) -> PathBuf {
    match (value.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OdooConf, String> {
        OdooConf::parse(text, Path::new("/etc/odoo/odoo.conf"))
    }

    const REAL: &str = "\
; This is the password that allows database operations:
[options]
admin_passwd = admin
addons_path = /opt/odoo/addons,
    /opt/odoo/extra
db_host = db.example.org
db_port = 5433
db_user: odoo
DB_PASSWORD = pa=ss;word # not a comment
db_name = prod
data_dir = /srv/odoo
pg_path = None
db_sslmode = require
[queue_job]
db_name = other
";

    #[test]
    fn the_keys_of_a_real_file_are_read() {
        let conf = parse(REAL).unwrap();
        assert_eq!(conf.db_host.as_deref(), Some("db.example.org"));
        assert_eq!(conf.database().unwrap(), "prod");
        assert_eq!(
            conf.db_password.as_ref().unwrap().expose_secret(),
            "pa=ss;word # not a comment"
        );
        assert_eq!(conf.data_dir.as_deref(), Some(Path::new("/srv/odoo")));
        assert_eq!(conf.pg_path, None);
        let spec = conf.connect_spec(None).unwrap();
        assert_eq!(spec.describe(), "db.example.org:5433/prod as odoo");
    }

    #[test]
    fn the_password_is_never_shown() {
        let conf = parse(REAL).unwrap();
        assert!(!format!("{conf:?}").contains("pa=ss"));
        assert!(
            !parse("[options]\nsecretword")
                .unwrap_err()
                .contains("secretword")
        );
    }

    #[test]
    fn false_means_not_set() {
        let conf = parse("[options]\ndb_host = False\ndb_port=False\ndb_name = False\n").unwrap();
        assert_eq!((conf.db_host.clone(), conf.db_port.clone()), (None, None));
        let failure = conf.connect_spec(None).unwrap_err();
        assert!(failure.to_string().contains("no db_name"), "{failure}");
        assert!(failure.advice().unwrap().contains("--odoo-db"));
    }

    #[test]
    fn a_list_of_databases_is_ambiguous() {
        let conf = parse("[options]\ndb_name = one, two\n").unwrap();
        let failure = conf.database().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.to_string().contains("one, two"), "{failure}");
        assert_eq!(conf.connect_spec(Some("two")).unwrap().database(), "two");
    }

    #[test]
    fn what_is_no_configuration_is_refused_without_a_panic() {
        for text in [
            "",
            "db_name = x",
            "[options]\njunk",
            "[options]\na=1\nA=2",
            "\u{0}",
            "  x",
            "[",
        ] {
            let _ = parse(text);
        }
        assert!(parse("").unwrap_err().contains("[options]"));
        assert!(
            parse("db_name = x")
                .unwrap_err()
                .contains("before the first section")
        );
        assert!(
            parse("[options]\na=1\nA=2")
                .unwrap_err()
                .contains("second time")
        );
        let failure = OdooConf::read(Path::new("/does/not/exist.conf")).unwrap_err();
        assert!(failure.to_string().contains("/does/not/exist.conf"));
    }

    #[test]
    fn the_configured_data_dir_is_the_only_candidate() {
        let dir = tempfile::tempdir().unwrap();
        let conf = OdooConf {
            data_dir: Some(dir.path().to_owned()),
            ..OdooConf::default()
        };
        let failure = find_filestore(Some(&conf), "prod").unwrap_err();
        assert!(
            failure
                .to_string()
                .contains(&dir.path().join("filestore/prod").display().to_string())
        );
        fs::create_dir_all(dir.path().join("filestore/prod")).unwrap();
        assert_eq!(
            find_filestore(Some(&conf), "prod").unwrap(),
            dir.path().join("filestore/prod")
        );
    }

    #[test]
    fn candidates_are_counted_once_and_two_are_ambiguous() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two, link) = (
            dir.path().join("one"),
            dir.path().join("two"),
            dir.path().join("link"),
        );
        fs::create_dir_all(one.join("filestore/db")).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let chosen = choose_filestore(vec![one.clone(), link, two.clone()], "db").unwrap();
        assert_eq!(chosen, one.join("filestore/db"));
        fs::create_dir_all(two.join("filestore/db")).unwrap();
        let failure = choose_filestore(vec![one, two], "db").unwrap_err();
        assert!(failure.to_string().contains("more than one"), "{failure}");
    }

    #[test]
    fn a_database_name_cannot_lead_out_of_the_data_dir() {
        for name in ["../x", "/etc", "", ".", "a/b"] {
            assert!(
                choose_filestore(vec![PathBuf::from("/tmp")], name).is_err(),
                "{name}"
            );
        }
    }

    #[test]
    fn without_data_dir_the_usual_folders_are_tried() {
        let dirs = data_dirs(None, &|name| {
            (name == "HOME").then(|| PathBuf::from("/home/me"))
        });
        assert_eq!(
            dirs.first().unwrap(),
            Path::new("/home/me/.local/share/Odoo")
        );
        assert!(dirs.contains(&PathBuf::from("/var/lib/odoo")));
    }
}

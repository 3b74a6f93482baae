//! `odoo.conf` and `arkstream.toml`.

use std::fmt::Write as _;

use arkstream_odoo::conf::OdooConf;
use secrecy::ExposeSecret as _;

use super::{MARK, marked, shown};
use crate::{scratch, settings::Settings};

/// No message repeats what stands behind an `=` or `:`, nothing shows the password, and what was
/// read is read again from a file that says just that.
pub fn odoo_conf(data: &[u8]) {
    let Some((text, at)) = marked(data) else {
        return;
    };
    let conf = match scratch::file(text.as_bytes(), OdooConf::read) {
        Ok(conf) => conf,
        Err(failure) => {
            if in_a_value(&text, at, &['=', ':']) {
                assert!(!shown(&failure).contains(MARK), "{}", shown(&failure));
            }
            return;
        }
    };
    let password = conf.db_password.as_ref().map(|p| p.expose_secret());
    if password.is_some_and(|password| password.contains(MARK)) {
        assert_eq!(text.matches(MARK).count(), 1);
        assert!(!format!("{conf:?}").contains(MARK));
        match conf.connect_spec(Some("d")) {
            Ok(spec) => assert!(!format!("{spec:?} {}", spec.describe()).contains(MARK)),
            Err(failure) => assert!(!shown(&failure).contains(MARK)),
        }
    }
    let mut again = "[options]\n".to_owned();
    let names = conf.db_names.join(",");
    let path = |path: &Option<std::path::PathBuf>| {
        let path = path.as_ref()?;
        Some(path.to_str().unwrap().to_owned())
    };
    for (key, value) in [
        ("db_host", conf.db_host.clone()),
        ("db_port", conf.db_port.clone()),
        ("db_user", conf.db_user.clone()),
        ("db_password", password.map(str::to_owned)),
        ("db_name", Some(names)),
        ("db_sslmode", conf.db_sslmode.clone()),
        ("data_dir", path(&conf.data_dir)),
        ("pg_path", path(&conf.pg_path)),
    ] {
        let value = value.unwrap_or_else(|| "False".to_owned());
        writeln!(again, "{key} = {}", value.replace('\n', "\n    ")).unwrap();
    }
    // A line of a value that looks like a comment could not be written in any way.
    let told = |c: &OdooConf| {
        let password = c.db_password.as_ref().map(|p| p.expose_secret().to_owned());
        format!("{c:?} {password:?}")
    };
    let again = scratch::file(again.as_bytes(), OdooConf::read).unwrap();
    assert_eq!(told(&again), told(&conf));
}

/// No message repeats what stands behind an `=`: it may be a password.
pub fn settings_file(data: &[u8]) {
    let Some((text, at)) = marked(data) else {
        return;
    };
    let Err(failure) = scratch::file(text.as_bytes(), |path| Settings::read(Some(path))) else {
        return;
    };
    if in_a_value(&text, at, &['=']) {
        assert!(!shown(&failure).contains(MARK), "{}", shown(&failure));
    }
}

/// Whether an assignment stands before that place in its line.
fn in_a_value(text: &str, at: usize, signs: &[char]) -> bool {
    let line = text[..at].rsplit('\n').next().unwrap_or_default();
    line.contains(signs)
}

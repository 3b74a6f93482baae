//! Databases and folders to restore into.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::support::{Run, Stack, StackOptions, arkstream, run, scratch};

/// The stack whose bundle is restored: its rows do not change. Row-level security does not bind
/// the owner, so that the tests can look at every row as the owner too.
pub(crate) fn source() -> &'static Stack {
    static SOURCE: OnceLock<Stack> = OnceLock::new();
    SOURCE.get_or_init(|| Stack::new(StackOptions::default()))
}

/// A bundle of the source with every component.
pub(crate) fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let path = scratch("restore-bundle").join("bundle.zip");
        run(&mut source().backup_command(&path)).ok();
        path
    })
}

/// Somewhere to restore to, with a state folder of its own.
pub(crate) struct Place {
    pub(crate) database: String,
    pub(crate) filestore: PathBuf,
    pub(crate) graph: String,
    pub(crate) chroma: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Place {
    /// A copy of the source's Odoo database, and an empty rest.
    pub(crate) fn copy() -> Self {
        Self::of(source().fresh_database())
    }

    /// A copy with other users, partners and companies: every one of them has another id, and so
    /// has the database.
    pub(crate) fn shifted() -> Self {
        let place = Self::copy();
        place.sql(SHIFT);
        place
    }

    /// A bundle of the rows of this place.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.bundle_of(&[])
    }

    /// The same with more options. Other tests copy the graph meanwhile, so it is left alone.
    pub(crate) fn bundle_of(&self, options: &[&str]) -> PathBuf {
        let path = self.dir.join("bundle.zip");
        let mut backup = arkstream();
        backup.args(["backup", "--no-graph", "--no-chroma", "--progress", "none"]);
        backup.args(["--odoo-db", &source().url(&self.database)]);
        backup.arg("--filestore").arg(&source().filestore);
        run(backup.args(options).arg("--out").arg(&path)).ok();
        path
    }

    fn of(database: String) -> Self {
        let dir = scratch("restore");
        Self {
            filestore: dir.join("filestore"),
            graph: format!("graph_of_{database}"),
            chroma: dir.join("chroma_data"),
            state: dir.join("state"),
            database,
            dir,
        }
    }

    /// What a query on the Odoo database prints.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        source().server.psql(&self.database, sql).expect("psql")
    }

    /// The owner's URL: no superuser.
    pub(crate) fn url(&self) -> String {
        let (server, owner) = (&source().server, source().owner());
        server.tcp_url(&self.database, owner, Stack::OWNER_PASSWORD)
    }

    /// `arkstream restore` of rows, nothing else.
    pub(crate) fn rows(&self, bundle: &Path) -> Command {
        let mut command = self.command(bundle);
        command.args(["--components", "models", "--odoo-db", &self.url()]);
        command
    }

    /// `arkstream restore` of everything.
    pub(crate) fn everything(&self, bundle: &Path) -> Command {
        let mut command = self.command(bundle);
        command.args(["--odoo-db", &self.url()]);
        command.arg("--filestore").arg(&self.filestore);
        command.args(["--graph-admin-db", &source().url(&self.graph)]);
        command.arg("--chroma").arg(&self.chroma);
        command
    }

    /// Forgets the only restore that is kept.
    pub(crate) fn forget(&self) {
        run(&mut self.after("forget")).ok();
    }

    pub(crate) fn command(&self, bundle: &Path) -> Command {
        let mut command = arkstream();
        command
            .arg("restore")
            .arg(bundle)
            .args(["--yes", "--progress", "none"]);
        command.arg("--state-dir").arg(&self.state);
        command.arg("--report").arg(self.dir.join("report.md"));
        command
    }

    /// `undo` or `forget` of the only restore that is kept.
    pub(crate) fn after(&self, word: &str) -> Command {
        let mut command = arkstream();
        command.args([word, &self.kept()]);
        command.arg("--state-dir").arg(&self.state);
        command.env("PGPASSWORD", Stack::OWNER_PASSWORD);
        command
    }

    /// The name of the only restore that is kept.
    #[track_caller]
    pub(crate) fn kept(&self) -> String {
        let list = self.restores();
        let list = list.as_array().expect("a list");
        assert_eq!(list.len(), 1, "{list:?}");
        list[0]["restore_id"].as_str().expect("a name").to_owned()
    }

    /// What `arkstream restores --json` says.
    #[track_caller]
    pub(crate) fn restores(&self) -> serde_json::Value {
        let mut command = arkstream();
        command
            .args(["restores", "--json", "--state-dir"])
            .arg(&self.state);
        run(&mut command).ok().json()
    }

    /// Every row of every table of the Odoo database, as text, and the state of every sequence.
    #[track_caller]
    pub(crate) fn every_row(&self) -> String {
        every_row(&self.database)
    }

    /// The same without sequences: an undo does not set them back.
    #[track_caller]
    pub(crate) fn every_row_of_tables(&self) -> String {
        let all = self.every_row();
        let rows = all.lines().filter(|line| !line.starts_with("sequence "));
        rows.collect::<Vec<_>>().join("\n")
    }
}

/// Every row of every table but our own, in the order of their text, and every sequence's state but
/// for those that tell workers of a change: a restore and its undo advance them.
#[track_caller]
pub(crate) fn every_row(database: &str) -> String {
    let server = &source().server;
    let tables = server
        .psql(
            database,
            "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^(arkstream|pg_toast)' ORDER BY 1",
        )
        .expect("psql");
    let sequences = server
        .psql(
            database,
            "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'S' \
             AND n.nspname !~ '^arkstream' AND c.relname !~ '^base_(registry|cache)_signaling' ORDER BY 1",
        )
        .expect("psql");
    assert!(sequences.lines().count() > 100, "{sequences}");
    let states = sequences.lines().map(|name| {
        format!(
            "SELECT 'sequence {}: ' || last_value || ' ' || is_called AS line FROM {name}",
            name.replace('\'', "''")
        )
    });
    let selects: Vec<String> = tables
        .lines()
        .map(|table| {
            format!(
                "SELECT '{0}: ' || t::text AS line FROM ONLY {1} t",
                table.replace('\'', "''"),
                table
            )
        })
        .chain(states)
        .collect();
    let sql = format!(
        "SET row_security = off; SELECT line FROM ({}) a ORDER BY line COLLATE \"C\"",
        selects.join(" UNION ALL ")
    );
    server.psql(database, &sql).expect("psql")
}

/// Runs a restore and gives its JSON.
#[track_caller]
pub(crate) fn json_of(command: &mut Command) -> serde_json::Value {
    let ended = run(command.arg("--json"));
    assert!(
        matches!(ended.code, Some(0 | 3)),
        "{:?}\n{}\n{}",
        ended.code,
        ended.stdout,
        ended.stderr
    );
    ended.json()
}

/// Runs a restore that must be complete, or complete but for references that were emptied.
#[track_caller]
pub(crate) fn done(command: &mut Command) -> Run {
    let ended = run(command);
    assert!(
        matches!(ended.code, Some(0 | 3)),
        "{:?}\n{}\n{}",
        ended.code,
        ended.stdout,
        ended.stderr
    );
    ended
}

/// Gives every user, partner and company an id 1000 higher, everywhere, and the database another
/// `database.uuid`.
const SHIFT: &str = r"
SET session_replication_role = replica;
DO $$ DECLARE k record; BEGIN
  FOR k IN SELECT c.conrelid::regclass AS tab, a.attname FROM pg_constraint c
           JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
           WHERE c.contype = 'f' AND c.confrelid IN ('res_users'::regclass, 'res_partner'::regclass, 'res_company'::regclass)
             AND c.conparentid = 0 LOOP
    EXECUTE format('UPDATE ONLY %s SET %I = %I + 1000', k.tab, k.attname, k.attname);
  END LOOP;
END $$;
UPDATE res_users SET id = id + 1000; UPDATE res_partner SET id = id + 1000; UPDATE res_company SET id = id + 1000;
UPDATE ir_model_data SET res_id = res_id + 1000 WHERE model IN ('res.users', 'res.partner', 'res.company');
UPDATE ir_config_parameter SET value = 'another-database' WHERE key = 'database.uuid';
";

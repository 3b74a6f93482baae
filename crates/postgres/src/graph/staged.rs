//! The checks before, the loading, and the notes about what was loaded.

use std::collections::BTreeMap;

use arkstream_format::{Component, age};
use arkstream_pipeline::{Checked, Failure, FailureKind, Restoring, fault};

use super::scan::Rows;
use super::{GraphTarget, checks, dump, psql, summary};
use crate::failure::failure_of;
use crate::server::server_info;
use crate::session::Session;
use crate::sql::{quote_ident, quote_literal};

/// AGE's catalogs, whose rows the fix-up rewrites: only their number is compared.
const REWRITTEN: &[&str] = &["ag_catalog.ag_graph (", "ag_catalog.ag_label ("];

impl GraphTarget {
    pub(super) async fn check_all(
        &self,
        restoring: &Restoring,
        checked: &mut Checked,
    ) -> Result<(), Failure> {
        if let Err(failure) = psql::find(self.options.pg_path.as_deref()) {
            checked.problem(failure);
        }
        let session = self.maintenance().await?;
        let client = session.client();
        let fail = |error: tokio_postgres::Error| failure_of("check the graph's server", &error);
        let row = client
            .query_one(
                "SELECT r.rolsuper, r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
                &[],
            )
            .await
            .map_err(fail)?;
        if !row.get::<_, bool>(0) {
            checked.problem(
                Failure::new(
                    FailureKind::Refused,
                    "restore the graph",
                    format!("the role {} is no superuser", row.get::<_, String>(1)),
                )
                .help(
                    "creating the AGE extension needs one: name a superuser's connection with \
                     --graph-admin-db",
                ),
            );
        }
        let graph = summary(restoring);
        let here = server_info(client).await?;
        let there = restoring
            .bundle
            .manifest()
            .generations
            .iter()
            .flat_map(|generation| &generation.snapshots)
            .rfind(|snapshot| snapshot.component == Component::Graph)
            .map(|snapshot| snapshot.server.clone());
        if let Some(there) = there
            && there.version_num / 10_000 > here.version_num / 10_000
        {
            checked.incompatible(
                "restore the graph",
                format!(
                    "the dump was taken from PostgreSQL {}, the target is PostgreSQL {}, which is older",
                    there.version, here.version
                ),
                "restore into a server of the same or a newer major version",
            );
        }
        if let Some(version) = &graph.age_version {
            let available = client
                .query_opt(
                    "SELECT default_version FROM pg_catalog.pg_available_extensions WHERE name = 'age'",
                    &[],
                )
                .await
                .map_err(fail)?;
            match available {
                None => checked.incompatible(
                    "restore the graph",
                    format!(
                        "the target server does not have the extension age (the bundle's is {version})"
                    ),
                    "install Apache AGE on the server, in the version of the bundle",
                ),
                Some(row) if row.get::<_, String>(0) != *version => checked.warn(format!(
                    "the extension age is {version} in the bundle and {} on the target server",
                    row.get::<_, String>(0)
                )),
                Some(_) => {}
            }
        }
        let roles: Vec<String> = roles_of(&graph.owner, &graph.settings_sql);
        let missing = client
            .query(
                "SELECT n FROM pg_catalog.unnest($1::pg_catalog.text[]) n \
                 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = n) ORDER BY 1",
                &[&roles],
            )
            .await
            .map_err(fail)?;
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|row| row.get(0)).collect();
            checked.problem(
                Failure::new(
                    FailureKind::Refused,
                    "reapply the graph's owners and grants",
                    format!("the target server has no role {}", names.join(", ")),
                )
                .help("create them there: CREATE ROLE … LOGIN"),
            );
        }
        let ours = restoring.continues.then_some(&self.staging);
        for name in [&self.staging, &self.kept] {
            if Some(name) != ours && self.exists(&session, name).await? {
                checked.problem(
                    Failure::new(
                        FailureKind::Refused,
                        "restore the graph",
                        format!("a database named {name} exists"),
                    )
                    .help("it was left by something else; drop or rename it"),
                );
            }
        }
        let connected = self.connected(&session).await?;
        if !connected.is_empty() && !self.options.terminate_connections {
            checked.problem(self.busy(&connected));
        }
        Ok(())
    }

    /// Creates the staging database and loads the dump into it, unless an earlier process has.
    pub(super) async fn load(&mut self, restoring: &Restoring) -> Result<(), Failure> {
        let psql = psql::find(self.options.pg_path.as_deref())?;
        let graph = summary(restoring);
        let session = self.settled().await?;
        if restoring.continues && self.is_loaded(&session, restoring).await? {
            restoring.keep(dump(restoring)?);
            return self.reapply(&graph.database, &graph.settings_sql).await;
        }
        // Part of a dump is nothing: it is loaded in one transaction.
        self.drop_database(&session, &self.staging).await?;
        let create = format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'",
            quote_ident(&self.staging)
        );
        // A database that is created for a process that was killed appears later: who cleans up
        // waits for this lock.
        self.lock().keep(&session).await?;
        session
            .client()
            .batch_execute(&create)
            .await
            .map_err(|error| failure_of("create the staging database of the graph", &error))?;
        self.lock().give_back(&session).await?;
        fault::check("graph.created")?;
        let fix_up = if graph.age_version.is_some() {
            age::FIX_UP
        } else {
            ""
        };
        // The notes' table commits with the dump: where it is, all of the dump is.
        let behind = format!("{fix_up}\n;{};\n", self.notes());
        let spec = self.admin.with_database(&self.staging);
        let version = server_info(session.client()).await?.version_num;
        let scan = psql::load(&psql, &spec, restoring, dump(restoring)?, version, &behind).await?;
        self.rows = Some(scan.tables);
        fault::check("graph.loaded")?;
        self.reapply(&graph.database, &graph.settings_sql).await
    }

    /// Whether the staging database holds what the dump has, row by row.
    async fn is_loaded(
        &mut self,
        maintenance: &Session,
        restoring: &Restoring,
    ) -> Result<bool, Failure> {
        if !self.exists(maintenance, &self.staging).await? {
            return Ok(false);
        }
        let session = self.connect(&self.staging).await?;
        let sql = format!(
            "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
            quote_literal(&format!("{}.restored", quote_ident(&self.undo_schema)))
        );
        let noted = session
            .client()
            .query_one(&sql, &[])
            .await
            .map_err(|error| failure_of("look into the staging database of the graph", &error))?;
        if !noted.get::<_, bool>(0) {
            return Ok(false);
        }
        for (table, expected) in self.dump_rows(restoring).await? {
            // It was live for a moment and somebody wrote to it, or it was changed by hand.
            match self.found(&session, &table, expected).await {
                Ok(found) if found == expected => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// SQL that creates the table of the notes.
    fn notes(&self) -> String {
        let schema = quote_ident(&self.undo_schema);
        format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}; \
             CREATE TABLE {schema}.restored (name pg_catalog.text PRIMARY KEY, rows pg_catalog.int8 NOT NULL, sum pg_catalog.text NOT NULL)"
        )
    }

    /// Owners, grants and settings. They name the database they were read from.
    async fn reapply(&self, source: &str, statements: &[String]) -> Result<(), Failure> {
        let session = self.connect(&self.staging).await?;
        let old = format!("DATABASE {}", quote_ident(source));
        let new = format!("DATABASE {}", quote_ident(&self.staging));
        for statement in statements.iter().filter(|s| !s.starts_with("--")) {
            let sql = statement.replace(&old, &new);
            session
                .client()
                .batch_execute(&sql)
                .await
                .map_err(|error| {
                    failure_of(
                        &format!("reapply the graph's owners and grants ({sql})"),
                        &error,
                    )
                })?;
        }
        Ok(())
    }

    /// The rows of a table, in the form that `expected` can be compared with.
    pub(super) async fn found(
        &self,
        session: &Session,
        table: &str,
        expected: Rows,
    ) -> Result<Rows, Failure> {
        let mut found = checks::rows_of(session.client(), table).await?;
        if REWRITTEN.iter().any(|name| table.starts_with(name)) {
            found.sum = expected.sum;
        }
        Ok(found)
    }

    /// Notes what was restored, for [`GraphTarget::changes`].
    pub(super) async fn note_rows(
        &self,
        session: &Session,
        rows: &BTreeMap<String, Rows>,
    ) -> Result<(), Failure> {
        let schema = quote_ident(&self.undo_schema);
        let mut sql = self.notes();
        for table in rows.keys() {
            // AGE's catalogs are noted as they are now, with the OIDs of this server.
            let now = checks::rows_of(session.client(), table).await?;
            sql.push_str(&format!(
                "; INSERT INTO {schema}.restored VALUES ({}, {}, '{:016x}')",
                quote_literal(table),
                now.count,
                now.sum
            ));
        }
        session
            .client()
            .batch_execute(&sql)
            .await
            .map_err(|error| failure_of("note what was restored of the graph", &error))
    }

    /// Tables whose rows are no longer those that were restored.
    pub(super) async fn changes(&self, session: &Session) -> Result<Vec<String>, Failure> {
        let sql = format!(
            "SELECT name, rows, sum FROM {}.restored ORDER BY 1",
            quote_ident(&self.undo_schema)
        );
        let noted = session
            .client()
            .query(&sql, &[])
            .await
            .map_err(|error| failure_of("read what was restored of the graph", &error))?;
        let mut lines = Vec::new();
        for row in noted {
            let table: String = row.get(0);
            let line = match checks::rows_of(session.client(), &table).await {
                Err(failure) => Some(format!("{table}: {}", failure.why())),
                Ok(now)
                    if now.count != row.get::<_, i64>(1).unsigned_abs()
                        || format!("{:016x}", now.sum) != row.get::<_, String>(2) =>
                {
                    Some(format!(
                        "{table}: {} rows were restored, {} are there now, not the same",
                        row.get::<_, i64>(1),
                        now.count
                    ))
                }
                Ok(_) => None,
            };
            lines.extend(line);
        }
        Ok(lines)
    }
}

/// The roles that owners and grants name.
fn roles_of(owner: &str, statements: &[String]) -> Vec<String> {
    let mut roles = vec![owner.to_owned()];
    for statement in statements.iter().filter(|s| !s.starts_with("--")) {
        let after = if statement.starts_with("GRANT ") {
            statement.rsplit_once(" TO ").map(|(_, role)| role)
        } else if statement.starts_with("ALTER ROLE ") {
            statement.strip_prefix("ALTER ROLE ")
        } else {
            statement.split_once(" OWNER TO ").map(|(_, role)| role)
        };
        roles.extend(after.and_then(first_name));
    }
    roles.retain(|role| !role.is_empty());
    roles.sort();
    roles.dedup();
    roles
}

/// The quoted name that a text begins with.
fn first_name(text: &str) -> Option<String> {
    let rest = text.strip_prefix('"')?;
    let mut name = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '"' {
            if chars.next_if_eq(&'"').is_none() {
                return Some(name);
            }
            name.push('"');
        } else {
            name.push(c);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_in_owners_grants_and_settings() {
        let statements = [
            r#"ALTER SCHEMA g OWNER TO "the ""owner""";"#,
            r#"GRANT SELECT ON TABLE g."A TO b" TO "reader";"#,
            r#"GRANT USAGE ON SCHEMA g TO PUBLIC;"#,
            r#"ALTER ROLE "app" IN DATABASE "g" SET "x" TO 'y';"#,
            r#"-- ALTER ROLE "nobody" …"#,
        ]
        .map(str::to_owned);
        assert_eq!(
            roles_of("boss", &statements),
            ["app", "boss", "reader", "the \"owner\""]
        );
    }
}

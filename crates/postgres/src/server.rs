//! Who the server is and where it stands in its history, as far as it may be asked.

use arkstream_format::ServerInfo;
use arkstream_pipeline::Failure;
use tokio_postgres::Client;

use crate::failure::failure_of;

const ATTEMPTED: &str = "ask the server for its version and identity";

/// What everybody may ask. `pg_is_in_recovery` decides which WAL position there is.
const PUBLIC: &str = "\
SELECT pg_catalog.current_setting('server_version'), \
       pg_catalog.current_setting('server_version_num'), \
       d.datname::pg_catalog.text, d.oid, \
       pg_catalog.pg_encoding_to_char(d.encoding)::pg_catalog.text, \
       d.datcollate::pg_catalog.text, \
       pg_catalog.to_char(pg_catalog.pg_postmaster_start_time() AT TIME ZONE 'UTC', \
                          'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// What needs EXECUTE that an administrator may have revoked, asked for one by one so that one
/// refusal costs one answer. The check comes first: an error would end the transaction.
const PRIVILEGED: [(&str, &str); 4] = [
    (
        "pg_catalog.pg_control_system()",
        "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()",
    ),
    (
        "pg_catalog.pg_control_checkpoint()",
        "SELECT timeline_id::pg_catalog.text FROM pg_catalog.pg_control_checkpoint()",
    ),
    (
        "pg_catalog.pg_current_wal_lsn()",
        "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
                THEN pg_catalog.pg_last_wal_replay_lsn() \
                ELSE pg_catalog.pg_current_wal_lsn() END::pg_catalog.text",
    ),
    (
        "pg_catalog.pg_current_snapshot()",
        "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text",
    ),
];

/// Identity and history of the server and the database the client is connected to. What the role
/// may not ask, or the server does not have, is `None`.
///
/// # Errors
/// When the server does not answer.
pub async fn server_info(client: &Client) -> Result<ServerInfo, Failure> {
    let fail = |error: tokio_postgres::Error| failure_of(ATTEMPTED, &error);
    let row = client.query_one(PUBLIC, &[]).await.map_err(fail)?;
    let mut answers = [const { None }; 4];
    for ((function, query), answer) in PRIVILEGED.iter().zip(&mut answers) {
        let allowed = client
            .query_one(
                "SELECT COALESCE(pg_catalog.has_function_privilege(\
                     pg_catalog.to_regprocedure($1), 'EXECUTE'), false)",
                &[function],
            )
            .await
            .map_err(fail)?;
        if allowed.get(0) {
            // Allowed is not yet implemented: some servers only have the function's name.
            *answer = client
                .query_one(*query, &[])
                .await
                .ok()
                .and_then(|row| row.get(0));
        }
    }
    let [system_identifier, timeline, wal_lsn, next_xid]: [Option<String>; 4] = answers;
    let version: String = row.get(0);
    Ok(ServerInfo {
        // `15.20 (Debian 15.20-1.pgdg12+1)` and `15.20` are the same server.
        version: version
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        version_num: row.get::<_, String>(1).parse().unwrap_or_default(),
        database: row.get(2),
        database_oid: row.get(3),
        system_identifier,
        timeline: timeline.and_then(|text| text.parse().ok()),
        postmaster_started_at: row.get(6),
        wal_lsn,
        next_xid,
        encoding: row.get(4),
        collation: row.get(5),
    })
}

/// Which database it is, whatever it is reached by.
#[must_use]
pub fn database_identity(info: &ServerInfo) -> String {
    format!(
        "{} (OID {}) of system {}",
        info.database,
        info.database_oid,
        info.system_identifier.as_deref().unwrap_or("unknown")
    )
}

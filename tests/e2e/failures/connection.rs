//! Servers that cannot be reached, do not let us in, or go away.

use std::{net::TcpListener, time::Duration};

use super::{
    FEW_MODELS, WRONG_PASSWORD, backup, fails, has_advice, is_not_published, keeps_secrets,
    new_out,
    running::{Running, SOON},
    set_mode,
};
use crate::support::{Stack, run, runtime, scratch};

/// A database whose backup takes long: its messages are 1,500 times 1 MiB, and little on disk.
pub(crate) fn slow_database() -> String {
    database_with(1500)
}

/// A copy of the Odoo database with so many messages of a mebibyte.
pub(crate) fn database_with(messages: u32) -> String {
    let stack = Stack::shared();
    let name = stack.fresh_database();
    let sql = format!(
        "INSERT INTO ai_message (conversation_id, role, content) \
         SELECT (SELECT min(id) FROM ai_conversation), 'user', repeat(md5(n::text), 32768) \
         FROM generate_series(1, {messages}) AS n"
    );
    stack.server.psql(&name, &sql).expect("long messages");
    name
}

/// What sessions of a run do in a database: `application_name|state|query`.
pub(crate) fn sessions(database: &str) -> Vec<String> {
    let sql = format!(
        "SELECT application_name, state, left(query, 60) FROM pg_stat_activity \
         WHERE datname = '{database}' AND backend_type = 'client backend'"
    );
    let rows = Stack::shared().server.psql("postgres", &sql).expect("psql");
    rows.lines().map(str::to_owned).collect()
}

/// A URL of the shared Odoo database over TCP, which asks for a password.
fn tcp(user: &str, password: &str) -> String {
    let stack = Stack::shared();
    stack.server.tcp_url(&stack.odoo, user, password)
}

fn tcp_without_password() -> String {
    let stack = Stack::shared();
    format!(
        "host=127.0.0.1 port={} user=odoo dbname={}",
        stack.server.port(),
        stack.odoo
    )
}

#[test]
fn a_wrong_password_is_refused_and_not_repeated() {
    let out = new_out();
    let url = tcp("postgres", WRONG_PASSWORD);
    let words = ["connect to 127.0.0.1", "password authentication failed"];
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        7,
        &words,
        "check the password",
    );
}

#[test]
fn a_wrong_password_of_the_graph_database_is_told_apart() {
    let (out, stack) = (new_out(), Stack::shared());
    let graph = stack
        .server
        .tcp_url(&stack.graph, "postgres", WRONG_PASSWORD);
    let mut command = backup(&stack.url(&stack.odoo), &out, &["--graph-db", &graph]);
    let words = [stack.graph.as_str(), "password authentication failed"];
    fails(&mut command, &out, 7, &words, "check the password");
}

#[test]
fn a_password_comes_from_the_environment_a_file_or_pgpass_and_its_lack_is_said() {
    let (out, stack) = (new_out(), Stack::shared());
    let dry = |extra: &[&str]| {
        let mut command = backup(&tcp_without_password(), &out, extra);
        command.arg("--dry-run");
        command
    };
    let none = ["asks for a password and none was found"];
    fails(&mut dry(&[]), &out, 7, &none, "PGPASSWORD");

    run(dry(&[]).env("PGPASSWORD", Stack::OWNER_PASSWORD)).ok();

    let folder = scratch("passwords");
    let file = folder.join("password");
    std::fs::write(&file, format!("{}\n", Stack::OWNER_PASSWORD)).unwrap();
    set_mode(&file, 0o600);
    run(&mut dry(&["--password-file", &file.display().to_string()])).ok();

    let pgpass = folder.join(".pgpass");
    let line = format!(
        "127.0.0.1:{}:*:odoo:{}\n",
        stack.server.port(),
        Stack::OWNER_PASSWORD
    );
    std::fs::write(&pgpass, line).unwrap();
    set_mode(&pgpass, 0o600);
    run(dry(&[]).env("HOME", &folder)).ok();

    // As libpq, a file that others can read is not used; unlike libpq, the message says so.
    set_mode(&pgpass, 0o644);
    fails(dry(&[]).env("HOME", &folder), &out, 7, &none, "0600");
}

#[test]
fn the_most_talkative_log_holds_no_password() {
    let (out, stack) = (new_out(), Stack::shared());
    let graph = stack
        .server
        .tcp_url(&stack.graph, "postgres", stack.server.password());
    let url = tcp("odoo", Stack::OWNER_PASSWORD);
    let mut command = backup(&url, &out, &["--graph-db", &graph]);
    command.args(FEW_MODELS).arg("-vv");
    let ended = run(command.env("ARKSTREAM_LOG", "trace")).ok();
    assert!(ended.stderr.contains(" planned "), "{}", ended.stderr);
    assert!(
        !ended.stderr.contains('\u{1b}'),
        "colours outside a terminal: {}",
        ended.stderr
    );
    keeps_secrets(&ended.stdout, &ended.stderr);
}

#[test]
fn a_port_that_nobody_listens_on() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let out = new_out();
    let url = format!("postgresql://odoo:{WRONG_PASSWORD}@127.0.0.1:{free}/odoo");
    let words = [&*format!("127.0.0.1:{free}/odoo"), "refused"];
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        7,
        &words,
        "check host and port",
    );
}

#[test]
fn a_host_that_does_not_exist() {
    let out = new_out();
    let url = format!("postgresql://odoo:{WRONG_PASSWORD}@no-such-host.invalid/odoo");
    let words = ["connect to no-such-host.invalid"];
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        7,
        &words,
        "check host and port",
    );
}

#[test]
fn a_server_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let out = new_out();
    let url = format!("postgresql://odoo:x@127.0.0.1:{port}/odoo?connect_timeout=2");
    let words = ["no answer within 2 s"];
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        7,
        &words,
        "connect_timeout",
    );
}

#[test]
fn a_socket_folder_without_a_server() {
    let (out, empty) = (new_out(), scratch("no-socket"));
    let url = format!("host={} user=odoo dbname=odoo", empty.display());
    let words = [&*empty.display().to_string()];
    fails(
        &mut backup(&url, &out, &[]),
        &out,
        7,
        &words,
        "check the folder and the port",
    );
}

#[test]
fn an_unknown_database_and_an_unknown_role() {
    let (out, stack) = (new_out(), Stack::shared());
    let mut command = backup(&stack.url("no_such_database"), &out, &[]);
    let words = ["\"no_such_database\" does not exist"];
    fails(&mut command, &out, 7, &words, "psql -l");

    let words = ["nobody_here"];
    fails(
        &mut backup(&tcp("nobody_here", "x"), &out, &[]),
        &out,
        7,
        &words,
        "check the",
    );
}

#[test]
fn a_database_that_is_no_odoo_is_said_to_be_none() {
    let (out, stack) = (new_out(), Stack::shared());
    let mut command = backup(&stack.url("postgres"), &out, &[]);
    let ended = run(&mut command);
    assert!(matches!(ended.code, Some(2 | 7)), "{ended:?}");
    assert!(ended.stderr.contains("ir_model"), "{}", ended.stderr);
    has_advice(&ended.stderr, "Odoo");
    is_not_published(&out);
}

#[test]
fn a_role_that_may_not_read_is_told_what_it_needs() {
    let (out, stack) = (new_out(), Stack::shared());
    let database = stack.fresh_database();
    let role = format!("reader_of_{database}");
    let create = format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{}'",
        Stack::OWNER_PASSWORD
    );
    stack.server.psql("postgres", &create).unwrap();
    let url = stack
        .server
        .tcp_url(&database, &role, Stack::OWNER_PASSWORD);
    let words = ["permission denied"];
    fails(&mut backup(&url, &out, &[]), &out, 7, &words, "SELECT on");
}

#[test]
fn row_level_security_never_leaves_rows_out_silently() {
    let (out, stack) = (new_out(), Stack::shared());
    let url = stack
        .server
        .tcp_url(&stack.odoo, stack.owner(), Stack::OWNER_PASSWORD);
    let mut command = backup(&url, &out, &["--profile", "all"]);
    fails(&mut command, &out, 7, &["row-level security"], "BYPASSRLS");
}

#[test]
fn a_connection_that_is_lost_in_the_middle_fails_the_run() {
    let (out, database) = (new_out(), slow_database());
    let stack = Stack::shared();
    let mut running = Running::start(&mut backup(&stack.url(&database), &out, &FEW_MODELS));
    terminate_a_copy(&mut running, &database);
    let ended = running.end(SOON);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(
        ended.stderr.contains("ai_message"),
        "what was being read? {}",
        ended.stderr
    );
    let server_said = ended.stderr.contains("terminating connection");
    assert!(
        server_said || ended.stderr.contains("connection closed"),
        "{}",
        ended.stderr
    );
    has_advice(&ended.stderr, "run again");
    is_not_published(&out);
    keeps_secrets(&ended.stdout, &ended.stderr);
    no_session_stays(&database);
}

/// Ends the server process of a worker that is reading a table.
fn terminate_a_copy(running: &mut Running, database: &str) {
    let terminate = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{database}' AND application_name = 'arkstream' \
         AND state = 'active' AND query LIKE 'COPY%ai_message%'"
    );
    let client = runtime()
        .block_on(Stack::shared().server.superuser_connect("postgres"))
        .expect("connects");
    running.until("a table is read", |_| {
        let ended = runtime().block_on(client.query_one(&terminate, &[]));
        ended.expect("asks").get::<_, i64>(0) > 0
    });
}

/// A second after the end of a run, the server knows nothing of it.
#[track_caller]
pub(super) fn no_session_stays(database: &str) {
    let mut left = Vec::new();
    for _ in 0..100 {
        left = sessions(database);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("sessions of the run are left: {left:?}");
}

#[test]
fn a_server_that_is_asked_for_tls_and_has_none() {
    let out = new_out();
    let url = format!("{}?sslmode=require", tcp("odoo", Stack::OWNER_PASSWORD));
    fails(&mut backup(&url, &out, &[]), &out, 7, &["TLS"], "ssl = on");
}

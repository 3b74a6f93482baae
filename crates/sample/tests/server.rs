//! The throwaway server: it starts, survives what tests do to it, and leaves nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arkstream_sample::{SampleError, Server, ServerOptions, StopMode};

fn start() -> Server {
    Server::start(ServerOptions::default()).expect("the server starts")
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

#[test]
fn a_dropped_server_leaves_neither_process_nor_folder() {
    let server = start();
    let pid = server.pid().expect("it runs");
    let folder = server.data_dir().parent().expect("a parent").to_path_buf();
    assert!(alive(pid) && folder.is_dir());
    assert_eq!(server.psql("postgres", "SELECT 1 + 1").expect("psql"), "2");
    drop(server);
    assert!(!alive(pid), "the postmaster is still there");
    assert!(!folder.exists(), "the folder is still there");
}

#[test]
fn a_crash_keeps_what_was_committed() {
    let server = start();
    server.create_database("Mixed \"Case\"").expect("created");
    server
        .psql("Mixed \"Case\"", "CREATE TABLE t AS SELECT 7 AS n")
        .expect("psql");
    server.kill_9().expect("killed");
    assert!(matches!(server.kill_9(), Err(SampleError::NotRunning)));
    server
        .psql("postgres", "SELECT 1")
        .expect_err("nobody listens");
    server.start_again().expect("recovers");
    assert_eq!(
        server
            .psql("Mixed \"Case\"", "SELECT n FROM t")
            .expect("psql"),
        "7"
    );
    for mode in [StopMode::Fast, StopMode::Immediate] {
        server.restart(mode).expect("restarts");
        assert_eq!(
            server
                .psql("Mixed \"Case\"", "SELECT n FROM t")
                .expect("psql"),
            "7"
        );
    }
}

#[tokio::test]
async fn the_password_counts_over_tcp_and_settings_are_taken() {
    let server = Server::start(ServerOptions {
        password: Some("p@ss w/ord".to_owned()),
        extra_settings: vec![("work_mem".to_owned(), "5MB".to_owned())],
        ..ServerOptions::default()
    })
    .expect("the server starts");
    let connect = async |password: &str| {
        let url = server.tcp_url("postgres", "postgres", password);
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await
    };
    assert!(connect("wrong").await.is_err());
    let (client, connection) = connect("p@ss w/ord").await.expect("the password fits");
    tokio::spawn(connection);
    let row = client.query_one("SHOW work_mem", &[]).await.expect("a row");
    assert_eq!(row.get::<_, String>(0), "5MB");
    let over_socket = server.superuser_connect("postgres").await.expect("trusted");
    over_socket.query_one("SELECT 1", &[]).await.expect("a row");
}

#[test]
fn tls_verifies_against_the_authority() {
    let server = Server::start(ServerOptions {
        tls: true,
        ..ServerOptions::default()
    })
    .expect("the server starts");
    let ca = server.ca_file().expect("TLS is on");
    let url = format!(
        "{}?sslmode=verify-full&sslrootcert={}",
        server.tcp_url("postgres", "postgres", server.password()),
        ca.display()
    );
    let output = Command::new(server.bin_dir().join("psql"))
        .args(["-X", "-A", "-t", "-d", &url])
        .args([
            "-c",
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        ])
        .output()
        .expect("psql runs");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "t",
        "{output:?}"
    );
}

#[test]
fn an_absent_major_names_the_package() {
    let error = Server::start(ServerOptions {
        major: Some(7),
        ..ServerOptions::default()
    })
    .expect_err("there is no such major");
    assert!(
        error.to_string().contains("apt-get install postgresql"),
        "{error}"
    );
}

/// Not a test of its own: the process that
/// [`a_server_does_not_outlive_a_killed_parent`] starts and kills.
#[test]
#[ignore = "started by another test"]
fn helper_holds_a_server() {
    let server = start();
    let folder = server.data_dir().parent().expect("a parent").to_path_buf();
    println!(
        "\nSERVER {} {}",
        server.pid().expect("it runs"),
        folder.display()
    );
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn a_server_does_not_outlive_a_killed_parent() {
    use std::io::{BufRead, BufReader};
    let mut parent = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "helper_holds_a_server",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let stdout = BufReader::new(parent.stdout.take().expect("piped"));
    let line = stdout
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("SERVER "))
        .expect("the helper reports its server");
    let mut words = line.split(' ').skip(1);
    let pid: u32 = words.next().expect("a pid").parse().expect("a number");
    let folder = Path::new(words.next().expect("a folder")).to_path_buf();
    assert!(alive(pid));
    parent.kill().expect("killed");
    parent.wait().expect("reaped");
    let deadline = Instant::now() + Duration::from_secs(30);
    while alive(pid) {
        assert!(Instant::now() < deadline, "the server outlives its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The killed process could not clean up; the next server does.
    let next = start();
    assert!(!folder.exists(), "an abandoned folder is swept");
    drop(next);
}

//! A real Apache AGE: one backend that can share neither a connection nor a snapshot.
//!
//! Needs what `scripts/setup.sh test` installs; without it the test says so and does nothing.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use arkstream_format::Component;
use arkstream_pipeline::Source;
use arkstream_postgres::{ConnectSpec, DumpOptions, DumpSnapshot, DumpSource};

use super::support::setting;

const NAME: &str = "databases/postgres_graph_dump.sql";

struct Age {
    child: Child,
    port: u16,
}

impl Age {
    fn start(node: &str, folder: &str) -> Self {
        let mut child = Command::new(node)
            .arg(PathBuf::from(folder).join("server.mjs"))
            .args(["--port", "0", "--documents", "20"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("\"port\":").unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Self {
            child,
            port: digits.parse().unwrap(),
        }
    }
}

impl Drop for Age {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_one_backend_is_dumped_under_pg_dumps_own_snapshot() {
    let get = |name| std::env::var(name).ok();
    let (Some(node), Some(folder), Some(pg_dump)) = (
        get("ARKSTREAM_TEST_NODE"),
        get("ARKSTREAM_TEST_AGE_DIR"),
        get("ARKSTREAM_TEST_PG_DUMP18"),
    ) else {
        eprintln!("not run: `scripts/setup.sh test` installs Apache AGE and pg_dump 18");
        return;
    };
    let age = Age::start(&node, &folder);
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", age.port);
    let spec = ConnectSpec::parse(&url).unwrap();
    let options = DumpOptions {
        pg_path: Some(PathBuf::from(pg_dump)),
        snapshot: DumpSnapshot::Own,
        lock_timeout: Duration::from_secs(20),
    };
    let setting = setting(1);
    let mut source = DumpSource::new(Component::Graph, NAME, spec, options);
    source.plan().await.unwrap();
    source.lock(&setting.run).await.unwrap();
    let entry = source.snapshot(&setting.run).await.unwrap().unwrap();
    assert_eq!(
        (entry.snapshot.as_str(), entry.server.version_num / 10_000),
        ("", 18)
    );
    let graph = source.stream(&setting.run).await.unwrap().graph.unwrap();
    assert!(graph.age_version.is_some());
    assert_eq!(graph.graphs, ["sam_ai_knowledge"]);
    let members = setting.sink.contents();
    let text = String::from_utf8_lossy(&members[NAME].0);
    assert!(text.contains("COPY sam_ai_knowledge"));
    assert!(text.contains("-- PostgreSQL database dump complete"));
    // The random word of recent releases would make every dump differ.
    assert!(text.contains("\\restrict arkstreamdump"));
}

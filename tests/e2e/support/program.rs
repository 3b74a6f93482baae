//! Running programs: with a clean environment, with a time limit, with their output at hand.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::scratch;

/// Long enough for everything that ends at all.
const LIMIT: Duration = Duration::from_secs(300);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    line: String,
}

impl Run {
    /// Fails the test with the program's output unless it exited with `code`.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "exit {:?} instead of {code}: {}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.line,
            tail(&self.stdout),
            tail(&self.stderr)
        );
        self
    }

    /// Fails the test unless the program exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error} in {:?}", self.line, tail(&self.stdout)))
    }

    /// Fails the test unless standard error holds every one of these.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{:?} is not in the message of {}:\n{}",
                word,
                self.line,
                tail(&self.stderr)
            );
        }
        self
    }
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(6000);
    text.chars().skip(skipped).collect()
}

/// The binary under test. Nothing of the caller's environment reaches it that could change what
/// it does: no `PG…`, no `ARKSTREAM_…`, no `~/.pgpass`, no `./arkstream.toml`.
pub(crate) fn arkstream() -> Command {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    let home = HOME.get_or_init(|| scratch("home"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_arkstream"));
    clean(&mut command);
    command.env("HOME", home).current_dir(home);
    command
}

/// Takes away what the caller's environment would change.
fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG") || text.starts_with("ARKSTREAM_") || text == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
}

/// Runs to the end; fails the test, with the program's output, when that takes five minutes.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, LIMIT);
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().expect("reads")).into_owned()
    };
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let run = Run {
        code: status.and_then(|status| status.code()),
        stdout: text(stdout),
        stderr: text(stderr),
        line,
    };
    assert!(
        status.is_some(),
        "not ended after {LIMIT:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        run.line,
        tail(&run.stdout),
        tail(&run.stderr)
    );
    run
}

fn collect(stream: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    let mut stream = stream.expect("piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe");
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A shell command line in `folder`; it must succeed.
#[track_caller]
pub(crate) fn sh(folder: &Path, line: &str) -> Run {
    let mut command = Command::new("sh");
    clean(&mut command);
    run(command.args(["-c", line]).current_dir(folder)).ok()
}

/// Python with the packages of `tests/support/requirements.txt`.
pub(crate) fn python() -> Command {
    let mut command = Command::new(setting("ARKSTREAM_TEST_PYTHON"));
    clean(&mut command);
    // No compiled files among the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What `make test` puts into the environment.
#[track_caller]
pub(crate) fn setting(name: &str) -> PathBuf {
    match env::var_os(name) {
        Some(value) => PathBuf::from(value),
        None => panic!(
            "{name} is not set: run the tests by `make test`, or `scripts/setup.sh test` once \
             and `source .test-env/env.sh` before `cargo test`"
        ),
    }
}

/// A file below `tests/support`.
pub(crate) fn support_file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/support")
        .join(name);
    path.canonicalize()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `many` when the tests are to take long (`make soak`), `few` otherwise.
pub(crate) fn soak<T>(few: T, many: T) -> T {
    match env::var_os("ARKSTREAM_SOAK") {
        Some(value) if value == "1" => many,
        _ => few,
    }
}

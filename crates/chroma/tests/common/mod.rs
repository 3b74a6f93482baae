//! Runs into a directory, and the project's Python kit for real Chroma directories.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

pub mod bundle;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arkstream_chroma::{ChromaOptions, ChromaSource, DirectoryFiles, verify};
use arkstream_conformance::MemorySink;
use arkstream_format::{Member, member_names};
use arkstream_pipeline::{Budget, Cancel, Failure, Run, Silent, Source, SourceReport};
use tempfile::TempDir;

// --- the kit -----------------------------------------------------------------------------------

/// The Python that has chromadb 1.5.
pub fn python() -> PathBuf {
    env::var_os("ARKSTREAM_TEST_PYTHON")
        .map(PathBuf::from)
        .expect(
            "ARKSTREAM_TEST_PYTHON must name a Python with chromadb: \
         run `scripts/setup.sh test`, then `source .test-env/env.sh` (`make test` does both)",
        )
}

/// The Python that has chromadb 0.5, if there is one.
pub fn python_05() -> Option<PathBuf> {
    env::var_os("ARKSTREAM_TEST_PYTHON_CHROMA05").map(PathBuf::from)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/support/chroma")
        .join(name)
}

pub fn run_python(python: &Path, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .args(arguments)
        .output()
        .expect("start Python");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{errors}");
    text
}

/// A directory made by the real Chroma, and its truth file.
pub struct Made {
    root: TempDir,
    pub truth: serde_json::Value,
}

impl Made {
    pub fn new(python: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (directory, truth) = (root.path().join("chroma"), root.path().join("truth.json"));
        run_python(
            python,
            &[
                script("make.py").to_str().unwrap(),
                directory.to_str().unwrap(),
                "--truth",
                truth.to_str().unwrap(),
            ],
        );
        let truth = serde_json::from_slice(&fs::read(&truth).unwrap()).unwrap();
        Self { root, truth }
    }

    pub fn directory(&self) -> PathBuf {
        self.root.path().join("chroma")
    }

    /// Has the real Chroma compare a copy with what was written.
    pub fn check(&self, python: &Path, copy: &Path) {
        let truth = self.root.path().join("truth.json");
        run_python(
            python,
            &[
                script("check.py").to_str().unwrap(),
                copy.to_str().unwrap(),
                "--truth",
                truth.to_str().unwrap(),
            ],
        );
    }

    /// The VECTOR segment of the collection of a shape that make.py describes.
    pub fn segment(&self, shape: &str) -> String {
        self.entry(shape)["vector_segment"].as_str().unwrap().into()
    }

    pub fn entry(&self, shape: &str) -> &serde_json::Value {
        let all = self.truth["collections"].as_array().unwrap();
        all.iter()
            .find(|entry| entry["shape"] == shape)
            .expect("a shape of make.py")
    }
}

/// Chroma writing all the time.
pub struct Writer {
    child: Child,
    /// Kept open, or its last words would be an error.
    output: BufReader<ChildStdout>,
    root: TempDir,
}

impl Writer {
    pub fn start(python: &Path, arguments: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut child = Command::new(python)
            .arg(script("writer.py"))
            .arg(root.path().join("chroma"))
            .arg("--log")
            .arg(root.path().join("log"))
            .arg("--stop-with-stdin")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start Python");
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.contains("ready"), "writer.py says {line:?}");
        Self {
            child,
            output,
            root,
        }
    }

    pub fn directory(&self) -> PathBuf {
        self.root.path().join("chroma")
    }

    /// Operations acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        let log = fs::read_to_string(self.root.path().join("log")).unwrap();
        log.lines().filter(|line| line.contains("\"ack\"")).count()
    }

    /// Lets it finish its operation.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        let mut words = String::new();
        self.output.read_line(&mut words).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// Has the real Chroma hold a copy against the log: everything acknowledged before `until`.
    pub fn check(&self, python: &Path, copy: &Path, until: u128) -> String {
        run_python(
            python,
            &[
                script("check.py").to_str().unwrap(),
                copy.to_str().unwrap(),
                "--log",
                self.root.path().join("log").to_str().unwrap(),
                "--until",
                &until.to_string(),
            ],
        )
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Already gone if the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos()
}

pub fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a directory, by path.
pub fn files_of(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap();
                files.insert(name.to_str().unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

// --- the sink ----------------------------------------------------------------------------------

/// Keeps members in memory, and writes them under a directory for Chroma to look at.
pub struct DirectorySink {
    root: TempDir,
    sink: MemorySink,
}

impl DirectorySink {
    pub fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            sink: MemorySink::default().with_pieces_up_to(1 << 20),
        }
    }

    /// Calls `hook` with a member's name before its first byte is taken.
    pub fn on_begin(self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let sink = self
            .sink
            .on_begin(move |name| tokio::task::block_in_place(|| hook(name)));
        Self { sink, ..self }
    }

    /// Calls `hook` with a member's name whenever a piece of it was taken.
    pub fn on_write(self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let sink = self
            .sink
            .on_write(move |name| tokio::task::block_in_place(|| hook(name)));
        Self { sink, ..self }
    }

    /// The copy: all members so far, written when it is asked for the first time.
    pub fn chroma(&self) -> PathBuf {
        let copy = self.root.path().join(member_names::CHROMA_DIR);
        if !copy.exists() {
            fs::create_dir_all(&copy).unwrap();
            for (name, (bytes, _)) in self.sink.contents() {
                let path = self.root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        copy
    }

    /// Members, relative to the Chroma directory.
    pub fn members(&self) -> BTreeSet<String> {
        let prefix = member_names::CHROMA_DIR;
        let names = self.sink.names("").into_iter();
        names
            .map(|name| name.strip_prefix(prefix).unwrap().to_owned())
            .collect()
    }

    pub fn spec(&self, relative: &str) -> Member {
        let name = format!("{}{relative}", member_names::CHROMA_DIR);
        self.sink.member(&name)
    }

    pub fn retracted(&self) -> Vec<String> {
        self.sink.retracted()
    }

    pub fn abandoned(&self) -> Vec<String> {
        self.sink.abandoned()
    }
}

/// A run into a sink. The copy lives as long as the sink.
pub fn run(sink: DirectorySink) -> (Run, Arc<DirectorySink>) {
    let sink = Arc::new(sink);
    let run = Run::new(
        Arc::new(sink.sink.clone()),
        Arc::new(Silent),
        Cancel::default(),
        Budget::new(8 << 20),
        1,
    );
    (run, sink)
}

/// A whole backup, in the order in which the archiver calls a source. Returns also the moment of
/// the lock: whatever was acknowledged before it must be in the copy.
pub async fn back_up(
    directory: &Path,
    options: ChromaOptions,
    run: &Run,
) -> Result<(SourceReport, u128), Failure> {
    let mut source = ChromaSource::new(directory.to_owned(), options);
    source.plan().await?;
    source.prepare(run).await?;
    source.lock(run).await?;
    let locked_at = now_ns();
    assert!(source.snapshot(run).await?.is_none());
    let report = source.stream(run).await?;
    source.release().await;
    Ok((report, locked_at))
}

/// Expects verification to find nothing.
pub fn assert_good(directory: &Path) {
    let problems = verify(&mut DirectoryFiles::new(directory));
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "{texts:#?}");
}

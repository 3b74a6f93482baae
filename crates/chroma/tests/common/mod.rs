//! A sink that writes into a directory, and the project's Python kit for real Chroma directories.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

pub mod bundle;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arkstream_chroma::{ChromaOptions, ChromaSource, DirectoryFiles, verify};
use arkstream_format::{Crc32, Digest, Member, member_names};
use arkstream_pipeline::{
    Budget, Cancel, Failure, MemberFacts, MemberSpec, MemberWriter, PendingReceipt, Receipt, Run,
    Silent, Sink, Source, SourceReport,
};
use async_trait::async_trait;
use bytes::Bytes;
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

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// Writes members under a directory. A second member of one name, or retracting what is not
/// there, is a failed test.
pub struct DirectorySink {
    root: TempDir,
    members: Mutex<BTreeSet<String>>,
    specs: Mutex<BTreeMap<String, MemberSpec>>,
    retracted: Mutex<Vec<String>>,
    abandoned: Mutex<Vec<String>>,
    attempts: AtomicU64,
    on_begin: Option<Hook>,
    on_write: Option<Hook>,
}

impl DirectorySink {
    pub fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            members: Mutex::default(),
            specs: Mutex::default(),
            retracted: Mutex::default(),
            abandoned: Mutex::default(),
            attempts: AtomicU64::new(0),
            on_begin: None,
            on_write: None,
        }
    }

    /// Calls `hook` with a member's name before its first byte is taken.
    pub fn on_begin(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_begin = Some(Box::new(hook));
        self
    }

    /// Calls `hook` with a member's name whenever a piece of it was taken.
    pub fn on_write(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_write = Some(Box::new(hook));
        self
    }

    /// The copy.
    pub fn chroma(&self) -> PathBuf {
        self.root.path().join(member_names::CHROMA_DIR)
    }

    /// Members, relative to the Chroma directory.
    pub fn members(&self) -> BTreeSet<String> {
        let members = self.members.lock().unwrap();
        let prefix = member_names::CHROMA_DIR;
        members
            .iter()
            .map(|name| name.strip_prefix(prefix).unwrap().to_owned())
            .collect()
    }

    pub fn spec(&self, relative: &str) -> MemberSpec {
        let name = format!("{}{relative}", member_names::CHROMA_DIR);
        self.specs.lock().unwrap().get(&name).unwrap().clone()
    }

    pub fn retracted(&self) -> Vec<String> {
        self.retracted.lock().unwrap().clone()
    }

    pub fn abandoned(&self) -> Vec<String> {
        self.abandoned.lock().unwrap().clone()
    }
}

struct DirectoryWriter {
    sink: Arc<DirectorySink>,
    spec: MemberSpec,
    file: fs::File,
    part: PathBuf,
    len: u64,
}

/// Writers refer to the sink as well.
struct SharedSink(Arc<DirectorySink>);

#[async_trait]
impl Sink for SharedSink {
    async fn put(
        &self,
        spec: MemberSpec,
        bytes: Bytes,
        facts: MemberFacts,
    ) -> Result<PendingReceipt, Failure> {
        let mut writer = self.begin(spec).await?;
        writer.write(bytes).await?;
        writer.finish(facts).await
    }

    async fn begin(&self, spec: MemberSpec) -> Result<Box<dyn MemberWriter>, Failure> {
        if let Some(hook) = &self.0.on_begin {
            tokio::task::block_in_place(|| hook(&spec.name));
        }
        let attempt = self.0.attempts.fetch_add(1, Ordering::Relaxed);
        let part = self.0.root.path().join(format!("part-{attempt}"));
        let file = fs::File::create(&part).unwrap();
        Ok(Box::new(DirectoryWriter {
            sink: Arc::clone(&self.0),
            spec,
            file,
            part,
            len: 0,
        }))
    }

    async fn retract(&self, name: &str, _reason: &str) -> Result<(), Failure> {
        assert!(
            self.0.members.lock().unwrap().remove(name),
            "{name} is not there to be retracted"
        );
        fs::remove_file(self.0.root.path().join(name)).unwrap();
        self.0.retracted.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    async fn sync(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl MemberWriter for DirectoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        assert!(bytes.len() <= 1 << 20, "pieces are at most 1 MiB");
        self.file.write_all(&bytes).unwrap();
        self.len += bytes.len() as u64;
        if let Some(hook) = &self.sink.on_write {
            tokio::task::block_in_place(|| hook(&self.spec.name));
        }
        Ok(())
    }

    async fn finish(self: Box<Self>, facts: MemberFacts) -> Result<PendingReceipt, Failure> {
        let name = self.spec.name.clone();
        let fresh = self.sink.members.lock().unwrap().insert(name.clone());
        assert!(fresh, "{name} stands twice in the bundle");
        let target = self.sink.root.path().join(&name);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::rename(&self.part, &target).unwrap();
        let member = Member {
            name: name.clone(),
            component: self.spec.component,
            compression: self.spec.compression,
            header_offset: 0,
            data_offset: 0,
            descriptor: true,
            raw_len: self.len,
            stored_len: self.len,
            crc32: Crc32::default(),
            digest: Digest::of(b""),
            modified_at: self.spec.modified_at,
            mode: self.spec.mode,
            rows: facts.rows,
            proof: facts.proof,
            copied: None,
            chunks: Vec::new(),
        };
        self.sink.specs.lock().unwrap().insert(name, self.spec);
        let (sender, pending) = PendingReceipt::new();
        sender.send(Receipt { member }).unwrap();
        Ok(pending)
    }

    async fn abandon(self: Box<Self>, _reason: &str) -> Result<(), Failure> {
        fs::remove_file(&self.part).unwrap();
        self.sink
            .abandoned
            .lock()
            .unwrap()
            .push(self.spec.name.clone());
        Ok(())
    }
}

/// A run into a sink. The copy lives as long as the sink.
pub fn run(sink: DirectorySink) -> (Run, Arc<DirectorySink>) {
    let sink = Arc::new(sink);
    let run = Run::new(
        Arc::new(SharedSink(Arc::clone(&sink))),
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

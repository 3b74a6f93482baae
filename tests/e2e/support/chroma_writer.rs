//! A ChromaDB directory that is written to.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::JoinHandle,
};

use super::{python, scratch, support_file};

/// `writer.py`, which several times a second makes ChromaDB rewrite its HNSW files.
pub(crate) struct ChromaWriter {
    child: Child,
    stop: Option<ChildStdin>,
    /// Open until the end: it says its last word there.
    _stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    log: PathBuf,
}

impl ChromaWriter {
    pub(crate) fn start(directory: &Path) -> Self {
        let log = scratch("chroma-log").join("log.jsonl");
        let mut command: Command = python();
        command
            .arg(support_file("chroma/writer.py"))
            .arg(directory)
            .arg("--log")
            .arg(&log);
        command.args([
            "--stop-with-stdin",
            "--sync-threshold",
            "60",
            "--max-records",
            "500",
        ]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("Python starts");
        let mut stderr = child.stderr.take().expect("piped");
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready).expect("a line");
        assert_eq!(ready.trim(), r#"{"ready": true}"#);
        let stop = child.stdin.take();
        Self {
            child,
            stop,
            _stdout: stdout,
            stderr: Some(stderr),
            log,
        }
    }

    /// Operations that ChromaDB has acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).expect("the log");
        log.lines()
            .filter(|line| line.contains("\"kind\": \"ack\""))
            .count()
    }

    /// What it wrote, and when.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Lets it end, and makes sure that no write failed.
    pub(crate) fn finish(mut self) -> PathBuf {
        drop(self.stop.take());
        let status = self.child.wait().expect("our child");
        let stderr = self.stderr.take().expect("once").join().expect("it reads");
        assert!(status.success(), "the writer failed: {stderr}");
        assert!(
            !stderr.contains("Error"),
            "the writer met an error: {stderr}"
        );
        let log = std::fs::read_to_string(&self.log).expect("the log");
        let count = |kind: &str| log.lines().filter(|line| line.contains(kind)).count();
        assert_eq!(
            count("\"kind\": \"begin\""),
            count("\"kind\": \"ack\""),
            "writes that failed"
        );
        assert_eq!(count("\"kind\": \"close\""), 1);
        self.log.clone()
    }
}

impl Drop for ChromaWriter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

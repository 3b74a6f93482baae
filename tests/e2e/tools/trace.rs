//! What a backup does to disks, as the kernel saw it.

use std::{collections::BTreeMap, process::Command};

use crate::support::{Stack, run, scratch};

/// Calls that create, name, or write.
const CALLS: &str = "trace=open,openat,creat,mkdir,mkdirat,mknod,mknodat,link,linkat,symlink,symlinkat,\
    rename,renameat,renameat2,write,writev,pwrite64,pwritev,pwritev2,copy_file_range,sendfile,splice,\
    ftruncate,fallocate,memfd_create";

/// A backup of everything under strace, one line a call, with paths of descriptors.
fn trace() -> (String, std::path::PathBuf) {
    let folder = scratch("trace");
    let out = folder.join("bundle.zip");
    let mut plain = Stack::shared().backup_command(&out);
    plain.args(["--odoo-dump", "--profile", "all"]);
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-qq",
        "-s",
        "0",
        "-e",
        CALLS,
        "-e",
        "signal=none",
    ]);
    command
        .arg("-o")
        .arg(folder.join("trace"))
        .arg(plain.get_program())
        .args(plain.get_args());
    command
        .env_clear()
        .env("ARKSTREAM_PROGRESS", "none")
        .current_dir(&folder);
    for name in ["PATH", "HOME"] {
        command.env(name, std::env::var_os(name).unwrap_or_default());
    }
    run(&mut command).ok();
    let text = std::fs::read_to_string(folder.join("trace")).expect("a trace");
    (joined(&text), out)
}

/// Calls that others interrupted stand in two lines; each becomes one.
fn joined(text: &str) -> String {
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = String::new();
    for line in text.lines() {
        let (pid, call) = line.split_once(' ').expect("a process id");
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix("<unfinished ...>") {
            open.insert(pid, start.to_owned());
        } else if let Some((_, end)) = call
            .split_once(" resumed>")
            .filter(|_| call.starts_with("<... "))
        {
            let start = open.remove(pid).unwrap_or_default();
            lines.push_str(&format!("{start}{end}\n"));
        } else {
            lines.push_str(&format!("{call}\n"));
        }
    }
    lines
}

/// What a successful call returned.
fn result(line: &str) -> Option<i64> {
    let (_, result) = line.rsplit_once(" = ")?;
    let digits = result
        .split(|c: char| !c.is_ascii_digit() && c != '-')
        .next()?;
    digits.parse().ok().filter(|value| *value >= 0)
}

/// The path in the first quotes.
fn quoted(line: &str) -> &str {
    line.split('"').nth(1).unwrap_or_default()
}

#[test]
fn nothing_but_the_bundle_and_its_companions_is_created_or_written() {
    let (trace, out) = trace();
    let name = out.to_str().expect("UTF-8");
    let allowed = [
        ".partial",
        ".journal.partial",
        ".journal",
        ".sha256",
        ".sha256.partial",
        ".report.html",
        ".report.html.partial",
    ]
    .map(|suffix| format!("{name}{suffix}"));
    let mut created = BTreeMap::new();
    let mut written: BTreeMap<String, u64> = BTreeMap::new();
    for line in trace.lines().filter(|line| result(line).is_some()) {
        let call = line.split('(').next().expect("a call");
        match call {
            "open" | "openat" | "creat" => {
                assert!(!line.contains("O_TMPFILE"), "{line}");
                if line.contains("O_CREAT") || call == "creat" {
                    created.insert(quoted(line).to_owned(), line.to_owned());
                }
            }
            "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
                let (_, rest) = line.split_once('<').expect("a path");
                let path = rest.split_once('>').expect("a path").0;
                let bytes = result(line).expect("checked").unsigned_abs();
                if !path.contains(":[")
                    && !path.starts_with("/dev/")
                    && !path.starts_with("anon_inode")
                {
                    *written.entry(path.to_owned()).or_default() += bytes;
                }
            }
            "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
                assert!(line.contains(name), "{line}");
            }
            // The file is cut to nothing once, when it is created.
            "ftruncate" => assert!(line.contains(name) && line.contains(", 0)"), "{line}"),
            _ => panic!("unexpected: {line}"),
        }
    }
    for (path, line) in &created {
        assert!(allowed.contains(path), "{path} was created: {line}");
        assert!(line.contains(", 0600"), "others may read it: {line}");
    }
    assert!(
        created.contains_key(&allowed[0]) && created.contains_key(&allowed[1]),
        "{created:?}"
    );
    for path in written.keys() {
        assert!(allowed.contains(path), "{path} was written to");
    }
    let size = std::fs::metadata(&out).expect("the bundle").len();
    let bytes = written[&allowed[0]];
    assert!(
        bytes >= size && bytes as f64 <= 1.05 * size as f64,
        "{bytes} written for {size}"
    );
    let left = crate::support::files_below(out.parent().expect("a folder"));
    assert_eq!(
        left,
        [
            "bundle.zip",
            "bundle.zip.report.html",
            "bundle.zip.sha256",
            "trace"
        ]
    );
}

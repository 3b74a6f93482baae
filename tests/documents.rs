//! The documentation against what it speaks of: the program's help, the files it links to, the book.
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Documents below `docs`, and those beside it, by their path from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join("docs")];
    let mut paths = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|end| end == "md") => paths.push(path),
                false => {}
            }
        }
    }
    for path in paths {
        let name = path.strip_prefix(root()).unwrap().to_owned();
        found.insert(name, fs::read_to_string(&path).unwrap());
    }
    found
}

/// The text without its code blocks.
fn prose(text: &str) -> String {
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a heading is called in a link, by GitHub and by mdBook.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        '-' | '_' => Some(letter),
        letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Targets of links: `](target)`.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text);
    let parts = prose.split("](").skip(1);
    parts
        .filter_map(|part| Some(part.split_once(')')?.0.to_owned()))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut seen = 0;
    for (path, text) in &documents {
        for link in links(text) {
            if link.starts_with("https://") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let found = root().join(&target);
            let found = found
                .canonicalize()
                .unwrap_or_else(|_| panic!("{}: {link} leads nowhere", path.display()));
            if !anchor.is_empty() {
                let text = fs::read_to_string(found).unwrap();
                assert!(
                    anchors(&text).contains(anchor),
                    "{}: {link} leads to no heading",
                    path.display()
                );
            }
        }
    }
    assert!(seen > 30, "only {seen} links were found");
}

#[test]
fn the_book_has_every_page_and_no_link_out_of_it() {
    let documents = documents();
    let summary = links(&documents[Path::new("docs/SUMMARY.md")]);
    let listed: BTreeSet<PathBuf> = summary
        .iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    let pages = documents
        .keys()
        .filter(|path| path.starts_with("docs") && !path.ends_with("SUMMARY.md"));
    assert_eq!(pages.cloned().collect::<BTreeSet<_>>(), listed);

    let out = tempfile::tempdir().unwrap();
    let mdbook = env::var_os("ARKSTREAM_TEST_MDBOOK")
        .expect("ARKSTREAM_TEST_MDBOOK must name mdbook: run `scripts/setup.sh test`, then `source .test-env/env.sh` (`make test` does both)");
    let built = Command::new(mdbook)
        .arg("build")
        .arg(root().join("docs"))
        .arg("--dest-dir")
        .arg(out.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(
        built.status.success() && !told.contains("WARN") && !told.contains("ERROR"),
        "{told}"
    );
    for page in listed {
        let page = page.strip_prefix("docs").unwrap().with_extension("html");
        let html = fs::read_to_string(out.path().join(&page))
            .unwrap_or_else(|_| panic!("{} is in the book", page.display()));
        for link in html
            .split("href=\"")
            .skip(1)
            .filter_map(|part| Some(part.split_once('"')?.0))
        {
            let (file, _) = link.split_once('#').unwrap_or((link, ""));
            if file.is_empty() || file.starts_with("https://") {
                continue;
            }
            let target = out.path().join(&page).parent().unwrap().join(file);
            let target = target
                .canonicalize()
                .unwrap_or_else(|_| panic!("{}: {link} is not in the book", page.display()));
            assert!(
                target.starts_with(out.path().canonicalize().unwrap()),
                "{}: {link} leads out of the book",
                page.display()
            );
        }
    }
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_arkstream"))
        .args(words)
        .arg("--help")
        .env_remove("COLUMNS")
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The names in the list of commands.
fn commands() -> Vec<String> {
    let help = help(&[]);
    let list = help
        .split_once("Commands:\n")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let names = list
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_reference_is_the_help() {
    let mut text = String::from(
        "# Commands\n\n\
         What `arkstream COMMAND --help` says. `arkstream man DIR` writes the same as manual pages.\n",
    );
    let names = commands();
    assert!(names.len() > 15, "{names:?}");
    let all = [Vec::new()]
        .into_iter()
        .chain(names.iter().map(|name| vec![name.as_str()]));
    for words in all {
        let title = [vec!["arkstream"], words.clone()].concat().join(" ");
        write!(
            text,
            "\n## {title}\n\n```text\n{}\n```\n",
            help(&words).trim_end()
        )
        .unwrap();
    }
    let path = root().join("docs/reference.md");
    if env::var_os("ARKSTREAM_REFERENCE").is_some_and(|word| word == "write") {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == text,
        "docs/reference.md is out of date: ARKSTREAM_REFERENCE=write cargo test -p arkstream-cli --test documents"
    );
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let written = Command::new(env!("CARGO_BIN_EXE_arkstream"))
        .arg("man")
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(written.success());
    for name in commands() {
        let path = folder.path().join(format!("arkstream-{name}.1"));
        let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name} has no page"));
        assert!(
            page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"),
            "{page}"
        );
    }
    let page = fs::read_to_string(folder.path().join("arkstream.1")).unwrap();
    assert!(page.contains("arkstream\\-backup(1)"), "{page}");
}

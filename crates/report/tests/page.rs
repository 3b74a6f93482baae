//! What a page says, and what it never does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod support;

use std::{env, fs, process::Command};

use serde_json::Value;

use support::{Parts, bare, complete, eventful, from, salvaged};

/// A name that wants out of wherever it is put, and what it becomes.
const HOSTILE: &str =
    "</style><script>alert(1)</script><img src=x onerror=alert(2)>\"'\u{202e}\u{0}&";
const HARMLESS: &str = "&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;\
&quot;'\\u{202e}\\u{0}&amp;";

/// Puts the hostile name wherever the type takes any text.
fn poisoned<T: serde::Serialize + for<'de> serde::Deserialize<'de>>(value: &T) -> T {
    fn strings(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::String(_) => found.push(path.to_owned()),
            Value::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    strings(item, &format!("{path}/{index}"), found);
                }
            }
            Value::Object(fields) => {
                for (name, item) in fields {
                    strings(item, &format!("{path}/{name}"), found);
                }
            }
            _ => {}
        }
    }
    let mut whole = serde_json::to_value(value).unwrap();
    let mut places = Vec::new();
    strings(&whole, "", &mut places);
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        let former = whole.pointer(&place).unwrap().clone();
        *whole.pointer_mut(&place).unwrap() = HOSTILE.into();
        if serde_json::from_value::<T>(whole.clone()).is_err() {
            *whole.pointer_mut(&place).unwrap() = former;
        }
    }
    from(whole)
}

fn hostile() -> Parts {
    let parts = salvaged();
    let mut run = parts.run.clone();
    run.resumed = Some(HOSTILE.into());
    run.warnings = vec![HOSTILE.into()];
    run.remade = [((arkstream_format::Component::Graph, HOSTILE.into()), 1)].into();
    let mut metadata = poisoned(parts.metadata.as_ref().unwrap());
    metadata
        .module_versions
        .insert(HOSTILE.into(), HOSTILE.into());
    Parts {
        file_name: HOSTILE.into(),
        sha256: Some(HOSTILE.into()),
        manifest: poisoned(&parts.manifest),
        metadata: Some(metadata),
        models: Some(poisoned(parts.models.as_ref().unwrap())),
        run,
    }
}

#[test]
fn no_name_gets_out_of_its_place() {
    let page = hostile().page();
    assert!(
        page.matches(HARMLESS).count() > 40,
        "{}",
        page.matches(HARMLESS).count()
    );
    for word in ["<script", "<img", "</style><s", "\u{202e}", "\u{0}"] {
        assert!(!page.contains(word), "{word:?}");
    }
    // Quotes within attributes, too: the title of a table is repeated in its label.
    assert_eq!(
        page.matches("onerror=").count(),
        page.matches("onerror=alert(2)&gt;").count()
    );
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    for parts in [complete(), eventful(), salvaged(), bare()] {
        let page = parts.page();
        for word in [
            "http://",
            "https://",
            " src=",
            "@import",
            "<script",
            "<link rel=\"style",
            " style=",
        ] {
            let fine = page.replace("xmlns='http://www.w3.org/2000/svg'", "");
            assert!(!fine.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'; style-src 'sha256-"));
        assert!(arkstream_report::is_report(page.as_bytes()));
    }
    assert!(!arkstream_report::is_report(
        b"<!DOCTYPE html><html><title>mine</title>"
    ));
}

#[test]
fn the_verdict_is_that_of_the_bundle() {
    let line = |parts: &Parts| {
        let page = parts.page();
        let (_, rest) = page.split_once("<h2 id=\"verdict-line\">").unwrap();
        rest.split_once("</h2>").unwrap().0.to_owned()
    };
    assert_eq!(
        line(&complete()),
        "Complete: the whole stack, nothing left out"
    );
    let mut without = complete();
    without
        .manifest
        .components
        .remove(&arkstream_format::Component::Chroma);
    assert!(
        line(&without).ends_with("which is without chroma"),
        "{}",
        line(&without)
    );
    assert_eq!(line(&eventful()), "Finished, but 2 things were left out");
    assert!(
        line(&salvaged()).contains("2 members are lost"),
        "{}",
        line(&salvaged())
    );
    let mut framing = salvaged();
    framing.manifest.salvage.as_mut().unwrap().lost.clear();
    framing.manifest.omissions.clear();
    assert!(line(&framing).contains("nothing but framing was lost"));
    assert!(line(&bare()).contains("no description of its own"));
}

#[test]
fn every_model_is_accounted_for_with_its_reason() {
    let page = complete().page();
    assert!(
        page.contains("7 named models"),
        "the eighth is of no category"
    );
    for name in [
        "ai.graph.service",
        "ai.report",
        "ai.wizard",
        "ai.secret",
        "canvas_pan_move",
    ] {
        // In the list of those without rows, and in their category.
        assert_eq!(
            page.matches(&format!("<code>{name}</code>")).count(),
            2,
            "{name}"
        );
    }
    assert_eq!(page.matches("<td>as the test says</td>").count(), 5);
}

#[test]
fn history_tells_what_was_kept_and_what_was_made_again() {
    let page = eventful().page();
    for word in [
        "2 sets of snapshots",
        "1 part of a table was kept",
        "its rows changed",
        "monday.zip",
        "filestore 4.0 KiB",
        "continuing the bundle begun yesterday",
        "trying again in 1 s",
        "6 more",
    ] {
        assert!(page.contains(word), "{word}");
    }
    assert!(complete().page().contains("nothing was interrupted"));
}

#[test]
fn nothing_that_may_be_a_secret_is_shown() {
    let page = salvaged().page();
    assert!(!page.contains("hunter2") && !page.contains("PASSWORD"));
}

#[test]
fn commands_restore_this_bundle_and_only_what_is_whole_of_it() {
    let page = complete().page();
    assert!(page.contains("arkstream restore night.zip \\\n"));
    assert!(page.contains("--chroma '/srv/chroma data'"));
    assert!(page.contains("postgresql://postgres@HOST/memory"));
    assert!(!page.contains("--components"));
    let mut hurt = salvaged();
    // What nobody knows hurts everything; what is known hurts its own component.
    assert!(
        hurt.page()
            .contains("no component that a restore could take")
    );
    hurt.manifest.salvage.as_mut().unwrap().lost.pop();
    let page = hurt.page();
    assert!(
        page.contains("--components models,filestore,chroma"),
        "{page}"
    );
    assert!(!page.contains("--graph-admin-db"));
}

#[test]
fn long_lists_are_cut_and_say_so() {
    let mut parts = eventful();
    let one = parts.manifest.omissions[0].clone();
    parts.manifest.omissions = vec![one; arkstream_report::page::LISTED + 12];
    let page = parts.page();
    assert_eq!(
        page.matches("ab/ab12").count(),
        arkstream_report::page::LISTED
    );
    assert!(page.contains("… and 12 more"));
    assert!(page.contains("512 things were left out"));
}

/// Needs Node, its packages in `tests/support/page`, and a Chromium (`scripts/setup.sh test`).
#[test]
fn pages_are_valid_accessible_and_ask_for_nothing() {
    let setting = |name: &str| {
        env::var_os(name).unwrap_or_else(|| {
            panic!("{name} is not set: run `scripts/setup.sh test` and `source .test-env/env.sh`")
        })
    };
    let Some(chromium) = env::var_os("ARKSTREAM_TEST_CHROMIUM") else {
        eprintln!("left out: no Chromium was found (see scripts/setup.sh)");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pages = [
        ("complete", complete()),
        ("eventful", eventful()),
        ("salvaged", salvaged()),
        ("bare", bare()),
        ("hostile", hostile()),
    ];
    let mut command = Command::new(setting("ARKSTREAM_TEST_NODE"));
    let checker = setting("ARKSTREAM_TEST_PAGE_DIR");
    command
        .arg("check.mjs")
        .current_dir(checker)
        .env("CHROMIUM", chromium);
    for (name, parts) in &pages {
        let file = folder.path().join(format!("{name}.html"));
        fs::write(&file, parts.page()).unwrap();
        command.arg(file);
    }
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{words}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let wrong: Value = serde_json::from_str(&words).unwrap();
    let lists: Vec<_> = wrong.as_object().unwrap().values().collect();
    assert_eq!(lists.len(), pages.len());
    assert!(
        lists.iter().all(|list| **list == Value::Array(Vec::new())),
        "{words}"
    );
}

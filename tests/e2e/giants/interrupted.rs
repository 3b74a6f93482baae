//! A large value that is interrupted, kept, replaced.

use std::path::Path;

use super::{MIB, Sizes, backup, fingerprint, large, new_out, parts, put, verified};
use crate::{
    failures::running::{Running, SOON},
    restore::stage::{Place, done, source},
    support::{Bundle, Run, arkstream, run},
    values::compare_on,
};

/// Several chunks, and some of one.
const SMALLER: Sizes = Sizes {
    bytea: 24 * MIB,
    text: 5 * MIB,
    jsonb: 5 * MIB,
    array: 3 * MIB,
};

fn finished(out: &Path, ended: &Run) -> Bundle {
    verified(out, ended.json())
}

/// Restored into another database, the giant rows are those of the place.
#[track_caller]
fn comes_back(bundle: &Path, place: &Place) {
    let target = Place::copy();
    done(target.rows(bundle).args(["--mode", "replace"]));
    assert_eq!(fingerprint(&target), fingerprint(place));
}

#[test]
fn killed_in_the_middle_of_a_value_it_goes_on_there() {
    let place = Place::copy();
    put(&place, SMALLER);
    let out = new_out();
    // By one worker, so that nothing else comes between: what is continued stays where it is.
    let alone = || {
        let mut command = backup(&place, &out, "32MiB");
        command.env("ARKSTREAM_JOBS", "1");
        command
    };
    let mut running = Running::start(&mut alone());
    let journal = arkstream_bundle::OutputPaths::new(&out).journal;
    running.until("a large value is half written", |_| {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        let last = text.rfind("\"open\"").map(|at| &text[at..]);
        last.is_some_and(|text| text.contains("/large/") && text.matches("\"chunk\"").count() > 2)
    });
    running.signal("KILL");
    running.end(SOON);
    assert!(!out.exists());
    let ended = run(&mut alone()).ok();
    let bundle = finished(&out, &ended);
    let kept = bundle.report["resumed"]["kept_bytes"].as_u64();
    assert!(
        kept.is_some_and(|bytes| bytes > 8 * MIB),
        "{:#}",
        bundle.report["resumed"]
    );
    assert!(!large(&bundle).is_empty());
    // Nothing of what was torn is listed: every member belongs to a row, as verify says.
    comes_back(&out, &place);
}

#[test]
fn values_of_an_older_bundle_are_copied_where_they_did_not_change() {
    let place = Place::copy();
    put(&place, SMALLER);
    crate::increment::let_files_settle();
    let first_out = new_out();
    let first = finished(
        &first_out,
        &run(&mut backup(&place, &first_out, "32MiB")).ok(),
    );
    let based = |base: &Path| {
        let out = new_out();
        let ended = run(backup(&place, &out, "32MiB").arg("--base").arg(base)).ok();
        (finished(&out, &ended), out)
    };
    let (second, second_out) = based(&first_out);
    let unchanged = parts(&second);
    assert!(
        unchanged.iter().all(|part| part["kept_by"].is_string()),
        "{unchanged:#?}"
    );
    assert_eq!(large(&second), large(&first));
    std::fs::remove_file(&first_out).expect("the first");
    comes_back(&second_out, &place);

    // One value shrinks to nothing, one changes in its middle, one is gone.
    place.sql(
        "UPDATE x_type_matrix SET c_text = 'short' WHERE id = 9002; \
         UPDATE x_type_matrix SET c_bytea = overlay(c_bytea PLACING 'here'::bytea FROM 20000000) WHERE id = 9001; \
         DELETE FROM x_type_matrix WHERE id IN (9003, 9004)",
    );
    let (_, third_out) = based(&second_out);
    comes_back(&third_out, &place);
}

/// Whoever takes a value away, or names another, is found out.
#[test]
fn a_value_that_is_lost_is_no_null() {
    let place = Place::copy();
    let few = Sizes {
        bytea: 2 * MIB,
        text: 2 * MIB,
        jsonb: 2 * MIB,
        array: 1000,
    };
    put(&place, few);
    let out = new_out();
    run(&mut backup(&place, &out, "32MiB")).ok();
    let bundle = verified(&out, serde_json::Value::Null);
    // Another reader finds every value.
    assert!(large(&bundle).len() >= 3, "{:?}", large(&bundle));
    let found = compare_on(source(), &bundle, &place.database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
    let name = large(&bundle)[0].clone();
    // A byte of it.
    let members = bundle.json("manifest.json");
    let member = members["members"].as_array().expect("members");
    let member = member
        .iter()
        .find(|m| m["name"] == name.as_str())
        .expect("listed");
    let at = member["chunks"][0]["offset"].as_u64().expect("an offset");
    let mut bytes = std::fs::read(&out).expect("the bundle");
    bytes[at as usize + 100] ^= 1;
    std::fs::write(&out, bytes).expect("damaged");
    let told = run(arkstream().args(["verify", "--progress", "none"]).arg(&out)).expect_code(4);
    assert!(told.stdout.contains(&name), "{}", told.stdout);
    let target = Place::copy();
    let before = fingerprint(&target);
    let refused = run(target.rows(&out).args(["--mode", "replace"]));
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert_eq!(fingerprint(&target), before);
}

//! SIGKILL at any moment.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use arkstream_bundle::read_journal;

use super::{resumed, verified};
use crate::{
    failures::running::Running,
    support::{Random, Stack, run, scratch, seeds, soak},
    values::compare,
};

/// How long a backup of the shared stack takes on this machine, as measured once.
fn usual_time() -> Duration {
    static TIME: std::sync::OnceLock<Duration> = std::sync::OnceLock::new();
    *TIME.get_or_init(|| {
        let out = scratch("timed").join("bundle.zip");
        let start = Instant::now();
        run(&mut Stack::shared().backup_command(&out)).ok();
        start.elapsed()
    })
}

/// Bytes of members that the journal says are finished.
fn finished_bytes(out: &Path) -> u64 {
    let journal = arkstream_bundle::OutputPaths::new(out).journal;
    let state = read_journal(&journal).unwrap_or_default();
    state.members.iter().map(|member| member.stored_len).sum()
}

/// Rows change between the kills, so that what was read before is not what is there.
fn change_something(database: &str, random: &mut Random) {
    let sql = match random.below(5) {
        0 => "UPDATE ai_message SET content = content || ' (edited)' WHERE id % 97 = 0",
        1 => {
            "INSERT INTO ai_message (conversation_id, role, content) \
              SELECT min(id), 'user', repeat('new ', 200) FROM ai_conversation"
        }
        2 => "DELETE FROM ai_message WHERE id = (SELECT max(id) FROM ai_message)",
        3 => "VACUUM ai_message",
        _ => "VACUUM FULL ai_message",
    };
    Stack::shared().server.psql(database, sql).expect(sql);
}

#[test]
fn killed_at_any_moment_and_again_the_bundle_is_whole() {
    let stack = Stack::shared();
    let usual = usual_time();
    let micros = u64::try_from(usual.as_micros()).expect("short");
    for seed in seeds(soak(4, 300)) {
        let mut random = Random(seed);
        let database = stack.fresh_database();
        let out = scratch("killed").join("bundle.zip");
        let mut kills = 0;
        for _ in 0..1 + random.below(5) {
            let mut running = Running::start(&mut stack.backup_of(&database, &out));
            thread::sleep(Duration::from_micros(random.below(micros)));
            if running.has_ended() {
                break;
            }
            running.signal("KILL");
            running.end(Duration::from_secs(30));
            kills += 1;
            if random.below(2) == 0 {
                change_something(&database, &mut random);
            }
        }
        println!("seed {seed}: {kills} kills, {} bytes", finished_bytes(&out));
        if out.exists() {
            continue;
        }
        let ended = run(stack.backup_of(&database, &out).arg("--json")).ok();
        let bundle = verified(&out, &ended);
        let found = compare(&bundle, &database);
        assert_eq!(found["difference_count"], 0, "seed {seed}: {found:#}");
    }
}

#[test]
fn without_changes_what_was_finished_is_kept() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let out = scratch("unchanged").join("bundle.zip");
    // The dump of the whole database comes last; by then all parts are finished.
    let mut command = stack.backup_of(&database, &out);
    let mut running = Running::start(command.arg("--odoo-dump"));
    running.until("the rows are in the bundle", |_| {
        let journal = arkstream_bundle::OutputPaths::new(&out).journal;
        let state = read_journal(&journal).unwrap_or_default();
        state
            .members
            .iter()
            .any(|member| member.name.ends_with("postgres_graph_dump.sql"))
    });
    running.signal("KILL");
    running.end(Duration::from_secs(30));
    let finished = finished_bytes(&out);
    assert!(finished > 0);

    let mut command = stack.backup_of(&database, &out);
    let ended = run(command.args(["--odoo-dump", "--json"])).ok();
    let bundle = verified(&out, &ended);
    let kept = resumed(&bundle.report, "kept_bytes");
    assert!(
        kept * 100 >= finished * 95,
        "{kept} of {finished} bytes are kept: {:#}",
        bundle.report["resumed"]
    );
    // What is written by the second run is what an undisturbed one would have had left.
    let undisturbed = scratch("unchanged").join("bundle.zip");
    run(stack.backup_of(&database, &undisturbed).arg("--odoo-dump")).ok();
    let len = |path: &Path| std::fs::metadata(path).expect("a file").len();
    let written = len(&out) - resumed(&bundle.report, "found_bytes");
    let left = len(&undisturbed).saturating_sub(kept);
    assert!(
        written <= left + left / 20 + (1 << 20),
        "{written} bytes were written, {left} were left: {:#}",
        bundle.report["resumed"]
    );
    assert_eq!(resumed(&bundle.report, "generation"), 2);
    let manifest = bundle.json("manifest.json");
    assert_eq!(manifest["generations"].as_array().map(Vec::len), Some(2));
    let found = compare(&bundle, &database);
    assert_eq!(found["difference_count"], 0, "{found:#}");
}

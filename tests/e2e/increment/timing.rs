//! How long a backup upon an older bundle takes beside a full one. The times are printed, not asserted; how
//! much was copied is.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use arkstream_sample::StopMode;

use super::new_out;
use crate::support::{Bundle, Stack, StackOptions, arkstream, run, soak};

struct Timed {
    path: PathBuf,
    took: Duration,
    /// Stored bytes of rows that were copied, and of all rows.
    copied: (u64, u64),
}

fn backup(stack: &Stack, base: Option<&Path>) -> Timed {
    let out = new_out();
    let mut command = stack.backup_of(&stack.odoo, &out);
    command.args(["--jobs", "2", "--json"]);
    if let Some(base) = base {
        command.arg("--base").arg(base);
    }
    let start = Instant::now();
    let report = run(&mut command).ok().json();
    let took = start.elapsed();
    let copied = report["bases"][0]["copied"]["models"]["bytes"].as_u64();
    let all = report["components"]["models"]["stored_bytes"].as_u64();
    Timed {
        path: out,
        took,
        copied: (copied.unwrap_or(0), all.expect("rows")),
    }
}

#[test]
fn changes_beside_each_other_cost_little() {
    let stack = Stack::new(StackOptions {
        graph: false,
        chroma: false,
        ..Default::default()
    });
    let rows = soak(20_000, 400_000);
    let sql = format!(
        "INSERT INTO ai_message (conversation_id, role, content) \
         SELECT (SELECT min(id) FROM ai_conversation), 'user', \
           (SELECT string_agg(md5(n::text || m::text), '') FROM generate_series(1, 50) AS m) \
         FROM generate_series(1, {rows}) AS n; CHECKPOINT"
    );
    stack.server.psql(&stack.odoo, &sql).expect("messages");
    super::let_files_settle();
    let full = backup(&stack, None);
    let told = |what: &str, timed: &Timed| {
        let percent = |part: f64, whole: f64| part * 100.0 / whole;
        println!(
            "{what}: {:.1} s, {:.0} % of a full one; {:.0} % of {} bytes of rows copied",
            timed.took.as_secs_f64(),
            percent(timed.took.as_secs_f64(), full.took.as_secs_f64()),
            percent(timed.copied.0 as f64, timed.copied.1 as f64),
            timed.copied.1
        );
    };
    told("full", &full);
    let unchanged = backup(&stack, Some(&full.path));
    told("nothing changed", &unchanged);
    assert_eq!(unchanged.copied.0, unchanged.copied.1);

    let change = |which: &str| {
        let sql = format!("UPDATE ai_message SET role = 'other' WHERE {which}; CHECKPOINT");
        stack.server.psql(&stack.odoo, &sql).expect("an update");
    };
    change(&format!(
        "id > (SELECT max(id) - {} FROM ai_message)",
        rows / 100
    ));
    let clustered = backup(&stack, Some(&full.path));
    told("the newest 1 % changed", &clustered);
    assert!(clustered.copied.0 * 100 >= clustered.copied.1 * soak(50, 85));

    stack.server.restart(StopMode::Fast).expect("it restarts");
    let restarted = backup(&stack, Some(&clustered.path));
    told("after a restart of the server", &restarted);
    assert_eq!(restarted.copied.0, restarted.copied.1);

    change("id % 100 = 0");
    let scattered = backup(&stack, Some(&restarted.path));
    told("1 % all over the table changed", &scattered);
    told("full again", &backup(&stack, None));
    let path = &scattered.path;
    run(arkstream().args(["verify", "--progress", "none"]).arg(path)).ok();
    let bundle = Bundle::open(path.clone(), serde_json::Value::Null, String::new());
    let found = crate::values::compare_on(&stack, &bundle, &stack.odoo);
    assert_eq!(found["difference_count"], 0, "{found:#}");
}

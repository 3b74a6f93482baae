//! The table of `--stats`: what every stage of a run did with its time.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use arkstream_pipeline::{Budget, Stage, Stats};

use crate::{memory, output, units};

/// The table, and what it means.
pub(crate) fn table(stats: &Stats, elapsed: Duration, budget: &Budget, jobs: usize) -> String {
    let mut rows = Vec::new();
    for stage in Stage::ALL {
        let times = stats.of(stage);
        if times.busy.is_zero() && times.waiting.is_zero() {
            continue;
        }
        let rate = match times.busy.as_secs_f64() {
            busy if busy > 0.0 && times.bytes > 0 => {
                format!("{}/s", units::size((times.bytes as f64 / busy) as u64))
            }
            _ => String::new(),
        };
        rows.push(vec![
            stage.name().to_owned(),
            seconds(times.busy),
            seconds(times.waiting),
            share(times.busy, elapsed),
            units::size(times.bytes),
            rate,
        ]);
    }
    let heads = [
        "stage",
        ">busy",
        ">waiting",
        ">of the run",
        ">bytes",
        ">when busy",
    ];
    let mut text = output::table(&heads, &rows);
    let _ = write!(
        text,
        "{jobs} jobs, {}; of a budget of {}, {} were used at once",
        units::duration(elapsed),
        units::size(budget.bytes()),
        units::size(budget.peak())
    );
    if let Some(peak) = memory::peak() {
        let _ = write!(text, "; the process took up to {}", units::size(peak));
    }
    text.push_str("\nTimes are sums over all threads: a stage with 200 % kept two of them busy.\n");
    text
}

/// The same for programs.
pub(crate) fn json(stats: &Stats, budget: &Budget, jobs: usize) -> Value {
    let stages: serde_json::Map<String, Value> = Stage::ALL
        .into_iter()
        .map(|stage| {
            let times = stats.of(stage);
            let of = json!({
                "busy_seconds": times.busy.as_secs_f64(),
                "waiting_seconds": times.waiting.as_secs_f64(),
                "bytes": times.bytes,
            });
            (stage.name().to_owned(), of)
        })
        .collect();
    json!({
        "stages": stages,
        "jobs": jobs,
        "budget_bytes": budget.bytes(),
        "budget_peak_bytes": budget.peak(),
    })
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn share(busy: Duration, elapsed: Duration) -> String {
    let percent = 100.0 * busy.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    format!("{percent:.0} %")
}

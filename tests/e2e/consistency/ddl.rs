//! Statements that empty, rewrite or replace an exported table, at any moment of a run.
//!
//! A snapshot alone does not protect against them: after a TRUNCATE or a rewriting ALTER TABLE, a
//! COPY under the older snapshot gives no rows, without an error. So each statement is one
//! transaction with an update of another table, the witness, which a snapshot does protect. The
//! witness in the bundle says on which side of the statement its snapshot lies, and with that how
//! many rows the table must have.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::contents;
use crate::support::{Run, Stack, arkstream, run, runtime, scratch, soak};

/// The witness: its counts are 0 before the statement, 1 after it.
const WITNESS: (&str, &str) = ("ai.knowledge.domain", "ai_knowledge_domain");

const KINDS: [Kind; 4] = [
    Kind::Truncate,
    Kind::VacuumFull,
    Kind::AlterType,
    Kind::Replace,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Truncate,
    VacuumFull,
    AlterType,
    /// DROP TABLE, and CREATE TABLE of the same name with one row less.
    Replace,
}

/// A table that statements are fired at. No other table refers to it.
#[derive(Clone, Debug)]
struct Target {
    model: String,
    table: String,
    rows: u64,
}

/// One round: what is fired at what, when, and for how long it keeps its lock.
#[derive(Clone, Debug)]
struct Round {
    seed: u64,
    kind: Kind,
    target: Target,
    delay: Duration,
    hold: Duration,
    /// Whether a dump of the whole database is part of the bundle.
    dump: bool,
}

/// A finished bundle, or what the run said instead.
struct Outcome {
    round: Round,
    ended: Run,
    bundle: Option<PathBuf>,
}

#[test]
fn statements_that_rewrite_a_table_never_empty_it_in_the_bundle() {
    let stack = Stack::shared();
    let database = stack.fresh_database();
    let targets = prepare(stack, &database);
    let start = Instant::now();
    run(&mut backup(
        stack,
        &database,
        &targets,
        &scratch("ddl").join("bundle.zip"),
        false,
    ))
    .ok();
    let whole = start.elapsed();

    let first: u64 = std::env::var("ARKSTREAM_TEST_SEED")
        .map_or(20_240_229, |seed| seed.parse().expect("a number"));
    let rounds = soak(24, 240);
    println!("{rounds} rounds with the seeds {first}…; ARKSTREAM_TEST_SEED sets the first one");
    let outcomes: Vec<Outcome> = (0..rounds)
        .map(|number| {
            let round = Round::new(first + number, number, &targets, whole);
            println!("{round:?}");
            fire(stack, &database, &targets, round)
        })
        .collect();
    let finished = outcomes
        .iter()
        .filter(|outcome| outcome.bundle.is_some())
        .count();
    println!("{finished} of {rounds} runs finished");
    assert!(finished * 2 >= outcomes.len(), "most runs gave up");
    judge(&outcomes);
    for outcome in outcomes.iter().filter(|outcome| outcome.bundle.is_none()) {
        gave_up_with_a_reason(outcome);
    }
}

/// Chooses the targets, keeps copies of their rows, and sets the witness back.
fn prepare(stack: &Stack, database: &str) -> Vec<Target> {
    let ask = |sql: &str| stack.server.psql(database, sql).expect("psql");
    let found = ask("SELECT m.model, c.relname FROM ir_model m \
         JOIN pg_class c ON c.oid = to_regclass(replace(m.model, '.', '_')) \
         WHERE c.relkind = 'r' AND NOT m.transient AND m.model LIKE 'ai.%' AND NOT c.relrowsecurity \
         AND m.model <> 'ai.knowledge.domain' \
         AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.confrelid = c.oid) \
         AND NOT EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhparent, i.inhrelid)) \
         AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid \
                     AND a.attname = 'create_uid' AND a.atttypid = 'int4'::regtype) \
         ORDER BY pg_relation_size(c.oid) DESC, m.model");
    let mut targets = Vec::new();
    ask("CREATE SCHEMA kept");
    for line in found.lines() {
        let (model, table) = line.split_once('|').expect("two columns");
        let rows: u64 = ask(&format!("SELECT count(*) FROM {table}"))
            .parse()
            .expect("a number");
        if rows >= 2 && targets.len() < 6 {
            ask(&format!(
                "CREATE TABLE kept.{table} AS SELECT * FROM {table}"
            ));
            targets.push(Target {
                model: model.to_owned(),
                table: table.to_owned(),
                rows,
            });
        }
    }
    assert!(targets.len() >= 3, "too few targets: {found}");
    ask("UPDATE ai_knowledge_domain SET conversation_count = 0");
    targets
}

impl Round {
    fn new(seed: u64, number: u64, targets: &[Target], whole: Duration) -> Self {
        let mut random = SplitMix(seed);
        let kind = KINDS[number as usize % KINDS.len()];
        let target = targets[random.below(targets.len() as u64) as usize].clone();
        // Early moments count more: plan, locks and snapshots lie there.
        let share = random.unit().powf(1.5);
        let hold = if random.below(3) == 0 {
            Duration::from_secs(1)
        } else {
            Duration::ZERO
        };
        Self {
            seed,
            kind,
            target,
            delay: whole.mul_f64(share),
            hold,
            dump: number % 4 == 1 || random.below(6) == 0,
        }
    }

    /// The transaction, or the statement that cannot be in one.
    fn sql(&self, column_type: &str) -> String {
        let table = &self.target.table;
        let change = match self.kind {
            Kind::Truncate => format!("TRUNCATE {table}"),
            Kind::VacuumFull => return format!("VACUUM FULL {table}"),
            Kind::AlterType => {
                let other = if column_type == "integer" {
                    "bigint"
                } else {
                    "integer"
                };
                format!("ALTER TABLE {table} ALTER COLUMN create_uid TYPE {other}")
            }
            Kind::Replace => format!(
                "DROP TABLE {table}; CREATE TABLE {table} AS \
                 SELECT * FROM kept.{table} WHERE id <> (SELECT min(id) FROM kept.{table})"
            ),
        };
        format!(
            "BEGIN; {change}; UPDATE {} SET conversation_count = 1; SELECT pg_sleep({}); COMMIT",
            WITNESS.1,
            self.hold.as_secs_f64()
        )
    }

    /// Rows of the target in a bundle on that side of the statement.
    fn expected(&self, after: bool) -> u64 {
        match self.kind {
            Kind::Truncate if after => 0,
            Kind::Replace if after => self.target.rows - 1,
            _ => self.target.rows,
        }
    }
}

/// Runs a backup, fires the statement at its moment, and puts the table back.
fn fire(stack: &Stack, database: &str, targets: &[Target], round: Round) -> Outcome {
    let ask = |sql: &str| stack.server.psql(database, sql).expect("psql");
    let table = &round.target.table;
    let column_type = ask(&format!(
        "SELECT format_type(atttypid, NULL) FROM pg_attribute \
         WHERE attrelid = '{table}'::regclass AND attname = 'create_uid'"
    ));
    let sql = round.sql(&column_type);
    let out = scratch("ddl").join("bundle.zip");
    let mut command = backup(stack, database, targets, &out, round.dump);
    let client = runtime()
        .block_on(stack.server.superuser_connect(database))
        .expect("connects");
    // VACUUM FULL cannot wait inside a transaction: another one holds the lock before it.
    let holder = (round.kind == Kind::VacuumFull && !round.hold.is_zero()).then(|| {
        let sql = format!(
            "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({}); COMMIT",
            round.hold.as_secs_f64()
        );
        (
            runtime()
                .block_on(stack.server.superuser_connect(database))
                .expect("connects"),
            sql,
        )
    });
    let delay = round.delay;
    let ended = thread::scope(|scope| {
        let running = scope.spawn(move || run(&mut command));
        thread::sleep(delay);
        if let Some((holder, sql)) = &holder {
            runtime()
                .block_on(holder.batch_execute(sql))
                .expect("the lock is had in the end");
        }
        runtime()
            .block_on(client.batch_execute(&sql))
            .expect("the statement is done in the end");
        running.join().expect("it runs")
    });
    drop((client, holder));
    ask(&format!(
        "BEGIN; DROP TABLE {table}; CREATE TABLE {table} AS SELECT * FROM kept.{table}; \
         UPDATE {} SET conversation_count = 0; COMMIT",
        WITNESS.1
    ));
    Outcome {
        bundle: finished(&round, &ended, out),
        ended,
        round,
    }
}

/// The bundle, if the run made one. Otherwise nothing may stand under its name.
fn finished(round: &Round, ended: &Run, out: PathBuf) -> Option<PathBuf> {
    if ended.code == Some(0) {
        assert!(out.is_file(), "{round:?}");
        return Some(out);
    }
    println!("seed {} gave up: {}", round.seed, ended.stderr.trim());
    assert!(!out.exists(), "{round:?}: a bundle after a failed run");
    None
}

/// A run that gave up says why, on which table, and that a statement is to be waited for.
fn gave_up_with_a_reason(outcome: &Outcome) {
    let (round, ended) = (&outcome.round, &outcome.ended);
    let stderr = &ended.stderr;
    assert_eq!(ended.code, Some(7), "{round:?}: {stderr}");
    assert!(stderr.contains("error: could not "), "{round:?}: {stderr}");
    assert!(
        stderr.contains(&round.target.table),
        "which table? {stderr}"
    );
    let advice = stderr.split_once("\n  help: ").expect("advice").1;
    assert!(advice.contains("statement"), "what is to be done? {stderr}");
}

fn judge(outcomes: &[Outcome]) {
    let (rounds, jobs): (Vec<&Round>, Vec<Value>) = outcomes
        .iter()
        .filter_map(|outcome| {
            Some((
                &outcome.round,
                job(&outcome.round, outcome.bundle.as_ref()?),
            ))
        })
        .unzip();
    let mut sides = [0, 0];
    for (round, answer) in rounds.iter().zip(contents::rows(&jobs)) {
        let after = match answer["witness"].as_str().expect("a text") {
            "0..0" => false,
            "1..1" => true,
            torn => panic!("the witness is torn: {torn} in {round:?}"),
        };
        // VACUUM FULL has no witness and needs none: no row changes.
        sides[usize::from(after)] += 1;
        let expected = round.expected(after);
        assert_eq!(answer["rows"], expected, "after: {after}, {round:?}");
        if round.dump {
            assert_eq!(
                answer["dump"], expected,
                "in the dump, after: {after}, {round:?}"
            );
        }
    }
    println!(
        "{} snapshots before the statement, {} after it",
        sides[0], sides[1]
    );
    assert!(
        sides.iter().all(|count| *count > 0),
        "the moments miss the point: {sides:?}"
    );
}

fn job(round: &Round, bundle: &PathBuf) -> Value {
    let verdict = run(arkstream().args(["verify", "--json"]).arg(bundle))
        .ok()
        .json();
    assert_eq!(verdict["verdict"], "good", "{round:?}: {verdict}");
    let mut job = json!({
        "bundle": bundle,
        "models": { WITNESS.0: "witness", &round.target.model: "target" },
        "queries": {
            "witness": "SELECT concat(min(conversation_count), '..', max(conversation_count)) FROM witness",
            "rows": "SELECT count(*) FROM target",
        },
    });
    if round.dump {
        job["dump"] = json!(round.target.table);
    }
    job
}

fn backup(
    stack: &Stack,
    database: &str,
    targets: &[Target],
    out: &Path,
    dump: bool,
) -> std::process::Command {
    let mut models: Vec<&str> = targets.iter().map(|target| target.model.as_str()).collect();
    models.push(WITNESS.0);
    let mut command = arkstream();
    command.args(["backup", "--json", "--progress", "none"]);
    command.args(["--no-graph", "--no-filestore", "--no-chroma"]);
    command.args([
        "--odoo-db",
        &stack.url(database),
        "--models",
        &models.join(","),
    ]);
    if dump {
        command.arg("--odoo-dump");
    }
    command.args(["--lock-timeout", "5s", "--out"]).arg(out);
    command
}

/// SplitMix64: small, and equal everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

//! What is in bundles, read without a line of ours: `zipfile`, pyarrow and DuckDB for the rows,
//! the real ChromaDB for the vectors. One Python answers for many bundles.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{python, run, scratch, support_file};

/// Reads a file of jobs, prints a list of answers. Each job names a bundle; `models` become views
/// of the name of their table, `queries` are answered by DuckDB, and of `dump` (a table's name)
/// the rows in the whole-database dump are counted.
const ROWS: &str = r#"
import io, json, sys, zipfile
import duckdb, pyarrow, pyarrow.parquet

def table(archive, model):
    prefix = f"odoo_data/models/{model}/"
    names = sorted(n for n in archive.namelist() if n.startswith(prefix) and n.endswith(".parquet"))
    return pyarrow.concat_tables([pyarrow.parquet.read_table(io.BytesIO(archive.read(n))) for n in names])

def dumped(archive, name):
    inside, rows = False, None
    with archive.open("databases/odoo_dump.sql") as dump:
        for line in dump:
            if line.startswith(f"COPY public.{name} (".encode()):
                inside, rows = True, 0
            elif inside and line == b"\\.\n":
                inside = False
            elif inside:
                rows += 1
    return rows

answers = []
for job in json.load(open(sys.argv[1])):
    connection = duckdb.connect()
    with zipfile.ZipFile(job["bundle"]) as archive:
        for model, view in job.get("models", {}).items():
            connection.register(view, table(archive, model))
        answer = {name: connection.execute(sql).fetchone()[0] for name, sql in job.get("queries", {}).items()}
        if "dump" in job:
            answer["dump"] = dumped(archive, job["dump"])
    answers.append(answer)
print(json.dumps(answers, default=str))
"#;

/// Runs `check.py` on the ChromaDB directory of each bundle, as a program of its own would be.
const VECTORS: &str = r#"
import contextlib, io, json, pathlib, runpy, shutil, sys, zipfile

folder = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(folder))
inside = "databases/chroma_data/"
answers = []
for job in json.load(open(sys.argv[2])):
    copy = pathlib.Path(job["copy"])
    with zipfile.ZipFile(job["bundle"]) as archive:
        for name in archive.namelist():
            if name.startswith(inside):
                target = copy / name[len(inside):]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    sys.argv[1:] = [str(copy), "--log", job["log"], "--until", str(job["until"])]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(str(folder / "check.py"), run_name="__main__")
        except SystemExit:
            pass
    answers.append(json.loads(said.getvalue()))
    shutil.rmtree(copy)
print(json.dumps(answers))
"#;

/// The answers to jobs of rows; see [`ROWS`].
#[track_caller]
pub(super) fn rows(jobs: &[Value]) -> Vec<Value> {
    let mut command = python();
    command.args(["-c", ROWS]).arg(file(jobs));
    run(&mut command)
        .ok()
        .json()
        .as_array()
        .expect("a list")
        .clone()
}

/// The verdicts of ChromaDB on bundles: each with the `taken_at` of its barrier in nanoseconds.
#[track_caller]
pub(super) fn vectors(bundles: &[(PathBuf, i64)], log: &Path) -> Vec<Value> {
    let copies = scratch("chroma-copies");
    let jobs: Vec<Value> = bundles
        .iter()
        .enumerate()
        .map(|(number, (bundle, until))| {
            let copy = copies.join(number.to_string());
            json!({"bundle": bundle, "copy": copy, "log": log, "until": until})
        })
        .collect();
    let mut command = python();
    command
        .args(["-c", VECTORS])
        .arg(support_file("chroma"))
        .arg(file(&jobs));
    run(&mut command)
        .ok()
        .json()
        .as_array()
        .expect("a list")
        .clone()
}

fn file(jobs: &[Value]) -> PathBuf {
    let path = scratch("jobs").join("jobs.json");
    std::fs::write(&path, serde_json::to_vec(jobs).expect("JSON")).expect("written");
    path
}

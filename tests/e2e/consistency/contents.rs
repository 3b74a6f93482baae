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
///
/// After many updates and deletes hnswlib leaves a vector now and then that no other one links to:
/// it can be read, and no search finds it, in the live directory as in a copy. The answer counts
/// these as `unlinked`; whatever else a search does not find stays an error.
const VECTORS: &str = r#"
import contextlib, io, json, pathlib, pickle, runpy, shutil, sqlite3, struct, sys, zipfile

def is_unlinked(copy, collection, record_id):
    database = sqlite3.connect(f"file:{copy / 'chroma.sqlite3'}?mode=ro", uri=True)
    (segment,) = database.execute(
        "SELECT s.id FROM segments s JOIN collections c ON c.id = s.collection "
        "WHERE c.name = ? AND s.scope = 'VECTOR'", (collection,)).fetchone()
    database.close()
    folder = copy / segment
    header = (folder / "header.bin").read_bytes()
    count, size, label_at = (struct.unpack_from("<Q", header, at)[0] for at in (20, 28, 36))
    entry = struct.unpack_from("<I", header, 56)[0]
    level0 = (folder / "data_level0.bin").read_bytes()
    with open(folder / "index_metadata.pickle", "rb") as file:
        label = pickle.load(file)["id_to_label"].get(record_id)
    links, mine = {}, None
    for number in range(count):
        (degree,) = struct.unpack_from("<H", level0, number * size)
        links[number] = struct.unpack_from(f"<{degree}I", level0, number * size + 4)
        if struct.unpack_from("<Q", level0, number * size + label_at)[0] == label:
            mine = number
    reached, waiting = {entry}, [entry]
    while waiting:
        new = set(links[waiting.pop()]) - reached
        reached |= new
        waiting.extend(new)
    return mine is not None and mine not in reached

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
    answer = json.loads(said.getvalue())
    unlinked = [e for e in answer["errors"]
                if e["what"] == "query" and is_unlinked(copy, e["collection"], e["id"])]
    answer["unlinked"] = len(unlinked)
    answer["ok"] = answer["error_count"] == len(unlinked)
    answers.append(answer)
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

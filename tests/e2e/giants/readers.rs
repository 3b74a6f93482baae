//! Large values and those who read bundles without restoring them: exports, comparison, salvage.

use std::path::Path;

use super::{MIB, Sizes, backup, fingerprint, large, new_out, put, verified};
use crate::{
    restore::stage::Place,
    support::{Bundle, arkstream, python, run},
};

const SIZES: Sizes = Sizes {
    bytea: 3 * MIB,
    text: 4 * MIB,
    jsonb: 3 * MIB,
    array: 3 * MIB,
};

/// The giant rows of a CSV file, in the words of [`fingerprint`].
const READ: &str = r"
import csv, hashlib, re, sys
csv.field_size_limit(1 << 30)
text = open(sys.argv[1], encoding='utf-8', newline='').read()
lines = csv.reader(text.splitlines(keepends=True))
heads = next(lines)
def md5(value): return hashlib.md5(value.encode()).hexdigest() if value else ''
for line in lines:
    row = dict(zip(heads, line))
    if int(row['id']) > 9000:
        raw = bytes.fromhex(row['c_bytea'][2:])
        print('|'.join([row['id'], str(len(raw)) if raw else '', '\\x' + hashlib.sha256(raw).hexdigest() if raw else '',
            md5(row['c_text']), md5(row['c_jsonb']), md5(row['a_text']), row['c_int4']]))
";

fn with_large_values() -> (Place, Bundle) {
    let place = Place::copy();
    put(&place, SIZES);
    let out = new_out();
    let ended = run(backup(&place, &out, "32MiB").arg("--xlsx")).ok();
    let bundle = verified(&out, ended.json());
    assert!(large(&bundle).len() >= 4, "{:?}", large(&bundle));
    (place, bundle)
}

fn export(kind: &str, bundle: &Path, out: &Path) -> crate::support::Run {
    let mut command = arkstream();
    command.args(["export", kind, "--json", "--progress", "none"]);
    run(command.arg(bundle).arg(out))
}

#[test]
fn exports_and_comparisons_have_every_large_value() {
    let (place, bundle) = with_large_values();
    let folder = bundle.path.parent().unwrap();
    for kind in ["csv", "jsonl", "parquet"] {
        export(kind, &bundle.path, &folder.join(kind)).ok();
    }
    let csv = folder.join("csv/sam.type.matrix.csv");
    let told = run(python().args(["-c", READ]).arg(csv)).ok().stdout;
    let mut told: Vec<&str> = told.lines().collect();
    told.sort_unstable();
    assert_eq!(told.join("\n"), fingerprint(&place));
    let read = "import pyarrow.parquet as pq, sys\n\
        file = pq.ParquetFile(sys.argv[1])\n\
        assert b'arkstream.large' not in file.metadata.metadata\n\
        rows = {row['id']: row for row in file.read(columns=['id', 'c_bytea', 'c_text', 'a_text']).to_pylist() if row['id'] > 9000}\n\
        print(len(rows[9001]['c_bytea']), len(rows[9002]['c_text']), len(rows[9004]['a_text']))";
    let parquet = folder.join("parquet/sam.type.matrix.parquet");
    let told = run(python().args(["-c", read]).arg(parquet)).ok().stdout;
    let lengths = place.sql(
        "SELECT max(octet_length(c_bytea)) FILTER (WHERE id = 9001) || ' ' || max(length(c_text)) FILTER (WHERE id = 9002) \
         || ' ' || max(cardinality(a_text)) FILTER (WHERE id = 9004) FROM x_type_matrix",
    );
    assert_eq!(told.trim(), lengths.trim());

    // Split otherwise by another memory, and still the same rows.
    let other = new_out();
    run(&mut backup(&place, &other, "512MiB")).ok();
    let diff = |one: &Path, other: &Path| {
        let mut command = arkstream();
        command.args(["diff", "--json"]).arg(one).arg(other);
        run(&mut command)
    };
    assert_eq!(diff(&bundle.path, &other).ok().json()["equal"], true);
    place.sql("UPDATE x_type_matrix SET c_text = c_text || '!' WHERE id = 9002");
    let changed = new_out();
    run(&mut backup(&place, &changed, "32MiB")).ok();
    let found = diff(&bundle.path, &changed).expect_code(9).json();
    let tables = found["tables"].as_array().unwrap().iter();
    let changes = tables.map(|table| table["changed"].as_u64().unwrap());
    assert_eq!(changes.sum::<u64>(), 1, "{found:#}");
}

#[test]
fn a_lost_large_value_is_told_by_every_command() {
    let (_place, bundle) = with_large_values();
    let hit = large(&bundle).remove(0);
    let manifest = bundle.json("manifest.json");
    let members = manifest["members"].as_array().unwrap();
    let member = members
        .iter()
        .find(|member| member["name"] == hit.as_str())
        .unwrap();
    let at = member["data_offset"].as_u64().unwrap() + member["stored_len"].as_u64().unwrap() / 2;
    let mut bytes = std::fs::read(&bundle.path).unwrap();
    bytes[at as usize] ^= 1;
    let folder = bundle.path.parent().unwrap();
    let (damaged, out) = (folder.join("damaged.zip"), folder.join("salvaged.zip"));
    std::fs::write(&damaged, bytes).unwrap();
    let verify = |bundle: &Path| {
        run(arkstream()
            .args(["verify", "--progress", "none"])
            .arg(bundle))
    };
    verify(&damaged).expect_code(4);
    let mut salvage = arkstream();
    salvage.args(["salvage", "--progress", "none"]);
    let told = run(salvage.arg(&damaged).arg(&out)).expect_code(3).stdout;
    assert!(told.contains(&hit), "{told}");
    verify(&out).expect_code(3);
    let told = export("csv", &out, &folder.join("rows"))
        .expect_code(3)
        .stdout;
    assert!(told.contains("sam.type.matrix"), "{told}");
}

//! Which models travel, with what, and that none of their rows is lost.

mod choice;
mod inventory;
mod metadata;
mod secrets;
mod tables;
mod travellers;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Bundle;

/// Names of the models in `model_list.json` that these statuses have.
fn models_with(bundle: &Bundle, statuses: &[&str]) -> BTreeSet<String> {
    let list = bundle.json("odoo_data/model_list.json");
    list.as_array()
        .expect("a list")
        .iter()
        .filter(|entry| statuses.contains(&text(&entry["status"])))
        .map(|entry| text(&entry["model"]).to_owned())
        .collect()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// The values of one column, as a set.
fn ids(rows: &[Value], column: &str) -> BTreeSet<u64> {
    rows.iter().filter_map(|row| row[column].as_u64()).collect()
}

/// The first column of a query's answer.
fn ids_of(answer: &str) -> BTreeSet<u64> {
    answer
        .lines()
        .map(|line| line.parse().expect("an id"))
        .collect()
}

/// `'a','b'`
fn sql_list<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("'{name}'")).collect();
    quoted.join(",")
}

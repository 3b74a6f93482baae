//! Row filters as SQL, each set of rows written down once.
//!
//! Filters build on each other: a partner travels because a user does, the user because a message
//! does, the message because its model was chosen. Put into each other as text they would grow to
//! megabytes. So the rows of every filtered table are a named definition, and a filter is
//! `column IN (WITH … SELECT …)` with just the definitions it needs.
//!
//! Definitions over shared tables are `NOT MATERIALIZED` (PostgreSQL 12 and newer), so that no
//! copy of all messages is made to look at a few of their columns. Those of identity rows are
//! few and may be kept.

use std::collections::BTreeSet;

use arkstream_postgres::{CatalogTable, quote_ident, quote_literal};

use super::Rows;

/// The definition of the chosen models' names.
const CHOSEN: &str = "\"chosen models\"";

/// `left IN (query)`; the query may read definitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Condition {
    left: String,
    query: String,
}

impl Condition {
    /// A column of `t`, or several, among the rows of a query.
    pub(super) fn any(columns: &[&str], query: impl Into<String>) -> Self {
        let columns: Vec<_> = columns
            .iter()
            .map(|c| format!("t.{}", quote_ident(c)))
            .collect();
        let left = match columns.as_slice() {
            [only] => only.clone(),
            several => format!("({})", several.join(", ")),
        };
        Self {
            left,
            query: query.into(),
        }
    }

    /// A column of `t` with the name of a chosen model.
    pub(super) fn chosen(column: &str) -> Self {
        Self::any(&[column], format!("SELECT t.name FROM {CHOSEN} t"))
    }

    /// A column of `t` among the values of a column of rows.
    pub(super) fn among(column: &str, rows: &Rows, values: &str) -> Self {
        Self::any(&[column], ids_of(rows, values))
    }

    /// The rows with these ids.
    pub(super) fn ids(ids: &[i64]) -> Self {
        let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
        let query = format!("SELECT unnest('{{{}}}'::int8[])", ids.join(","));
        Self::any(&["id"], query)
    }

    /// As it stands inside a definition.
    pub(super) fn sql(&self) -> String {
        format!("{} IN ({})", self.left, self.query)
    }
}

/// Named sets of rows.
pub(super) struct Definitions {
    chosen: String,
    list: Vec<Definition>,
}

struct Definition {
    name: String,
    sql: String,
}

impl Definitions {
    pub(super) fn new<'n>(chosen: impl Iterator<Item = &'n str>) -> Self {
        let names: Vec<_> = chosen.map(quote_literal).collect();
        let chosen = format!("ARRAY[{}]::text[]", names.join(","));
        let definition = Definition {
            name: CHOSEN.to_owned(),
            sql: format!("{CHOSEN} AS (SELECT unnest({chosen}) AS name)"),
        };
        Self {
            chosen,
            list: vec![definition],
        }
    }

    /// Names the rows of a table that meet any of the conditions.
    pub(super) fn define(
        &mut self,
        table: &CatalogTable,
        conditions: &BTreeSet<Condition>,
        materialized: bool,
    ) -> Rows {
        // Names are cut at 63 bytes; the number keeps them apart.
        let short: String = table.table.name.chars().take(15).collect();
        let name = quote_ident(&format!("{short} {}", self.list.len()));
        let how = if materialized {
            ""
        } else {
            "NOT MATERIALIZED "
        };
        let body: Vec<_> = conditions.iter().map(Condition::sql).collect();
        let sql = format!(
            "{name} AS {how}(SELECT t.* {} WHERE {})",
            from_clause(table),
            body.join(" OR ")
        );
        let rows = Rows {
            from: format!("FROM {name} t"),
            filter: None,
        };
        self.list.push(Definition { name, sql });
        rows
    }

    /// The conditions as one that stands by itself.
    pub(super) fn filter(&self, conditions: &BTreeSet<Condition>) -> String {
        conditions
            .iter()
            .map(|condition| self.expand(condition))
            .collect::<Vec<_>>()
            .join(" OR ")
    }

    fn expand(&self, condition: &Condition) -> String {
        if *condition == Condition::chosen("").with_left(&condition.left) {
            return format!("{} = ANY({})", condition.left, self.chosen);
        }
        let mut needed: Vec<&str> = Vec::new();
        let mut read_by = vec![condition.query.as_str()];
        for definition in self.list.iter().rev() {
            if read_by.iter().any(|sql| sql.contains(&definition.name)) {
                needed.push(&definition.sql);
                read_by.push(&definition.sql);
            }
        }
        if needed.is_empty() {
            return condition.sql();
        }
        needed.reverse();
        format!(
            "{} IN (WITH {} {})",
            condition.left,
            needed.join(", "),
            condition.query
        )
    }
}

impl Condition {
    fn with_left(mut self, left: &str) -> Self {
        left.clone_into(&mut self.left);
        self
    }
}

/// `FROM ONLY`, for rows of inheritance children are not the parent's; a partitioned table has
/// rows in its partitions alone.
pub(super) fn from_clause(table: &CatalogTable) -> String {
    let only = if table.kind == 'p' { "" } else { "ONLY " };
    format!("FROM {only}{} t", table.table.sql())
}

/// `SELECT t.column FROM … WHERE …`.
pub(super) fn ids_of(rows: &Rows, column: &str) -> String {
    let column = format!("t.{}", quote_ident(column));
    format!(
        "SELECT {column} {}",
        rows.and(&format!("{column} IS NOT NULL"))
    )
}

#[cfg(test)]
mod tests {
    use arkstream_format::TableRole;
    use arkstream_postgres::{TableTask, VirtualQuery};

    use super::*;

    fn table(name: &str) -> CatalogTable {
        let query = VirtualQuery {
            name: name.into(),
            sql: String::new(),
        };
        let task = TableTask::of_query(query, TableRole::Support, "");
        let mut table = CatalogTable::clone(&task.table);
        table.table.schema = "public".into();
        table
    }

    #[test]
    fn each_set_of_rows_is_written_down_once_and_only_where_it_is_needed() {
        let mut definitions = Definitions::new(["ai.message", "it's"].into_iter());
        let messages = definitions.define(
            &table("mail_message"),
            &[Condition::chosen("model")].into(),
            false,
        );
        let parents = definitions.define(
            &table("res_partner"),
            &[Condition::among("id", &messages, "author_id")].into(),
            true,
        );
        let filter = definitions.filter(&[Condition::among("partner_id", &parents, "id")].into());
        assert!(
            filter.starts_with("t.\"partner_id\" IN (WITH \"chosen models\" AS ("),
            "{filter}"
        );
        assert_eq!(
            filter
                .matches("ARRAY['ai.message','it''s']::text[]")
                .count(),
            1
        );
        assert_eq!(
            filter
                .matches("FROM ONLY \"public\".\"mail_message\"")
                .count(),
            1
        );
        let plain = definitions.filter(&[Condition::any(&["a", "b"], "SELECT 1, 2")].into());
        assert_eq!(plain, "(t.\"a\", t.\"b\") IN (SELECT 1, 2)");
    }

    #[test]
    fn names_of_chosen_models_can_use_an_index() {
        let definitions = Definitions::new(["ai.message"].into_iter());
        let filter = definitions.filter(&[Condition::chosen("res_model")].into());
        assert_eq!(filter, "t.\"res_model\" = ANY(ARRAY['ai.message']::text[])");
    }
}

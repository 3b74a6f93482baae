//! Whether two restores touch the same databases and folders.

use arkstream_format::{Component, RestorePhase, RestoreRecord, TargetPlace};
use arkstream_postgres::ConnectSpec;

/// Whether a record touches one of these places.
pub(super) fn touches(record: &RestoreRecord, places: &[TargetPlace]) -> bool {
    let shared = |place: &TargetPlace| places.iter().any(|other| same(place, other));
    record.targets.iter().any(|target| shared(&target.place))
}

/// The latest restore after this one that is live, or half-way, in its graph or its ChromaDB
/// directory: those are replaced as a whole. Of rows and files the stores tell what is left.
pub(super) fn newer<'a>(
    record: &RestoreRecord,
    all: &'a [RestoreRecord],
) -> Option<&'a RestoreRecord> {
    let whole = |component| matches!(component, Component::Graph | Component::Chroma);
    let places: Vec<TargetPlace> = record
        .targets
        .iter()
        .filter(|target| whole(target.component))
        .map(|target| target.place.clone())
        .collect();
    all.iter()
        .filter(|other| other.started_at > record.started_at)
        .filter(|other| {
            !matches!(
                other.phase,
                RestorePhase::Staging
                    | RestorePhase::Reverted
                    | RestorePhase::Discarded
                    | RestorePhase::Forgotten
            )
        })
        .filter(|other| touches(other, &places))
        .max_by_key(|other| other.started_at)
}

/// Where a restore stages, for people.
pub(super) fn staged(record: &RestoreRecord) -> Vec<String> {
    let of = |place: &TargetPlace| match place {
        TargetPlace::Models { staging_schema, .. } => format!("the schema {staging_schema}"),
        TargetPlace::Filestore { directory, .. } => {
            format!("{directory}/.arkstream_{}", record.restore_id)
        }
        TargetPlace::Graph { staging, .. } => format!("the database {staging}"),
        TargetPlace::Chroma { staging, .. } => staging.clone(),
    };
    record.targets.iter().map(|t| of(&t.place)).collect()
}

fn same(one: &TargetPlace, other: &TargetPlace) -> bool {
    match (one, other) {
        (
            TargetPlace::Models { connection, .. },
            TargetPlace::Models {
                connection: theirs, ..
            },
        ) => on_one_server(connection, theirs, |one, other| {
            one.database() == other.database()
        }),
        (
            TargetPlace::Graph {
                connection,
                database,
                ..
            },
            TargetPlace::Graph {
                connection: theirs,
                database: other,
                ..
            },
        ) => database == other && on_one_server(connection, theirs, |_, _| true),
        (
            TargetPlace::Filestore { directory, .. },
            TargetPlace::Filestore {
                directory: other, ..
            },
        )
        | (
            TargetPlace::Chroma { directory, .. },
            TargetPlace::Chroma {
                directory: other, ..
            },
        ) => directory == other,
        _ => false,
    }
}

fn on_one_server(
    one: &str,
    other: &str,
    also: impl Fn(&ConnectSpec, &ConnectSpec) -> bool,
) -> bool {
    match (ConnectSpec::parse(one), ConnectSpec::parse(other)) {
        (Ok(one), Ok(other)) => one.same_server(&other) && also(&one, &other),
        // What cannot be read is better taken for the same.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(connection: &str) -> TargetPlace {
        TargetPlace::Models {
            connection: connection.to_owned(),
            staging_schema: "arkstream_x".to_owned(),
            undo_schema: "arkstream_undo_x".to_owned(),
        }
    }

    #[test]
    fn a_database_is_the_same_whoever_connects_and_how() {
        let here = rows("postgresql://odoo@localhost:5433/prod");
        assert!(same(&here, &rows("postgresql://boss@127.0.0.1:5433/prod")));
        assert!(same(
            &here,
            &rows("host=/run/postgresql port=5433 dbname=prod user=x")
        ));
        assert!(!same(&here, &rows("postgresql://odoo@localhost:5433/test")));
        assert!(!same(&here, &rows("postgresql://odoo@localhost:5432/prod")));
        assert!(!same(
            &here,
            &rows("postgresql://odoo@db.example:5433/prod")
        ));
        let far = rows("postgresql://odoo@db.example:5433/prod");
        assert!(!same(
            &far,
            &rows("postgresql://odoo@other.example:5433/prod")
        ));
        assert!(!same(&here, &far));
        let folder = |directory: &str| TargetPlace::Chroma {
            directory: directory.to_owned(),
            staging: String::new(),
            kept: String::new(),
            existed: true,
        };
        assert!(same(&folder("/a"), &folder("/a")) && !same(&folder("/a"), &folder("/b")));
        assert!(!same(&folder("/a"), &here));
    }
}

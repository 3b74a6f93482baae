//! Loading beside the live data.

use std::sync::atomic::Ordering;
use std::time::Duration;

use arkstream_format::Component;
use arkstream_postgres::{Session, Staging};

use super::bundle::{bundle_of, restoring};
use super::export::try_export;
use super::support::{catalog, database, setting, table, task};

/// The server still works on the commit of a process that was killed when the next one loads the
/// same part.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_appears_while_it_is_loaded_counts_as_loaded() {
    let (_, spec) = database(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)",
    );
    let setting = setting(1);
    let planned = table(&catalog(&spec).await, "t");
    let entries = try_export(&spec, &setting, vec![task(planned)], None)
        .await
        .unwrap();
    let part = entries[0].parts[0].member.clone();
    let bytes = setting.sink.contents()[&part].0.clone();
    let mut bundle = bundle_of(&part, Component::Models, vec![Some(bytes)]);
    bundle.manifest.tables = entries.clone();
    let restoring = restoring("0123456789abcdef", bundle);
    let staging = Staging::new("arkstream_0123456789abcdef");
    let session = Session::connect(&spec, "the restore").await.unwrap();
    let client = session.client();
    staging.create(client).await.unwrap();
    let staged = staging
        .table(client, &restoring, "s0", &entries[0])
        .await
        .unwrap();

    let orphan = Session::connect(&spec, "the one before").await.unwrap();
    let half = format!(
        "BEGIN; INSERT INTO {} SELECT * FROM public.t; INSERT INTO {} VALUES ('{part}', 100)",
        staged.sql,
        staging.name("parts")
    );
    orphan.client().batch_execute(&half).await.unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        orphan.client().batch_execute("COMMIT").await.unwrap();
    };
    let load = staging.load(client, &restoring, &staged, 0, true);
    let (rows, ()) = tokio::join!(load, late);
    assert_eq!(rows.unwrap(), 100);
    assert_eq!(restoring.kept.load(Ordering::Relaxed), 1);
    let count = format!("SELECT count(*) FROM {}", staged.sql);
    let row = client.query_one(&count, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 100);
}

//! The way back, right away and a day later.

use arkstream_pipeline::FailureKind;
use arkstream_postgres::{Session, Strategy, cutover};

use super::world::{UNDO, WAIT, World};

const ROWS: &str = "\
    CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE pair (a int, b int, x text, PRIMARY KEY (a, b)); \
    CREATE TABLE rel (a int, b int); \
    INSERT INTO t SELECT n, 'old' FROM generate_series(1, 10) n; INSERT INTO pair VALUES (1, 1, 'old'), (1, 2, 'old'); \
    INSERT INTO rel VALUES (1, 1)";

async fn restored() -> World {
    let world = World::new(ROWS).await;
    world.run("CREATE TABLE want.t AS SELECT n AS id, CASE WHEN n = 10 THEN 'old' ELSE 'new' END AS name FROM generate_series(3, 12) n").await;
    world
        .want("pair", "(1, 1, 'new'), (1, 2, 'new'), (2, 1, 'new')")
        .await;
    world.want("rel", "(1, 1), (2, 2), (2, 2)").await;
    let (catalog, diffs) = world.diffs(&["t", "pair", "rel"]).await;
    let options = World::options(Strategy::Auto, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    world
}

#[tokio::test]
async fn changed_since_lists_exactly_the_touched_rows_that_changed() {
    let world = restored().await;
    assert_eq!(world.changed().await, Vec::<String>::new());
    // Untouched by the restore: nobody's concern.
    world.run("UPDATE t SET name = 'mine' WHERE id = 10; INSERT INTO t VALUES (99, 'mine'); INSERT INTO rel VALUES (9, 9)").await;
    assert_eq!(world.changed().await, Vec::<String>::new());
    world
        .run(
            "UPDATE t SET name = 'changed' WHERE id IN (3, 11); DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (1, 'old'); \
             UPDATE pair SET x = 'changed' WHERE (a, b) = (1, 2); DELETE FROM rel WHERE ctid = (SELECT max(ctid) FROM rel WHERE a = 2)",
        )
        .await;
    assert_eq!(
        world.changed().await,
        [
            "t id 1 appeared again",
            "t id 3 was changed",
            "t id 4 was deleted",
            "t id 11 was changed",
            "pair a,b 1,2 was changed",
            "rel: 1 rows are no longer there",
        ]
    );
    world
        .run("UPDATE t SET name = 'changed' WHERE id > 2")
        .await;
    let lines = world.changed().await;
    let of_t: Vec<&String> = lines.iter().filter(|line| line.starts_with('t')).collect();
    assert_eq!(of_t.len(), 6, "{lines:?}");
    // Touched: 1–9, 11, 12; of these 2 is still as it was left.
    assert_eq!(of_t[5], "t: 5 more rows");
}

#[tokio::test]
async fn undo_overwrites_what_changed_since_and_leaves_the_rest() {
    let world = restored().await;
    world
        .run(
            "UPDATE t SET name = 'mine' WHERE id = 10; INSERT INTO t VALUES (99, 'mine'), (1, 'again'); INSERT INTO rel VALUES (9, 9); \
             UPDATE t SET name = 'changed' WHERE id = 3; DELETE FROM t WHERE id IN (4, 11); DELETE FROM rel WHERE a = 2",
        )
        .await;
    let undone = world.undo().await.unwrap();
    let t = &undone.tables[0];
    assert_eq!((t.inserted, t.updated, t.deleted), (2, 7, 1));
    let mut wanted: Vec<String> = (1..=9).map(|n| format!("({n},old)")).collect();
    wanted.extend(["(10,mine)".to_owned(), "(99,mine)".to_owned()]);
    wanted.sort();
    assert_eq!(world.rows("t").await, wanted);
    assert_eq!(world.rows("pair").await, ["(1,1,old)", "(1,2,old)"]);
    assert_eq!(world.rows("rel").await, ["(1,1)", "(9,9)"]);
}

#[tokio::test]
async fn undo_happens_once() {
    let world = restored().await;
    let client = world.session.client();
    assert!(world.is_live().await);
    let second = Session::connect(&world.spec, "second").await.unwrap();
    let (one, two) = tokio::join!(world.undo(), cutover::undo(&second, UNDO, WAIT));
    let done = [one.unwrap(), two.unwrap()];
    assert_eq!(
        done.iter()
            .filter(|applied| applied.tables.is_empty())
            .count(),
        1
    );
    assert!(!world.is_live().await);
    world.run("UPDATE t SET name = 'later'").await;
    world.undo().await.unwrap();
    assert_eq!(
        world
            .number("SELECT count(*) FROM t WHERE name = 'later'")
            .await,
        10
    );
    assert!(world.undo().await.unwrap().tables.is_empty());
    // The session is free of transactions.
    client.batch_execute("VACUUM public.t").await.unwrap();
}

/// A writer that commits while the undo waits for the table is not overwritten unasked.
#[tokio::test]
async fn changes_are_looked_for_behind_the_locks() {
    let world = restored().await;
    let writer = world.other.client();
    writer
        .batch_execute("BEGIN; UPDATE t SET name = 'mine' WHERE id = 3")
        .await
        .unwrap();
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let prepared = cutover::prepare_undo(&world.session, UNDO, WAIT, false);
    let (undone, ()) = tokio::join!(prepared, late);
    assert_eq!(undone.unwrap().unwrap().changed, ["t id 3 was changed"]);
    world
        .session
        .client()
        .batch_execute("COMMIT")
        .await
        .unwrap();
    assert_eq!(
        world
            .number("SELECT count(*) FROM t WHERE name = 'mine'")
            .await,
        1
    );
    assert!(world.is_live().await);
}

/// The rows as a server commits them whose client was killed.
#[tokio::test]
async fn a_commit_in_doubt_is_waited_for() {
    let world = World::new(ROWS).await;
    world.want("t", "(1, 'new')").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let client = world.session.client();
    client.batch_execute("BEGIN").await.unwrap();
    let options = World::options(Strategy::Auto, false);
    cutover::apply(client, &catalog, &diffs, &options)
        .await
        .unwrap();
    let second = Session::connect(&world.spec, "second").await.unwrap();
    let short = std::time::Duration::from_millis(200);
    let refused = cutover::is_live(&second, UNDO, short).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.why().contains("the restore"), "{refused}");
    let late = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        client.batch_execute("COMMIT").await.unwrap();
    };
    let (live, ()) = tokio::join!(cutover::is_live(&second, UNDO, WAIT), late);
    assert!(live.unwrap());
}

#[tokio::test]
async fn commits_are_durable_where_the_server_has_switched_that_off() {
    let world = World::new(ROWS).await;
    let shown = async |session: &Session| {
        let row = session.client().query_one("SHOW synchronous_commit", &[]);
        row.await.unwrap().get::<_, String>(0)
    };
    for (set, expected) in [("off", "on"), ("remote_write", "remote_write")] {
        let database = world.spec.database();
        let sql = format!("ALTER DATABASE \"{database}\" SET synchronous_commit = {set}");
        world.run(&sql).await;
        let session = Session::connect(&world.spec, "test").await.unwrap();
        assert_eq!(shown(&session).await, set);
        session.make_commits_durable().await.unwrap();
        assert_eq!(shown(&session).await, expected);
    }
}

#[tokio::test]
async fn undo_of_rows_that_others_refer_to_since_says_so_and_empties_them() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p, q_id int REFERENCES p ON DELETE CASCADE)",
    )
    .await;
    world.want("p", "(1), (2)").await;
    let (catalog, diffs) = world.diffs(&["p"]).await;
    let options = World::options(Strategy::Auto, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    world
        .run("INSERT INTO c VALUES (1, 1, NULL), (2, NULL, 2), (3, NULL, NULL)")
        .await;
    assert_eq!(
        world.changed().await,
        [
            "public.c: 1 rows refer to restored rows by c_p_id_fkey (no action)",
            "public.c: 1 rows refer to restored rows by c_q_id_fkey (cascade)",
        ]
    );
    world.undo().await.unwrap();
    assert_eq!(world.rows("c").await, ["(1,,)", "(3,,)"]);
    assert_eq!(world.rows("p").await, Vec::<String>::new());
}

#[tokio::test]
async fn undo_that_no_longer_fits_changes_nothing() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY, code text CONSTRAINT one_code UNIQUE); INSERT INTO t VALUES (1, 'a')").await;
    world.want("t", "(1, 'b')").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let options = World::options(Strategy::Auto, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    world.run("INSERT INTO t VALUES (2, 'a')").await;
    let failure = world.undo().await.unwrap_err();
    assert!(failure.to_string().contains("one_code"), "{failure}");
    assert_eq!(world.rows("t").await, ["(1,b)", "(2,a)"]);
    assert!(world.is_live().await);
    world.run("DELETE FROM t WHERE id = 2").await;
    world.undo().await.unwrap();
    assert_eq!(world.rows("t").await, ["(1,a)"]);
}

#[tokio::test]
async fn tables_and_columns_that_are_gone_are_told() {
    let world = restored().await;
    world
        .run("ALTER TABLE pair DROP COLUMN x; DROP TABLE rel")
        .await;
    let failure = world.undo().await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    let told = "pair: columns are gone: x; public.rel is gone";
    assert!(failure.why().ends_with(told), "{failure}");
    assert!(world.is_live().await);
}

#[tokio::test]
async fn the_undo_schema_vanishes_with_the_transaction() {
    let world = World::new(ROWS).await;
    world.want("t", "(1, 'new')").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let client = world.session.client();
    client.batch_execute("BEGIN").await.unwrap();
    cutover::apply(
        client,
        &catalog,
        &diffs,
        &World::options(Strategy::Auto, false),
    )
    .await
    .unwrap();
    assert!(cutover::is_kept(client, UNDO).await.unwrap());
    world.session.rollback().await;
    assert!(!cutover::is_kept(client, UNDO).await.unwrap());
    assert!(world.undo().await.unwrap().tables.is_empty());
}

/// What the way back of new rows leaves empty must not be checked against the domain.
#[tokio::test]
async fn rows_with_columns_of_domains_that_forbid_null_come_and_go() {
    let world = World::new(
        "CREATE DOMAIN given AS text NOT NULL; CREATE TABLE t (id int PRIMARY KEY, value given); \
         INSERT INTO t VALUES (1, 'is changed'), (2, 'goes')",
    )
    .await;
    world.want("t", "(1, 'changes'), (3, 'comes')").await;
    let before = world.rows("t").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let options = World::options(Strategy::LiveKeys, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.rows("t").await, ["(1,changes)", "(3,comes)"]);
    world.undo().await.unwrap();
    assert_eq!(world.rows("t").await, before);
}

/// Rows are known again by their bytes. `aclitem` has none to send, of a composite nobody knows.
#[tokio::test]
async fn values_without_a_binary_form_are_known_again() {
    let world = World::new(
        "CREATE TYPE point_of AS (x int, acl aclitem); \
         CREATE TABLE t (id int PRIMARY KEY, acl aclitem, acls aclitem[], point point_of, n numeric); \
         INSERT INTO t VALUES (1, 'postgres=r/postgres', NULL, NULL, 1.0)",
    )
    .await;
    let brought = "(1, NULL, '{postgres=r/postgres}', '(1,postgres=w/postgres)', 1.0), \
                   (2, 'postgres=r/postgres', NULL, '(2,)', 1.0)";
    world.want("t", brought).await;
    let before = world.rows("t").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let options = World::options(Strategy::LiveKeys, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.changed().await, Vec::<String>::new());
    world.run("UPDATE t SET n = 1.00 WHERE id = 1").await;
    world.run("UPDATE t SET point.x = 3 WHERE id = 2").await;
    assert_eq!(
        world.changed().await,
        ["t id 1 was changed", "t id 2 was changed"]
    );
    world.undo().await.unwrap();
    assert_eq!(world.rows("t").await, before);
}

//! Rows outside the differences: found, shown, agreed to, kept, given back; and locks.

use std::time::Duration;

use arkstream_pipeline::FailureKind;
use arkstream_postgres::{Session, Strategy, cutover};

use super::world::World;

const FAMILY: &str = "\
    CREATE TABLE p (id int PRIMARY KEY, name text); \
    CREATE TABLE by_cascade (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE CASCADE, x text); \
    CREATE TABLE by_null (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE SET NULL, q_id int REFERENCES p ON DELETE SET NULL); \
    CREATE TABLE by_restrict (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE RESTRICT, x text); \
    CREATE TABLE by_need (id int PRIMARY KEY, p_id int NOT NULL REFERENCES p); \
    CREATE TABLE further (id int PRIMARY KEY, need_id int NOT NULL REFERENCES by_need, casc_id int NOT NULL REFERENCES by_cascade); \
    CREATE TABLE keyless (p_id int REFERENCES p ON DELETE SET NULL, x text); \
    CREATE TABLE pieces (id int, region int, p_id int REFERENCES p ON DELETE CASCADE, PRIMARY KEY (id, region)) PARTITION BY LIST (region); \
    CREATE TABLE pieces1 PARTITION OF pieces FOR VALUES IN (1); CREATE TABLE pieces2 PARTITION OF pieces FOR VALUES IN (2); \
    INSERT INTO p VALUES (1, 'a'), (2, 'b'), (3, 'c'); \
    INSERT INTO by_cascade VALUES (1, 1, 'x'), (2, 2, 'y'), (3, 3, 'z'); \
    INSERT INTO by_null VALUES (1, 1, 2), (2, 3, 1), (3, 3, 3), (4, 1, 1); \
    INSERT INTO by_restrict VALUES (1, 1, 'x'), (2, 3, 'z'); \
    INSERT INTO by_need VALUES (1, 1), (2, 3); \
    INSERT INTO further VALUES (1, 1, 1), (2, 1, 3), (3, 2, 1), (4, 2, 3); \
    INSERT INTO keyless VALUES (1, 'x'), (1, 'x'), (NULL, 'x'), (3, 'x'); \
    INSERT INTO pieces VALUES (1, 1, 3), (1, 2, 1), (2, 1, 1), (2, 2, 3)";

#[tokio::test]
async fn deletions_that_reach_outside_are_refused_with_a_list() {
    let world = World::new(FAMILY).await;
    world.want("p", "(3, 'c')").await;
    let former = world.everything().await;
    let (catalog, diffs) = world.diffs(&["p"]).await;
    let failure = world
        .apply(&catalog, &diffs, &World::options(Strategy::Auto, false))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    let text = failure.to_string();
    for part in [
        "2 rows of public.by_cascade",
        "(cascade)",
        "4 rows of public.by_null".trim_start_matches("4 "),
        "(set null)",
        "public.by_need",
        "(restrict)",
        "public.further",
        "public.keyless",
        "public.pieces",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(world.everything().await, former);

    let client = world.session.client();
    client.batch_execute("BEGIN").await.unwrap();
    let reach = cutover::reach(client, &catalog, &diffs).await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    let mut lines: Vec<String> = reach
        .iter()
        .map(|r| format!("{} {} {} {}", r.table, r.key, r.rule, r.rows))
        .collect();
    lines.retain(|line| !line.contains("further"));
    lines.sort();
    assert_eq!(
        lines,
        [
            "public.by_cascade by_cascade_p_id_fkey cascade 2",
            "public.by_need by_need_p_id_fkey no action 1",
            "public.by_null by_null_p_id_fkey set null 2",
            "public.by_null by_null_q_id_fkey set null 3",
            "public.by_restrict by_restrict_p_id_fkey restrict 1",
            "public.keyless keyless_p_id_fkey set null 2",
            "public.pieces pieces_p_id_fkey cascade 2",
        ]
    );
    let further: u64 = reach
        .iter()
        .filter(|r| r.table == "public.further")
        .map(|r| r.rows)
        .sum();
    assert_eq!(further, 3, "each row once, however it is reached");
    assert_eq!(world.everything().await, former);
}

#[tokio::test]
async fn what_cascade_changes_outside_is_exactly_that_and_comes_back() {
    let world = World::new(FAMILY).await;
    world.want("p", "(3, 'c')").await;
    world.round_trip(&["p"], true).await;
    let (catalog, diffs) = world.diffs(&["p"]).await;
    let options = World::options(Strategy::Auto, true);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.rows("by_cascade").await, ["(3,3,z)"]);
    assert_eq!(
        world.rows("by_null").await,
        ["(1,,)", "(2,3,)", "(3,3,3)", "(4,,)"]
    );
    assert_eq!(world.rows("by_restrict").await, ["(1,,x)", "(2,3,z)"]);
    assert_eq!(world.rows("by_need").await, ["(2,3)"]);
    assert_eq!(world.rows("further").await, ["(4,2,3)"]);
    assert_eq!(
        world.rows("keyless").await,
        ["(,x)", "(,x)", "(,x)", "(3,x)"]
    );
    assert_eq!(world.rows("pieces").await, ["(1,1,3)", "(2,2,3)"]);
}

#[tokio::test]
async fn outside_rows_that_refer_to_one_another_and_back_go_together() {
    // x and y: a required cycle. d, which goes anyway, refers to x, which is reached.
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); \
         CREATE TABLE x (id int PRIMARY KEY, p_id int NOT NULL REFERENCES p, y_id int NOT NULL); \
         CREATE TABLE y (id int PRIMARY KEY, p_id int NOT NULL REFERENCES p ON DELETE RESTRICT, x_id int NOT NULL REFERENCES x ON DELETE RESTRICT); \
         CREATE TABLE d (id int PRIMARY KEY, x_id int NOT NULL REFERENCES x, name text); \
         INSERT INTO p VALUES (1), (2); INSERT INTO x VALUES (1, 1, 1), (2, 2, 2); INSERT INTO y VALUES (1, 1, 1), (2, 2, 2); \
         INSERT INTO d VALUES (1, 1, 'a'), (2, 2, 'b'); ALTER TABLE x ADD FOREIGN KEY (y_id) REFERENCES y",
    )
    .await;
    world.want("p", "(2)").await;
    world.want("d", "(2, 2, 'b')").await;
    world.round_trip(&["d", "p"], true).await;
}

#[tokio::test]
async fn rows_of_a_table_of_the_differences_that_are_not_in_them_are_outside() {
    // Attachments: shared with models that are not restored.
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); \
         CREATE TABLE att (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE SET NULL, owner text); \
         CREATE TABLE rel (p_id int REFERENCES p ON DELETE CASCADE, owner text); \
         INSERT INTO p VALUES (1), (2); INSERT INTO att VALUES (1, 1, 'ours'), (2, 1, 'theirs'), (3, 2, 'theirs'); \
         INSERT INTO rel VALUES (1, 'ours'), (1, 'ours'), (1, 'theirs'), (2, 'theirs')",
    )
    .await;
    world.want("p", "(2)").await;
    world
        .want("att", "(2, 1, 'theirs'), (3, 2, 'theirs'), (4, 2, 'ours')")
        .await;
    world
        .want("rel", "(1, 'theirs'), (2, 'theirs'), (2, 'ours')")
        .await;
    let former = world.everything().await;
    let (catalog, diffs) = world.diffs(&["p", "att", "rel"]).await;
    for strategy in [Strategy::LiveKeys, Strategy::RebuildKeys] {
        let applied = world
            .apply(&catalog, &diffs, &World::options(strategy, true))
            .await
            .unwrap();
        let rows: u64 = applied.reach.iter().map(|r| r.rows).sum();
        assert_eq!(rows, 2, "{:?}", applied.reach);
        assert_eq!(
            world.rows("att").await,
            ["(2,,theirs)", "(3,2,theirs)", "(4,2,ours)"]
        );
        assert_eq!(world.rows("rel").await, ["(2,ours)", "(2,theirs)"]);
        assert_eq!(world.changed().await, Vec::<String>::new());
        world.undo().await.unwrap();
        assert_eq!(world.everything().await, former);
        world
            .run(&format!("DROP SCHEMA {} CASCADE", super::world::UNDO))
            .await;
    }
}

#[tokio::test]
async fn a_reference_that_an_update_does_not_set_is_found() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, name text, extra_id int REFERENCES p); \
         INSERT INTO p VALUES (1), (2); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
    )
    .await;
    world.want("p", "(2)").await;
    world.want("t", "(1, 'new', NULL), (2, 'new', NULL)").await;
    let former = world.everything().await;
    let catalog = world.catalog().await;
    let diffs = [
        world.diff(&catalog, "p").await,
        world
            .diff_of(
                &catalog,
                "public",
                "want",
                "t",
                &["id".to_owned(), "name".to_owned()],
            )
            .await,
    ];
    let refused = world
        .apply(&catalog, &diffs, &World::options(Strategy::Auto, false))
        .await;
    assert_eq!(refused.unwrap_err().kind, FailureKind::Refused);
    world
        .apply(&catalog, &diffs, &World::options(Strategy::Auto, true))
        .await
        .unwrap();
    assert_eq!(world.rows("t").await, ["(1,new,)", "(2,new,2)"]);
    world.undo().await.unwrap();
    assert_eq!(world.everything().await, former);
}

#[tokio::test]
async fn a_reference_made_while_the_restore_looks_is_not_lost() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE CASCADE); \
         INSERT INTO p VALUES (1)",
    )
    .await;
    world.want("p", "").await;
    let (catalog, diffs) = world.diffs(&["p"]).await;
    let writer = Session::connect(&world.spec, "writer").await.unwrap();
    writer
        .client()
        .batch_execute("BEGIN; INSERT INTO public.c VALUES (1, 1)")
        .await
        .unwrap();
    let options = World::options(Strategy::Auto, false);
    let apply = world.apply(&catalog, &diffs, &options);
    let commit = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while world.number(waiting).await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        writer.client().batch_execute("COMMIT").await.unwrap();
    };
    let (applied, ()) = tokio::join!(apply, commit);
    let failure = applied.expect_err("the new row refers to one that goes");
    assert!(
        failure.to_string().contains("1 rows of public.c"),
        "{failure}"
    );
    assert_eq!(world.number("SELECT count(*) FROM c").await, 1);
}

#[tokio::test]
async fn a_lock_that_is_not_to_be_had_names_who_holds_it() {
    let world = World::new("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE a (id int)").await;
    world.run("BEGIN; INSERT INTO t VALUES (1)").await;
    let catalog = world.catalog().await;
    let tables = [
        catalog.in_public("t").unwrap().table.clone(),
        catalog.in_public("a").unwrap().table.clone(),
    ];
    let client = world.session.client();
    client.batch_execute("BEGIN").await.unwrap();
    let failure = cutover::lock_tables(&world.session, &tables, Duration::from_millis(200))
        .await
        .unwrap_err();
    world.session.rollback().await;
    assert_eq!(failure.kind, FailureKind::Refused);
    let text = failure.to_string();
    for part in [
        "public.t".to_owned(),
        "somebody else".to_owned(),
        "cutover_owner_".to_owned(),
        "idle in transaction".to_owned(),
        format!("process {}", world.other.backend_pid()),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    world.run("COMMIT").await;
    client.batch_execute("BEGIN").await.unwrap();
    cutover::lock_tables(&world.session, &tables, Duration::from_millis(200))
        .await
        .unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted AND relation IN ('t'::regclass, 'a'::regclass)";
    assert_eq!(world.number(locked).await, 2);
    world.session.rollback().await;
}

/// A reader of a referenced table must be met before any other lock is held, not when the key is
/// dropped: he may wait for a table that is locked by then.
#[tokio::test]
async fn locks_for_dropped_keys_are_taken_before_all_others_or_not_at_all() {
    let world = World::new(
        "CREATE TABLE people (id int PRIMARY KEY); CREATE TABLE zebra (id int PRIMARY KEY, p int REFERENCES people)",
    )
    .await;
    world.run("BEGIN; SELECT * FROM people").await;
    let catalog = world.catalog().await;
    let tables = [catalog.in_public("zebra").unwrap().table.clone()];
    let client = world.session.client();
    let wait = Duration::from_millis(200);
    client.batch_execute("BEGIN").await.unwrap();
    cutover::lock_for(&world.session, &catalog, &tables, Strategy::LiveKeys, wait)
        .await
        .unwrap();
    world.session.rollback().await;
    client.batch_execute("BEGIN").await.unwrap();
    let failure = cutover::lock_for(
        &world.session,
        &catalog,
        &tables,
        Strategy::RebuildKeys,
        wait,
    )
    .await
    .unwrap_err()
    .to_string();
    world.session.rollback().await;
    for part in ["public.people", "readers", "somebody else"] {
        assert!(failure.contains(part), "{part} in {failure}");
    }
    world.run("COMMIT").await;
    client.batch_execute("BEGIN").await.unwrap();
    cutover::lock_for(
        &world.session,
        &catalog,
        &tables,
        Strategy::RebuildKeys,
        wait,
    )
    .await
    .unwrap();
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation IN ('people'::regclass, 'zebra'::regclass)";
    assert_eq!(world.number(locked).await, 2);
    world.session.rollback().await;
}

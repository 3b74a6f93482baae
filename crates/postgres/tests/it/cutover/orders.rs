//! The orders in which rows have to change, and what must survive it.

use arkstream_pipeline::FailureKind;
use arkstream_postgres::Strategy;

use super::world::{UNDO, World};

#[tokio::test]
async fn required_references_around_a_cycle_and_to_the_own_table() {
    let world = World::new(
        "CREATE TABLE a (id int PRIMARY KEY, b_id int NOT NULL, parent_id int NOT NULL, name text); \
         CREATE TABLE b (id int PRIMARY KEY, a_id int NOT NULL); \
         INSERT INTO a VALUES (1, 1, 1, 'x'), (2, 2, 1, 'y'); INSERT INTO b VALUES (1, 2), (2, 1); \
         ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b ON DELETE RESTRICT, \
                       ADD FOREIGN KEY (parent_id) REFERENCES a ON DELETE RESTRICT; \
         ALTER TABLE b ADD FOREIGN KEY (a_id) REFERENCES a ON DELETE CASCADE",
    )
    .await;
    world
        .want("a", "(2, 4, 4, 'y'), (3, 3, 4, 'new'), (4, 4, 3, 'new')")
        .await;
    world.want("b", "(3, 4), (4, 3)").await;
    let applied = world.round_trip(&["a", "b"], false).await;
    assert_eq!(applied[0].keys_rebuilt, 0, "live keys suffice");
    assert_eq!(applied[1].keys_rebuilt, 3);
    let counts = |n: usize| {
        let t = &applied[0].tables[n];
        (t.table.clone(), t.inserted, t.updated, t.deleted)
    };
    assert_eq!(counts(0), ("public.a".to_owned(), 2, 1, 1));
    assert_eq!(counts(1), ("public.b".to_owned(), 2, 0, 2));
}

#[tokio::test]
async fn rows_that_stay_lose_their_reference_before_it_goes() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p ON DELETE CASCADE, \
           q_id int NOT NULL REFERENCES p ON DELETE CASCADE); \
         INSERT INTO p VALUES (1), (2); INSERT INTO c VALUES (1, 1, 1), (2, 2, 1)",
    )
    .await;
    world.want("p", "(2), (3)").await;
    world.want("c", "(1, NULL, 3), (2, 2, 2)").await;
    world.round_trip(&["c", "p"], false).await;
}

#[tokio::test]
async fn unique_values_swap_and_move_to_other_rows() {
    let world = World::new(
        "CREATE TABLE u (id int PRIMARY KEY, code text NOT NULL, low text, day int4range, active bool, n int, \
           CONSTRAINT \"Code\" UNIQUE (code), CONSTRAINT days EXCLUDE USING gist (day WITH &&), \
           CONSTRAINT late UNIQUE (n) DEFERRABLE INITIALLY DEFERRED); \
         CREATE UNIQUE INDEX \"Low\" ON u (lower(low)) WHERE active; CREATE UNIQUE INDEX u_n ON u (n NULLS FIRST, id DESC); \
         CREATE TABLE r (id int PRIMARY KEY, code text REFERENCES u (code) DEFERRABLE INITIALLY DEFERRED); \
         COMMENT ON CONSTRAINT \"Code\" ON u IS 'it''s said'; COMMENT ON INDEX \"Low\" IS 'back\\slash'; \
         ALTER TABLE u REPLICA IDENTITY USING INDEX \"Code\", CLUSTER ON \"Code\"; \
         INSERT INTO u VALUES (1, 'a', 'A', '[1,5)', true, 1), (2, 'b', 'B', '[5,9)', true, 2), (3, 'c', 'C', '[9,12)', true, 3); \
         INSERT INTO r VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    .await;
    world
        .want(
            "u",
            "(1, 'b', 'b', '[5,9)', true, 2), (2, 'a', 'a', '[1,5)', true, 1), (4, 'c', 'C', '[9,12)', true, 3)",
        )
        .await;
    world
        .want("r", "(1, 'b'), (2, 'a'), (3, 'c'), (4, 'a')")
        .await;
    world.round_trip(&["r", "u"], false).await;
}

#[tokio::test]
async fn unique_constraints_that_nothing_meets_are_left_alone() {
    let world = World::new(
        "CREATE TABLE u (id int PRIMARY KEY, code text UNIQUE, name text); \
         INSERT INTO u VALUES (1, 'a', 'x'), (2, 'b', 'y')",
    )
    .await;
    world.want("u", "(1, 'a', 'new'), (3, 'd', 'z')").await;
    let sql = "SELECT 'u_code_key'::regclass::oid::int8";
    let before = world.number(sql).await;
    let (catalog, diffs) = world.diffs(&["u"]).await;
    let options = World::options(Strategy::LiveKeys, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.number(sql).await, before);
}

#[tokio::test]
async fn rebuilt_keys_keep_their_names_states_and_comments() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY, x int, UNIQUE (id, x)); \
         CREATE TABLE c (id int PRIMARY KEY, a int, b int, d int, e int, x int); \
         INSERT INTO p VALUES (1, 1), (2, 2); INSERT INTO c VALUES (1, 1, 77, 1, 1, 1); \
         ALTER TABLE c ADD CONSTRAINT \"Odd Name\" FOREIGN KEY (a) REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE, \
           ADD CONSTRAINT doubtful FOREIGN KEY (b) REFERENCES p NOT VALID, \
           ADD CONSTRAINT late FOREIGN KEY (d) REFERENCES p DEFERRABLE INITIALLY DEFERRED, \
           ADD CONSTRAINT pair FOREIGN KEY (e, x) REFERENCES p (id, x) MATCH FULL ON DELETE CASCADE; \
         COMMENT ON CONSTRAINT \"Odd Name\" ON c IS 'kept'",
    )
    .await;
    world.want("p", "(2, 2), (3, 3)").await;
    world
        .want("c", "(1, 2, 77, 3, 2, 2), (2, NULL, 3, 3, 3, 3)")
        .await;
    let applied = world.round_trip(&["c", "p"], false).await;
    assert!(applied[1].keys_rebuilt >= 4);
}

#[tokio::test]
async fn auto_rebuilds_above_the_given_number_of_rows() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p)",
    )
    .await;
    world.want("p", "(1), (2)").await;
    world.want("c", "(1, 1)").await;
    for (limit, rebuilt) in [(3, 0), (2, 1)] {
        let (catalog, diffs) = world.diffs(&["p", "c"]).await;
        let mut options = World::options(Strategy::Auto, false);
        options.rebuild_above_rows = limit;
        let applied = world.apply(&catalog, &diffs, &options).await.unwrap();
        assert_eq!(applied.keys_rebuilt, rebuilt);
        world.undo().await.unwrap();
        world.run(&format!("DROP SCHEMA {UNDO} CASCADE")).await;
    }
}

#[tokio::test]
async fn identities_heirs_partitions() {
    let world = World::new(
        "CREATE TABLE counted (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, name text); \
         INSERT INTO counted (id, name) VALUES (1, 'a'), (2, 'b'); \
         CREATE TABLE base (id int PRIMARY KEY, name text); CREATE TABLE heir () INHERITS (base); \
         INSERT INTO base VALUES (1, 'base'), (2, 'base'); INSERT INTO heir VALUES (1, 'heir'), (2, 'heir'); \
         CREATE TABLE part (id int, region int, name text, PRIMARY KEY (id, region)) PARTITION BY LIST (region); \
         CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1); CREATE TABLE part2 PARTITION OF part FOR VALUES IN (2); \
         INSERT INTO part VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c'), (2, 2, 'd'); \
         CREATE TABLE logged (region int, what text) PARTITION BY LIST (region); \
         CREATE TABLE logged1 PARTITION OF logged FOR VALUES IN (1); CREATE TABLE logged2 PARTITION OF logged FOR VALUES IN (2); \
         INSERT INTO logged VALUES (1, 'a'), (1, 'a'), (2, 'a'), (2, 'b')",
    )
    .await;
    world.want("counted", "(1, 9, 'a'), (3, 8, 'c')").await;
    world.want("base", "(2, 'other'), (3, 'base')").await;
    world
        .want(
            "part",
            "(1, 1, 'new'), (2, 2, 'd'), (3, 1, 'x'), (3, 2, 'y')",
        )
        .await;
    world
        .want("logged", "(1, 'a'), (2, 'b'), (2, 'b'), (1, 'c')")
        .await;
    let tables = ["counted", "base", "part", "logged"];
    world.round_trip(&tables, false).await;
}

#[tokio::test]
async fn row_security_that_binds_the_owner_is_lifted_and_comes_back() {
    let world = World::new(
        "CREATE TABLE guarded (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, \
           up text GENERATED ALWAYS AS (upper(name)) STORED); \
         INSERT INTO guarded (name) VALUES ('a'), ('b'), ('c'); \
         CREATE POLICY none ON guarded USING (false); \
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    )
    .await;
    world.run("CREATE TABLE want.guarded AS SELECT 0 AS id, ''::text AS name, ''::text AS up WHERE false; \
               INSERT INTO want.guarded VALUES (1, 'new', 'NEW'), (2, 'b', 'B'), (7, 'seven', 'SEVEN')").await;
    world
        .run("ALTER TABLE guarded NO FORCE ROW LEVEL SECURITY")
        .await;
    let former = world.rows("guarded").await;
    let (catalog, diffs) = world.diffs(&["guarded"]).await;
    world
        .run("ALTER TABLE guarded FORCE ROW LEVEL SECURITY")
        .await;
    let shape = world.shape("public").await;
    let options = World::options(Strategy::LiveKeys, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.shape("public").await, shape);
    assert_eq!(world.changed().await, Vec::<String>::new());
    world
        .run("ALTER TABLE guarded NO FORCE ROW LEVEL SECURITY")
        .await;
    assert_eq!(
        world.rows("guarded").await,
        world.rows("want.guarded").await
    );
    world
        .run("ALTER TABLE guarded FORCE ROW LEVEL SECURITY")
        .await;
    world.undo().await.unwrap();
    assert_eq!(world.shape("public").await, shape);
    world
        .run("ALTER TABLE guarded NO FORCE ROW LEVEL SECURITY")
        .await;
    assert_eq!(world.rows("guarded").await, former);
}

#[tokio::test]
async fn columns_that_are_not_given_keep_their_values_or_take_their_default() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, name text, more text DEFAULT 'default'); \
         INSERT INTO t VALUES (1, 'a', 'mine'), (2, 'b', 'gone')",
    )
    .await;
    world.want("t", "(1, 'new', NULL), (3, 'c', NULL)").await;
    let catalog = world.catalog().await;
    let columns = ["id".to_owned(), "name".to_owned()];
    let diffs = [world
        .diff_of(&catalog, "public", "want", "t", &columns)
        .await];
    let options = World::options(Strategy::Auto, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(world.rows("t").await, ["(1,new,mine)", "(3,c,default)"]);
    world.undo().await.unwrap();
    assert_eq!(world.rows("t").await, ["(1,a,mine)", "(2,b,gone)"]);
}

#[tokio::test]
async fn rows_without_a_key_are_counted() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE rel (a int REFERENCES p ON DELETE CASCADE, b text); \
         INSERT INTO p VALUES (1), (2); INSERT INTO rel VALUES (1, 'x'), (1, 'x'), (1, 'x'), (2, NULL), (2, NULL), (NULL, '')",
    )
    .await;
    world.want("p", "(1), (3)").await;
    world
        .want("rel", "(1, 'x'), (NULL, ''), (NULL, ''), (3, NULL)")
        .await;
    world.round_trip(&["p", "rel"], false).await;
}

#[tokio::test]
async fn a_table_without_a_key_is_not_taken_in_part() {
    let world = World::new(
        "CREATE TABLE rel (a int, b int, kept text); INSERT INTO rel VALUES (1, 1, 'k')",
    )
    .await;
    world.want("rel", "").await;
    let catalog = world.catalog().await;
    let columns = ["a".to_owned(), "b".to_owned()];
    let diffs = [world
        .diff_of(&catalog, "public", "want", "rel", &columns)
        .await];
    let failure = world
        .apply(&catalog, &diffs, &World::options(Strategy::Auto, true))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Incompatible);
    assert!(failure.why().contains("kept"), "{failure}");
}

#[tokio::test]
async fn a_violation_names_table_and_constraint_and_leaves_nothing() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int CONSTRAINT to_p REFERENCES p, \
         code text CONSTRAINT one_code UNIQUE, secret text); INSERT INTO c VALUES (1, NULL, 'a', 's')",
    )
    .await;
    world
        .want("c", "(1, NULL, 'a', 's'), (2, 5, 'b', 'hidden value')")
        .await;
    let former = world.everything().await;
    let (catalog, diffs) = world.diffs(&["c"]).await;
    for strategy in [Strategy::LiveKeys, Strategy::RebuildKeys] {
        let failure = world
            .apply(&catalog, &diffs, &World::options(strategy, false))
            .await
            .unwrap_err();
        let text = failure.to_string();
        assert!(
            text.contains("to_p") && text.contains("(p_id)=(5)"),
            "{text}"
        );
        assert!(!text.contains("hidden value"), "{text}");
    }
    world.run("UPDATE want.c SET p_id = NULL, code = 'a'").await;
    let (catalog, diffs) = world.diffs(&["c"]).await;
    let failure = world
        .apply(&catalog, &diffs, &World::options(Strategy::Auto, false))
        .await
        .unwrap_err();
    assert!(failure.to_string().contains("one_code"), "{failure}");
    assert_eq!(world.everything().await, former);
    assert!(!world.is_live().await);
}

#[tokio::test]
async fn triggers_run_and_one_that_swallows_rows_is_not_overlooked() {
    let world = World::new(
        "CREATE TABLE t (id int PRIMARY KEY, name text); CREATE TABLE seen (what text); \
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.seen VALUES (TG_OP); RETURN NULL; END$$; \
         CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION see(); \
         INSERT INTO t VALUES (1, 'a'), (2, 'b'); TRUNCATE seen",
    )
    .await;
    world.want("t", "(1, 'new'), (3, 'c')").await;
    let (catalog, diffs) = world.diffs(&["t"]).await;
    let options = World::options(Strategy::Auto, false);
    world.apply(&catalog, &diffs, &options).await.unwrap();
    assert_eq!(
        world.rows("seen").await,
        ["(DELETE)", "(INSERT)", "(UPDATE)"]
    );
    world.undo().await.unwrap();
    world
        .run(&format!(
            "DROP SCHEMA {UNDO} CASCADE; CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$; \
             CREATE TRIGGER swallow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION swallow()"
        ))
        .await;
    let failure = world.apply(&catalog, &diffs, &options).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.to_string().contains("public.t"), "{failure}");
}

#[tokio::test]
async fn differences_that_contradict_themselves_are_refused() {
    let world = World::new(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, name text, p_id int REFERENCES p ON DELETE CASCADE); \
         INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 'a', 1)",
    )
    .await;
    world.want("p", "").await;
    world.want("c", "(1, 'new', 1)").await;
    let former = world.everything().await;
    let (catalog, diffs) = world.diffs(&["p", "c"]).await;
    let failure = world
        .apply(&catalog, &diffs, &World::options(Strategy::LiveKeys, true))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.to_string().contains("public.p"), "{failure}");
    assert_eq!(world.everything().await, former);
}

use super::*;

fn table<'a>(oid: u32, name: &'a str, columns: &[&'a str]) -> RelationFacts<'a> {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    RelationFacts {
        oid,
        schema,
        name,
        ownable: true,
        columns: columns.iter().chain(MAGIC).copied().collect(),
    }
}

/// A model with a table, as `ir_model_fields` shows it: with a creator.
fn model<'a>(name: &'a str, columns: &[&'a str]) -> ModelFacts<'a> {
    ModelFacts {
        name,
        columns: columns.iter().chain(MAGIC).copied().collect(),
        ..ModelFacts::default()
    }
}

fn abstract_model<'a>(name: &'a str, columns: &[&'a str]) -> ModelFacts<'a> {
    ModelFacts {
        name,
        columns: columns.iter().copied().chain(["id"]).collect(),
        ..ModelFacts::default()
    }
}

fn run(
    models: &[ModelFacts<'_>],
    tables: &[RelationFacts<'_>],
) -> (BTreeMap<String, Resolution>, Vec<String>) {
    resolve(models, tables, &BTreeSet::new())
}

#[test]
fn known_exceptions_come_before_the_dotted_name() {
    let tables = [
        table(1, "ir_act_window", &[]),
        table(2, "ir_act_report_xml", &[]),
        table(3, "ir_actions", &[]),
        table(4, "project_task_user_rel", &[]),
    ];
    let names = [
        ("ir.actions.act_window", 1),
        ("ir.actions.report", 2),
        ("ir.actions.actions", 3),
        ("ir.actions.act_window_close", 3),
        ("project.task.stage.personal", 4),
    ];
    let models: Vec<_> = names.iter().map(|(name, _)| model(name, &[])).collect();
    let (found, notes) = run(&models, &tables);
    for (name, oid) in names {
        assert_eq!(found[name], Resolution::Relation(oid), "{name}");
    }
    assert!(notes.is_empty(), "{notes:?}");
}

#[test]
fn a_model_without_a_relation_is_abstract() {
    let (found, _) = run(
        &[abstract_model("ai.service", &["name"])],
        &[table(1, "other", &["name"])],
    );
    assert_eq!(found["ai.service"], Resolution::Nothing);
}

#[test]
fn two_models_that_claim_one_table_are_told_apart_by_their_columns() {
    let tables = [table(1, "a_b_c", &["name", "score"])];
    let (found, notes) = run(
        &[
            model("a.b_c", &["name", "score"]),
            model("a_b.c", &["other"]),
        ],
        &tables,
    );
    assert_eq!(found["a.b_c"], Resolution::Relation(1));
    assert_eq!(found["a_b.c"], Resolution::Nothing);
    assert!(notes.iter().any(|note| note.contains("a_b_c")), "{notes:?}");
}

#[test]
fn an_abstract_model_does_not_take_a_table_from_its_namesake() {
    let tables = [table(1, "documentation_intelligence", &["name"])];
    let models = [
        abstract_model("documentation.intelligence", &["name"]),
        model("documentation_intelligence", &["name"]),
    ];
    let (found, _) = run(&models, &tables);
    assert_eq!(found["documentation_intelligence"], Resolution::Relation(1));
    assert_eq!(found["documentation.intelligence"], Resolution::Nothing);
}

#[test]
fn dot_to_underscore_is_not_injective_and_a_tie_is_ambiguous() {
    let tables = [table(1, "a_b_c", &["name"])];
    let (found, _) = run(
        &[model("a.b_c", &["name"]), model("a_b.c", &["name"])],
        &tables,
    );
    for name in ["a.b_c", "a_b.c"] {
        let Resolution::Ambiguous(why) = &found[name] else {
            panic!("{name}: {:?}", found[name]);
        };
        assert!(why.contains("a.b_c") && why.contains("a_b.c"), "{why}");
    }
}

#[test]
fn registered_foreign_keys_break_a_tie() {
    let tables = [table(1, "a_b_c", &["name"])];
    let mut owner = model("a_b.c", &["name"]);
    owner.constrained.insert(1);
    let (found, _) = run(&[model("a.b_c", &["name"]), owner], &tables);
    assert_eq!(found["a_b.c"], Resolution::Relation(1));
    assert_eq!(found["a.b_c"], Resolution::Nothing);
}

#[test]
fn a_table_of_another_name_is_found_by_its_columns_and_reported() {
    let tables = [
        table(1, "legacy_sessions", &["title", "started_at", "secret"]),
        table(2, "wide", &["title", "started_at", "a", "b", "c", "d"]),
    ];
    let (found, notes) = run(&[model("sam.legacy", &["title", "started_at"])], &tables);
    assert_eq!(found["sam.legacy"], Resolution::Relation(1));
    assert!(notes[0].contains("sam.legacy") && notes[0].contains("public.legacy_sessions"));
}

#[test]
fn a_table_of_another_name_is_found_by_registered_foreign_keys() {
    let tables = [table(1, "one", &["name"]), table(2, "two", &["name"])];
    let mut wanted = model("x.y", &["name"]);
    wanted.constrained.insert(2);
    let (found, _) = run(&[wanted], &tables);
    assert_eq!(found["x.y"], Resolution::Relation(2));
}

#[test]
fn evidence_that_fits_two_tables_or_two_models_decides_nothing() {
    let twins = [table(1, "one", &["name"]), table(2, "two", &["name"])];
    let (found, _) = run(&[model("x.y", &["name"])], &twins);
    assert_eq!(found["x.y"], Resolution::Nothing);
    let (found, notes) = run(
        &[model("x.y", &["name"]), model("x.z", &["name"])],
        &twins[..1],
    );
    assert_eq!(
        (&found["x.y"], &found["x.z"]),
        (&Resolution::Nothing, &Resolution::Nothing)
    );
    assert!(
        notes[0].contains("x.y") && notes[0].contains("x.z"),
        "{notes:?}"
    );
}

#[test]
fn views_partitions_and_many2many_tables_are_not_owned_by_evidence() {
    let mut view = table(1, "v", &["name"]);
    view.ownable = false;
    let mut relation = table(2, "rel", &["name"]);
    relation.columns.remove("id");
    let mut wanting = model("x.y", &["name"]);
    wanting.constrained.insert(2);
    let (found, _) = resolve(&[wanting], &[view, relation], &[2].into());
    assert_eq!(found["x.y"], Resolution::Nothing);
}

#[test]
fn a_many2many_table_with_an_id_may_be_a_models() {
    let relation = table(2, "member_mode_rel", &["member_id", "mode_id"]);
    let models = [model("sam.member.mode", &["member_id", "mode_id"])];
    let (found, _) = resolve(&models, &[relation], &[2].into());
    assert_eq!(found["sam.member.mode"], Resolution::Relation(2));
}

#[test]
fn a_table_without_audit_columns_is_found_all_the_same() {
    let mut bare = table(1, "x_matrix", &["a", "b"]);
    bare.columns.remove("create_uid");
    let (found, _) = run(&[model("sam.matrix", &["a", "b"])], &[bare]);
    assert_eq!(found["sam.matrix"], Resolution::Relation(1));
}

#[test]
fn public_comes_before_other_schemas_and_two_others_are_ambiguous() {
    let tables = [
        table(1, "archive.ai_message", &[]),
        table(2, "ai_message", &[]),
        table(3, "one.sam_note", &[]),
        table(4, "two.sam_note", &[]),
        table(5, "one.sam_only", &[]),
    ];
    let models = [
        model("ai.message", &[]),
        model("sam.note", &[]),
        model("sam.only", &[]),
    ];
    let (found, _) = run(&models, &tables);
    assert_eq!(found["ai.message"], Resolution::Relation(2));
    assert_eq!(found["sam.only"], Resolution::Relation(5));
    assert!(
        matches!(&found["sam.note"], Resolution::Ambiguous(why) if why.contains("one.sam_note"))
    );
}

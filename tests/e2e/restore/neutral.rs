//! A copy that does not act.

use super::stage::{Place, bundle, json_of};
use crate::support::{Stack, arkstream, run};

const MAIL_SERVER: &str = "CREATE TABLE ir_mail_server (id serial PRIMARY KEY, name varchar NOT NULL, smtp_host varchar, smtp_port int, \
     smtp_encryption varchar NOT NULL, smtp_authentication varchar NOT NULL, active bool); \
     INSERT INTO ir_mail_server (name, smtp_host, smtp_encryption, smtp_authentication, active) VALUES ('out', 'mail.example.com', 'none', 'login', true); \
     ALTER TABLE ir_mail_server OWNER TO odoo";

#[test]
fn a_neutralised_copy_does_not_act() {
    let place = Place::copy();
    place.sql(
        "CREATE TABLE IF NOT EXISTS ir_mail_server (id serial PRIMARY KEY, name varchar, active bool); \
         INSERT INTO ir_mail_server (name, active) VALUES ('out', true); ALTER TABLE ir_mail_server OWNER TO odoo; \
         UPDATE ir_cron SET active = true",
    );
    assert_ne!(place.sql("SELECT count(*) FROM ir_cron WHERE active"), "0");
    let report = json_of(
        place
            .rows(bundle())
            .args(["--mode", "replace", "--neutralize"]),
    );
    assert_eq!(
        place.sql("SELECT count(*) FROM ir_mail_server WHERE active AND name = 'out'"),
        "0"
    );
    assert_eq!(place.sql("SELECT count(*) FROM ir_cron WHERE active"), "0");
    let notes = report["components"]["models"]["notes"].to_string();
    assert!(notes.contains("1 outgoing mail servers"), "{notes}");
    run(&mut place.after("undo")).ok();
    assert_eq!(
        place.sql("SELECT count(*) FROM ir_mail_server WHERE active AND name = 'out'"),
        "1"
    );
}

#[test]
fn a_neutralised_copy_sends_no_mail_by_the_server_of_odoos_configuration() {
    let place = Place::copy();
    place.sql(MAIL_SERVER);
    let before = place.every_row_of_tables();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let report = json_of(
            place
                .rows(bundle())
                .args(["--mode", "replace", "--neutralize"]),
        );
        kept.push(report["restore_id"].as_str().expect("a name").to_owned());
        assert_eq!(
            place.sql("SELECT name, smtp_host FROM ir_mail_server WHERE active"),
            "neutralization - disable emails|invalid"
        );
        assert_eq!(
            place
                .sql("SELECT value FROM ir_config_parameter WHERE key = 'database.is_neutralized'"),
            "true"
        );
        // Ids that were taken are not given again.
        assert_eq!(
            place.sql("SELECT max(id) <= (SELECT last_value FROM ir_mail_server_id_seq) FROM ir_mail_server"),
            "t"
        );
    }
    for name in kept.iter().rev() {
        let mut undo = arkstream();
        undo.args(["undo", name])
            .arg("--state-dir")
            .arg(&place.state);
        undo.env("PGPASSWORD", Stack::OWNER_PASSWORD);
        run(&mut undo).ok();
    }
    assert_eq!(place.every_row_of_tables(), before);
}

#[test]
fn a_neutralised_copy_of_everything_is_proven() {
    let (from, to) = (Place::copy(), Place::copy());
    from.sql("UPDATE ir_cron SET active = true");
    let path = from.bundle_of(&["--profile", "all"]);
    to.sql("INSERT INTO ir_config_parameter (id, key, value) VALUES (900, 'database.is_neutralized', 'false')");
    let report = json_of(to.rows(&path).args([
        "--mode",
        "replace",
        "--neutralize",
        "--missing-reference",
        "null",
        "--cascade",
    ]));
    assert_eq!(report["proof"]["holds"], true, "{report:#}");
    assert_eq!(
        to.sql("SELECT (SELECT count(*) FROM ir_cron WHERE active), (SELECT count(*) FROM res_users_apikeys), \
                (SELECT value FROM ir_config_parameter WHERE key = 'database.is_neutralized')"),
        "0|0|true"
    );
}

use arkstream_bundle::BundleFile;
use arkstream_odoo::target::models::*;
use arkstream_pipeline::*;
use arkstream_postgres::ConnectSpec;
use arkstream_sample::*;
use std::sync::Arc;
struct P;
impl Observer for P {
    fn event(&self, e: &Event) {
        if let Event::Warning(w) = e {
            println!("warn {w}")
        }
    }
}
#[tokio::main]
async fn main() {
    let dir = std::path::PathBuf::from("/tmp/dbg");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let server = Server::start(ServerOptions::default()).unwrap();
    for (db, seed, fs) in [("a", 1u64, "fa"), ("b", 2, "fb")] {
        server.create_database(db).unwrap();
        let c = server.superuser_connect(db).await.unwrap();
        let f = dir.join(fs);
        std::fs::create_dir_all(&f).unwrap();
        let mut o = OdooOptions::new(&f);
        o.scale = 0.05;
        o.seed = seed;
        o.owner_role = Some("odoo".into());
        OdooSample::build(&c, o).await.unwrap();
    }
    server
        .psql("postgres", "ALTER ROLE odoo PASSWORD 'pw'")
        .unwrap();
    let u=server.psql("a","select string_agg(format('UPDATE res_partner SET name=%L,email=%L WHERE id=%s;',name,email,id),'') from res_partner").unwrap();
    server.psql("b", &u).unwrap();
    let out = dir.join("b.zip");
    let prof = std::env::args().nth(2).unwrap_or("sam_ai".into());
    let s = std::process::Command::new("target/debug/arkstream")
        .args([
            "backup",
            "--odoo-db",
            &server.conninfo("a"),
            "--no-graph",
            "--no-chroma",
            "--no-filestore",
            "--profile",
            &prof,
            "--out",
        ])
        .arg(&out)
        .status()
        .unwrap();
    println!("backup {s}");
    let bundle = Arc::new(BundleFile::open(&out).unwrap());
    let r = Restoring {
        bundle: bundle.clone(),
        id: "abcdefghij012345".into(),
        observer: Arc::new(P),
        cancel: Cancel::default(),
        budget: Budget::new(128 << 20),
        jobs: 2,
    };
    let spec = ConnectSpec::parse(&format!(
        "postgresql://odoo:pw@127.0.0.1:{}/b",
        server.port()
    ))
    .unwrap();
    let mode = match std::env::args().nth(1).as_deref() {
        Some("merge") => Mode::Merge,
        _ => Mode::Replace,
    };
    let oc = match std::env::args().nth(3).as_deref() {
        Some("overwrite") => OnConflict::Overwrite,
        Some("newest") => OnConflict::Newest,
        _ => OnConflict::Keep,
    };
    let o = ModelsTargetOptions {
        mode: Some(mode),
        on_conflict: oc,
        missing_reference: MissingReference::Null,
        cascade: true,
        ..Default::default()
    };
    let mut t = ModelsTarget::new(spec, &r.id, o);
    let c = t.check(&r).await;
    for p in &c.problems {
        println!("PROBLEM {p} | {:?}", p.advice())
    }
    for w in &c.warnings {
        println!("WARN {w}")
    }
    let show = |n: &str, r: &Result<TargetPlan, Failure>| match r {
        Ok(p) => {
            println!("{n} ok");
            for t in &p.tables {
                if t.inserted + t.updated + t.deleted + t.renumbered > 0 {
                    println!(
                        "  {} i{} u{} d{} ={} ren{}",
                        t.table, t.inserted, t.updated, t.deleted, t.unchanged, t.renumbered
                    )
                }
            }
            for x in &p.references {
                if x.unmapped > 0 {
                    println!("  REF {x:?}")
                }
            }
            for x in &p.reach {
                println!("  REACH {x:?}")
            }
            for x in &p.notes {
                println!("  {x}")
            }
        }
        Err(e) => println!("{n} {e} | {:?}", e.advice()),
    };
    let t0 = std::time::Instant::now();
    let d = t.rehearse(&r).await;
    show("rehearse", &d);
    println!("{:?}", t0.elapsed());
    println!("stage {:?}", t.stage(&r).await.map_err(|e| e.to_string()));
    println!("{:?}", t0.elapsed());
    println!("verify {:?}", t.verify(&r).await.map_err(|e| e.to_string()));
    let before=server.psql("b","select md5(string_agg(t::text,'|' order by id)) from ai_message t; select md5(string_agg(t::text,'|' order by id)) from mail_message t;select md5(string_agg(t::text,'|' order by id)) from ir_attachment t;select md5(string_agg(t::text,'|' order by id)) from ir_model_data t").unwrap();
    let p = t.prepare(&r).await;
    println!(
        "prepare {} {:?} same plan {}",
        p.is_ok(),
        p.as_ref().err().map(|e| e.to_string()),
        p.as_ref().ok().map(|p| &p.tables) == d.as_ref().ok().map(|p| &p.tables)
    );
    println!("{:?}", t0.elapsed());
    println!(
        "standing {:?}",
        t.standing().await.map_err(|e| e.to_string())
    );
    println!("commit {:?}", t.commit(&r).await.map_err(|e| e.to_string()));
    println!(
        "standing {:?}",
        t.standing().await.map_err(|e| e.to_string())
    );
    match t.prove(&r).await {
        Ok(ps) => {
            println!(
                "proofs {} bad {:?}",
                ps.len(),
                ps.iter().filter(|p| !p.holds()).collect::<Vec<_>>()
            )
        }
        Err(e) => println!("prove {e}"),
    }
    println!("{:?}", t0.elapsed());
    println!(
        "changed {:?}",
        t.changed_since().await.map_err(|e| e.to_string())
    );
    println!("revert {:?}", t.revert().await.map_err(|e| e.to_string()));
    println!(
        "standing {:?}",
        t.standing().await.map_err(|e| e.to_string())
    );
    let after=server.psql("b","select md5(string_agg(t::text,'|' order by id)) from ai_message t; select md5(string_agg(t::text,'|' order by id)) from mail_message t;select md5(string_agg(t::text,'|' order by id)) from ir_attachment t;select md5(string_agg(t::text,'|' order by id)) from ir_model_data t").unwrap();
    println!("undo equal {}", before == after);
    println!(
        "discard {:?} forget {:?}",
        t.discard().await.is_ok(),
        t.forget().await.is_ok()
    );
}

//! From arguments, or from the record of a restore, to targets.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};

use arkstream_chroma::{ChromaTarget, ChromaTargetOptions};
use arkstream_format::{Component, RestoreRecord, TargetPlace};
use arkstream_odoo::{
    conf::OdooConf,
    target::{
        FilestoreTarget, FilestoreTargetOptions,
        models::{MissingReference, Mode, ModelsTarget, ModelsTargetOptions, OnConflict},
    },
};
use arkstream_pipeline::{BundleReader, Failure, FailureKind, Restoring, Target};
use arkstream_postgres::{ConnectSpec, GraphTarget, GraphTargetOptions};

use crate::args::{CredentialArgs, MissingReferenceArg, ModeArg, OnConflictArg, RestoreArgs};

/// How long table locks are waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// Components that can be restored.
const RESTORABLE: [Component; 4] = [
    Component::Models,
    Component::Filestore,
    Component::Graph,
    Component::Chroma,
];

/// What is restored: what the bundle has, or what was named of it.
pub(super) fn components(
    args: &RestoreArgs,
    bundle: &dyn BundleReader,
) -> Result<Vec<Component>, Failure> {
    let has = |component: &Component| {
        let members = &bundle.manifest().members;
        members.iter().any(|member| member.component == *component)
    };
    if args.components.is_empty() {
        // One of which everything is lost is not passed over in silence.
        let salvage = bundle.manifest().salvage.as_ref();
        let lost = |component: &Component| {
            let mut lost = salvage.iter().flat_map(|salvage| &salvage.lost);
            lost.any(|lost| lost.component == Some(*component))
        };
        let all = RESTORABLE.into_iter();
        return Ok(all
            .filter(|component| has(component) || lost(component))
            .collect());
    }
    let mut chosen = Vec::new();
    for name in &args.components {
        let component = name
            .parse::<Component>()
            .ok()
            .filter(|c| RESTORABLE.contains(c));
        let Some(component) = component else {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("restore the component {name:?}"),
                "there is no such component",
            )
            .help("--components takes models, filestore, graph, chroma"));
        };
        if !has(&component) {
            return Err(Failure::new(
                FailureKind::Usage,
                format!("restore the component {component}"),
                "the bundle does not have it",
            )
            .help("`arkstream show BUNDLE` says what it has"));
        }
        if !chosen.contains(&component) {
            chosen.push(component);
        }
    }
    Ok(chosen)
}

/// The targets of a new restore.
pub(super) fn open(
    args: &RestoreArgs,
    components: &[Component],
    restoring: &Restoring,
    state: &Path,
) -> Result<Vec<Box<dyn Target>>, Failure> {
    let conf = args.odoo_conf.as_deref().map(OdooConf::read).transpose()?;
    let odoo = odoo_database(args, conf.as_ref())?;
    let id = &restoring.id;
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for component in components {
        let target: Box<dyn Target> = match component {
            Component::Models => {
                let spec = odoo.clone().ok_or_else(|| {
                    unnamed(
                        *component,
                        "--odoo-db URL (or --odoo-conf FILE)",
                        components,
                    )
                })?;
                Box::new(ModelsTarget::new(spec, id, models_options(args)))
            }
            Component::Filestore => {
                let dir = filestore(args, conf.as_ref(), odoo.as_ref())
                    .ok_or_else(|| unnamed(*component, "--filestore DIR", components))?;
                Box::new(FilestoreTarget::new(
                    dir,
                    id,
                    FilestoreTargetOptions {
                        state_dir: state.to_owned(),
                        connection: odoo.clone(),
                    },
                )?)
            }
            Component::Graph => {
                let (admin, database, application) = graph(args)?
                    .ok_or_else(|| unnamed(*component, "--graph-db URL", components))?;
                let options = graph_options(&args.credentials, application, restoring.began_at);
                Box::new(GraphTarget::new(admin, &database, id, options))
            }
            Component::Chroma => {
                let dir = args
                    .chroma
                    .clone()
                    .ok_or_else(|| unnamed(*component, "--chroma DIR", components))?;
                Box::new(ChromaTarget::new(
                    dir,
                    id,
                    chroma_options(&args.credentials, restoring.began_at),
                )?)
            }
            Component::OdooDump | Component::Xlsx | Component::Description => continue,
        };
        targets.push(target);
    }
    Ok(targets)
}

/// A component of the bundle without a place to go to: never passed over in silence.
fn unnamed(component: Component, option: &str, components: &[Component]) -> Failure {
    let others: Vec<&str> = components
        .iter()
        .filter(|other| **other != component)
        .map(|other| other.name())
        .collect();
    Failure::new(
        FailureKind::Usage,
        format!("restore the component {component}"),
        "no target was named for it",
    )
    .help(if others.is_empty() {
        format!("name it with {option}")
    } else {
        format!(
            "name it with {option}, or leave it out with --components {}",
            others.join(",")
        )
    })
}

/// Connections that were named with their passwords. A record holds none.
#[derive(Default)]
pub(super) struct Given {
    connections: Vec<ConnectSpec>,
}

impl Given {
    pub(super) fn of(args: &RestoreArgs) -> Result<Self, Failure> {
        let conf = args.odoo_conf.as_deref().map(OdooConf::read).transpose()?;
        let odoo = odoo_database(args, conf.as_ref())?;
        let graph = graph(args)?.map(|(admin, ..)| admin);
        Ok(Self {
            connections: odoo.into_iter().chain(graph).collect(),
        })
    }

    /// The given connection to the same place, if there is one.
    fn find(&self, text: &str) -> Option<ConnectSpec> {
        self.connections
            .iter()
            .find(|spec| spec.without_password() == text)
            .cloned()
    }
}

/// The targets that another process left behind.
pub(super) fn reopen(
    record: &RestoreRecord,
    credentials: &CredentialArgs,
    given: &Given,
) -> Result<Vec<Box<dyn Target>>, Failure> {
    let odoo_spec = |text: &str| match given.find(text) {
        Some(spec) => Ok(spec),
        None => odoo_spec(text, credentials),
    };
    let graph_spec = |text: &str| match given.find(text) {
        Some(spec) => Ok(spec),
        None => graph_spec(text, credentials),
    };
    let id = &record.restore_id;
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    for target in &record.targets {
        let reopened: Box<dyn Target> = match &target.place {
            TargetPlace::Models { connection, .. } => Box::new(ModelsTarget::reopen(
                &target.place,
                odoo_spec(connection)?,
                ModelsTargetOptions {
                    lock_timeout: lock_timeout(credentials),
                    ..ModelsTargetOptions::default()
                },
            )?),
            TargetPlace::Filestore { connection, .. } => {
                let spec = connection.as_deref().map(odoo_spec).transpose()?;
                Box::new(FilestoreTarget::reopen(&target.place, id, spec)?)
            }
            TargetPlace::Graph { connection, .. } => Box::new(GraphTarget::reopen(
                &target.place,
                id,
                graph_spec(connection)?,
                graph_options(credentials, None, record.started_at),
            )?),
            TargetPlace::Chroma { .. } => Box::new(ChromaTarget::reopen(
                &target.place,
                chroma_options(credentials, record.started_at),
            )?),
        };
        targets.push(reopened);
    }
    Ok(targets)
}

fn odoo_database(
    args: &RestoreArgs,
    conf: Option<&OdooConf>,
) -> Result<Option<ConnectSpec>, Failure> {
    match (&args.odoo_db, conf) {
        (Some(url), _) => odoo_spec(url, &args.credentials).map(Some),
        (None, Some(conf)) => {
            let spec = conf.connect_spec(None)?;
            with_password(spec, args.credentials.password_file.as_deref()).map(Some)
        }
        (None, None) => Ok(None),
    }
}

fn odoo_spec(text: &str, credentials: &CredentialArgs) -> Result<ConnectSpec, Failure> {
    with_password(
        ConnectSpec::parse(text)?,
        credentials.password_file.as_deref(),
    )
}

fn graph_spec(text: &str, credentials: &CredentialArgs) -> Result<ConnectSpec, Failure> {
    with_password(
        ConnectSpec::parse(text)?,
        credentials.graph_password_file.as_deref(),
    )
}

fn with_password(spec: ConnectSpec, file: Option<&Path>) -> Result<ConnectSpec, Failure> {
    match file {
        Some(file) => spec.with_password_file(file),
        None => Ok(spec),
    }
}

/// The filestore: as named, or where odoo.conf has that of the database. It need not exist.
fn filestore(
    args: &RestoreArgs,
    conf: Option<&OdooConf>,
    odoo: Option<&ConnectSpec>,
) -> Option<PathBuf> {
    match (&args.filestore, conf, odoo) {
        (Some(dir), ..) => Some(dir.clone()),
        (None, Some(conf), Some(odoo)) => conf
            .data_dir
            .as_ref()
            .map(|dir| dir.join("filestore").join(odoo.database())),
        _ => None,
    }
}

/// The administrator's connection, the database's name, the application's connection.
fn graph(
    args: &RestoreArgs,
) -> Result<Option<(ConnectSpec, String, Option<ConnectSpec>)>, Failure> {
    let application = args
        .graph_db
        .as_deref()
        .map(ConnectSpec::parse)
        .transpose()?;
    let admin = args
        .graph_admin_db
        .as_deref()
        .map(|text| graph_spec(text, &args.credentials))
        .transpose()?;
    Ok(match (admin, application) {
        (Some(admin), Some(application)) => {
            let database = application.database().to_owned();
            Some((admin, database, Some(application)))
        }
        (Some(admin), None) => {
            let database = admin.database().to_owned();
            Some((admin, database, None))
        }
        (None, Some(application)) => {
            let admin = with_password(
                application.clone(),
                args.credentials.graph_password_file.as_deref(),
            )?;
            Some((admin, application.database().to_owned(), None))
        }
        (None, None) => None,
    })
}

fn models_options(args: &RestoreArgs) -> ModelsTargetOptions {
    ModelsTargetOptions {
        mode: args.mode.map(|mode| match mode {
            ModeArg::Replace => Mode::Replace,
            ModeArg::Merge => Mode::Merge,
        }),
        on_conflict: match args.on_conflict {
            OnConflictArg::Keep => OnConflict::Keep,
            OnConflictArg::Overwrite => OnConflict::Overwrite,
            OnConflictArg::Newest => OnConflict::Newest,
        },
        missing_reference: match args.missing_reference {
            MissingReferenceArg::Fail => MissingReference::Fail,
            MissingReferenceArg::Null => MissingReference::Null,
        },
        models: args.models.clone(),
        cascade: args.cascade,
        allow_version_mismatch: args.allow_version_mismatch,
        neutralize: args.neutralize,
        lock_timeout: lock_timeout(&args.credentials),
    }
}

fn graph_options(
    credentials: &CredentialArgs,
    application: Option<ConnectSpec>,
    now: DateTime<Utc>,
) -> GraphTargetOptions {
    GraphTargetOptions {
        terminate_connections: credentials.terminate_connections,
        pg_path: credentials.pg_path.clone(),
        now,
        application,
        lock_timeout: lock_timeout(credentials),
    }
}

fn chroma_options(credentials: &CredentialArgs, now: DateTime<Utc>) -> ChromaTargetOptions {
    ChromaTargetOptions {
        allow_busy: credentials.allow_busy_chroma,
        now,
    }
}

fn lock_timeout(credentials: &CredentialArgs) -> Duration {
    credentials.lock_timeout.unwrap_or(LOCK_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_takes_what_can_be_restored() {
        let names = RESTORABLE.map(|component| component.name());
        assert_eq!(names, crate::args::COMPONENTS);
    }
}

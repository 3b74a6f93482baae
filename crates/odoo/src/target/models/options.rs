//! How rows are restored.

use std::time::Duration;

/// What becomes of rows that the target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The restored models' rows become exactly the bundle's.
    Replace,
    /// The bundle's rows are added; rows that both have follow [`OnConflict`].
    Merge,
}

/// Which side wins where both have a row, in [`Mode::Merge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnConflict {
    /// The target's row stays.
    #[default]
    Keep,
    /// The bundle's row is taken.
    Overwrite,
    /// The one that was written last; where nobody knows, the target's.
    Newest,
}

/// What becomes of references to rows that are not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MissingReference {
    /// The restore is refused, with a list.
    #[default]
    Fail,
    /// They are emptied, and counted.
    Null,
}

/// How rows are restored.
#[derive(Clone, Debug)]
pub struct ModelsTargetOptions {
    /// `None`: `replace` into empty tables, otherwise the check asks for a word.
    pub mode: Option<Mode>,
    /// Which side wins in `merge`.
    pub on_conflict: OnConflict,
    /// What becomes of references to rows that are not found.
    pub missing_reference: MissingReference,
    /// Names and globs; empty restores all models of the bundle.
    pub models: Vec<String>,
    /// Whether deletions may reach tables outside the scope.
    pub cascade: bool,
    /// Whether another major version of Odoo, and missing columns, are let through.
    pub allow_version_mismatch: bool,
    /// Whether the target becomes a copy that does not act.
    pub neutralize: bool,
    /// How long table locks are waited for.
    pub lock_timeout: Duration,
}

impl Default for ModelsTargetOptions {
    fn default() -> Self {
        Self {
            mode: None,
            on_conflict: OnConflict::default(),
            missing_reference: MissingReference::default(),
            models: Vec::new(),
            cascade: false,
            allow_version_mismatch: false,
            neutralize: false,
            lock_timeout: Duration::from_secs(60),
        }
    }
}

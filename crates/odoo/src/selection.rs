//! The user's choice of models: a profile, narrowed by names and globs.
//!
//! * `sam_ai` (the default) is the inventory and everything of its kind: every other model that a
//!   module named `ai_*` or `sam_*` defines, and every model whose name starts like them.
//! * `all` is every table of the database.
//! * A file holds one model or glob a line; `#` starts a comment.
//!
//! `--models` takes the place of the profile's choice, `--exclude` takes away from it. In globs,
//! `*` stands for any characters, dots included. A name or glob that matches nothing is an error:
//! a slip of the pen must neither lose a model nor let one through.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use arkstream_pipeline::{Failure, FailureKind, words::nearest};
use globset::{Glob, GlobMatcher};

use crate::inventory::aliases;

/// Modules and models of the stack are told by the start of their names.
pub(crate) const MODULE_PREFIXES: &[&str] = &["ai_", "sam_"];
const MODEL_PREFIXES: &[&str] = &["ai.", "sam.", "canvas", "workflow.", "workflow_", "n8n"];

/// What is chosen when no models are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The inventory and everything of its kind.
    #[default]
    SamAi,
    /// Every table of the database.
    All,
    /// The models of a list.
    Custom {
        /// Where the list was read from.
        file: PathBuf,
        /// Names and globs.
        patterns: Vec<String>,
    },
}

impl Profile {
    /// Reads the word of the command line: `sam_ai`, `all`, or the path of a list.
    ///
    /// # Errors
    /// When it is a path and the file cannot be read, or holds no model.
    pub fn parse(word: &str) -> Result<Self, Failure> {
        match word {
            "sam_ai" => Ok(Self::SamAi),
            "all" => Ok(Self::All),
            path => Self::from_file(Path::new(path)),
        }
    }

    fn from_file(path: &Path) -> Result<Self, Failure> {
        let attempted = format!("read the profile {}", path.display());
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::io(FailureKind::Usage, &attempted, error)
                .help("a profile is `sam_ai`, `all`, or a file with one model or glob a line")
        })?;
        let patterns: Vec<String> = text
            .lines()
            .filter_map(|line| line.split('#').next())
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        if patterns.is_empty() {
            return Err(
                Failure::new(FailureKind::Usage, attempted, "it names no model")
                    .help("write one model or glob a line, such as `ai.*`"),
            );
        }
        Ok(Self::Custom {
            file: path.to_owned(),
            patterns,
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SamAi => f.write_str("sam_ai"),
            Self::All => f.write_str("all"),
            Self::Custom { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

/// The user's choice of models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What is chosen when `models` is empty.
    pub profile: Profile,
    /// Names and globs that take the place of the profile's choice.
    pub models: Vec<String>,
    /// Names and globs of models to leave out.
    pub exclude: Vec<String>,
    /// Whether the rows of transient models (wizards) are exported too.
    pub include_transient: bool,
}

impl Selection {
    /// All of it in one line, to be compared.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = match &self.profile {
            Profile::Custom { patterns, .. } => patterns.join(","),
            profile => profile.to_string(),
        };
        if !self.models.is_empty() {
            text = self.models.join(",");
        }
        if !self.exclude.is_empty() {
            text = format!("{text} without {}", self.exclude.join(","));
        }
        if self.include_transient {
            text.push_str(" with transient models");
        }
        text
    }
}

/// Whether a module belongs to the stack, by its name.
#[must_use]
pub fn is_stack_module(module: &str) -> bool {
    MODULE_PREFIXES
        .iter()
        .any(|prefix| module.starts_with(prefix))
}

/// Whether a model belongs to the stack, by its name.
#[must_use]
pub fn is_stack_model(model: &str) -> bool {
    MODEL_PREFIXES
        .iter()
        .any(|prefix| model.starts_with(prefix))
}

/// A list of names and globs, each of which must match something.
#[derive(Debug)]
pub struct Patterns {
    matchers: Vec<(String, GlobMatcher)>,
    option: &'static str,
    /// Where there should be a match, and which command lists what is there.
    place: (&'static str, &'static str),
}

impl Patterns {
    /// Compiles the patterns; `option` is where the user wrote them, for messages.
    ///
    /// # Errors
    /// When one is no valid glob.
    pub fn new(patterns: &[String], option: &'static str) -> Result<Self, Failure> {
        let matchers = patterns
            .iter()
            .map(|pattern| match Glob::new(pattern) {
                Ok(glob) => Ok((pattern.clone(), glob.compile_matcher())),
                Err(error) => Err(Failure::new(
                    FailureKind::Usage,
                    format!("read {option}"),
                    format!("`{pattern}` is no glob: {}", error.kind()),
                )
                .help("write names or globs such as `ai.*` or `sam.chat.?`")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            matchers,
            option,
            place: ("database", "`arkstream backup --dry-run`"),
        })
    }

    /// The same for models of a bundle.
    #[must_use]
    pub fn of_bundle(mut self) -> Self {
        self.place = ("bundle", "`arkstream ls BUNDLE`");
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.matchers.is_empty()
    }

    /// The names that match, by any of their names.
    ///
    /// # Errors
    /// When a pattern matches nothing; the message suggests the nearest names.
    pub fn choose<'a>(&self, known: &BTreeSet<&'a str>) -> Result<BTreeSet<&'a str>, Failure> {
        let mut chosen = BTreeSet::new();
        for (pattern, matcher) in &self.matchers {
            let mut found: Vec<&str> = known
                .iter()
                .copied()
                .filter(|name| matcher.is_match(name))
                .collect();
            if found.is_empty() {
                found = known
                    .iter()
                    .copied()
                    .filter(|name| aliases(name).any(|alias| matcher.is_match(alias)))
                    .collect();
            }
            if found.is_empty() {
                return Err(self.nothing(pattern, known));
            }
            chosen.extend(found);
        }
        Ok(chosen)
    }

    fn nothing(&self, pattern: &str, known: &BTreeSet<&str>) -> Failure {
        let (place, lister) = self.place;
        let failure = Failure::new(
            FailureKind::Usage,
            format!("choose the models of {}", self.option),
            format!("`{pattern}` matches no model of the {place}"),
        );
        let plain: String = pattern.chars().filter(|c| !"*?[]{}".contains(*c)).collect();
        let near = nearest(&plain, known.iter().copied());
        let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
        if near.is_empty() {
            failure.help(format!("{lister} lists the models there are"))
        } else {
            failure.help(format!("did you mean {}?", near.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeSet<&'static str> {
        [
            "ai.message",
            "ai.conversation",
            "workflow.connection",
            "res.partner",
        ]
        .into()
    }

    fn choose(patterns: &[&str]) -> Result<Vec<&'static str>, Failure> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let chosen = Patterns::new(&patterns, "--models")?.choose(&known())?;
        Ok(chosen.into_iter().collect())
    }

    #[test]
    fn a_star_spans_dots_and_names_match_whole() {
        assert_eq!(
            choose(&["ai.*"]).unwrap(),
            ["ai.conversation", "ai.message"]
        );
        assert_eq!(choose(&["*"]).unwrap().len(), 4);
        assert!(choose(&["ai"]).is_err());
    }

    #[test]
    fn an_old_name_chooses_the_renamed_model() {
        assert_eq!(choose(&["connections"]).unwrap(), ["workflow.connection"]);
    }

    #[test]
    fn a_glob_that_matches_nothing_suggests_the_nearest_names() {
        let failure = choose(&["ai.mesage"]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
        assert!(failure.to_string().contains("ai.mesage"));
        let advice = failure.advice().unwrap();
        assert!(advice.starts_with("did you mean `ai.message`"), "{advice}");
        assert!(
            choose(&["zzz*"])
                .unwrap_err()
                .advice()
                .unwrap()
                .contains("--dry-run")
        );
        assert!(
            choose(&["ai.[mes"])
                .unwrap_err()
                .to_string()
                .contains("no glob")
        );
    }

    #[test]
    fn a_profile_file_holds_names_globs_and_comments() {
        let file = tempfile::NamedTempFile::new().unwrap();
        #[allow(clippy::disallowed_methods)]
        fs::write(
            file.path(),
            "# ours\n\nai.*   # all of them\n res.partner \n",
        )
        .unwrap();
        let profile = Profile::parse(file.path().to_str().unwrap()).unwrap();
        let Profile::Custom { patterns, .. } = profile else {
            panic!("not a list");
        };
        assert_eq!(patterns, ["ai.*", "res.partner"]);
        assert_eq!(Profile::parse("all").unwrap(), Profile::All);
        assert_eq!(Profile::parse("sam_ai").unwrap(), Profile::SamAi);
    }

    #[test]
    fn a_missing_or_empty_profile_file_is_refused() {
        assert!(
            Profile::parse("/does/not/exist")
                .unwrap_err()
                .to_string()
                .contains("/does/not/exist")
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = Profile::parse(file.path().to_str().unwrap()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Usage);
    }
}

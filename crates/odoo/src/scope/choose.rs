//! Which models are chosen, and why.

use std::collections::{BTreeMap, BTreeSet};

use arkstream_pipeline::Failure;

use crate::inventory::{entry_of, inventory};
use crate::registry::{Model, Registry};
use crate::selection::{Patterns, Profile, Selection, is_stack_model, is_stack_module};

/// The chosen models.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Models to export, with the reason.
    pub chosen: BTreeMap<String, String>,
    /// Models that the profile would have chosen and the user took away.
    pub excluded: BTreeSet<String>,
    /// Models that would be chosen if their rows were not short-lived.
    pub transient: BTreeSet<String>,
    /// Whether every table of the database travels, models or not.
    pub everything: bool,
}

impl Choice {
    /// Applies a selection to the models of a database.
    ///
    /// # Errors
    /// When a name or glob of the selection matches nothing.
    pub fn new(registry: &Registry, selection: &Selection) -> Result<Self, Failure> {
        let known: BTreeSet<&str> = registry.models.keys().map(String::as_str).collect();
        let mut wanted = wanted(registry, selection, &known)?;
        let mut choice = Self {
            everything: selection.profile == Profile::All && selection.models.is_empty(),
            ..Self::default()
        };
        if !selection.models.is_empty() {
            let left = inventory().iter().flat_map(|entry| entry.names());
            choice.excluded.extend(
                left.filter(|name| known.contains(name) && !wanted.contains_key(*name))
                    .map(str::to_owned),
            );
        }
        // What the inventory names may be excluded although this database lacks it.
        let mut excludable = known;
        excludable.extend(inventory().iter().flat_map(|entry| entry.names()));
        for name in Patterns::new(&selection.exclude, "--exclude")?.choose(&excludable)? {
            if wanted.remove(name).is_some() || registry.models.contains_key(name) {
                choice.excluded.insert(name.to_owned());
            }
        }
        for (name, reason) in wanted {
            let asked = selection.include_transient
                || choice.everything
                || selection.models.contains(&name);
            let transient = registry
                .models
                .get(&name)
                .is_some_and(|model| model.transient);
            if transient && !asked {
                choice.transient.insert(name);
            } else {
                choice.chosen.insert(name, reason);
            }
        }
        Ok(choice)
    }
}

/// The models that the selection speaks of before anything is taken away, with the reason.
fn wanted(
    registry: &Registry,
    selection: &Selection,
    known: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let named = |patterns: &[String], option, reason: &str| -> Result<_, Failure> {
        let chosen = Patterns::new(patterns, option)?.choose(known)?;
        Ok(chosen
            .into_iter()
            .map(|name| (name.to_owned(), reason.to_owned()))
            .collect())
    };
    if !selection.models.is_empty() {
        return named(&selection.models, "--models", "chosen by --models");
    }
    match &selection.profile {
        Profile::All => Ok(known
            .iter()
            .map(|name| ((*name).to_owned(), "every model travels".to_owned()))
            .collect()),
        Profile::Custom { file, patterns } => named(
            patterns,
            "--profile",
            &format!("in the profile {}", file.display()),
        ),
        Profile::SamAi => Ok(registry
            .models
            .values()
            .filter_map(|model| Some((model.name.clone(), of_the_stack(model)?)))
            .collect()),
    }
}

/// Why a model belongs to the stack, if it does.
fn of_the_stack(model: &Model) -> Option<String> {
    if let Some(entry) = entry_of(&model.name) {
        return Some(if entry.model == model.name {
            "in the inventory".to_owned()
        } else {
            format!("in the inventory as {}", entry.model)
        });
    }
    // Only the defining module counts: a module of the stack that extends res.users is no reason
    // to take all users along.
    match model.defined_by() {
        Some(module) if is_stack_module(module) => Some(format!("defined by the module {module}")),
        _ if is_stack_model(&model.name) => {
            Some("not in the inventory; its name is one of the stack's".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(models: &[(&str, &[&str], bool)]) -> Registry {
        let models = models.iter().map(|(name, modules, transient)| {
            let model = Model {
                name: (*name).to_owned(),
                transient: *transient,
                modules: modules.iter().map(|module| (*module).to_owned()).collect(),
                resolution: Default::default(),
                fields: BTreeMap::new(),
            };
            (model.name.clone(), model)
        });
        Registry {
            models: models.collect(),
            ..Registry::default()
        }
    }

    fn sample() -> Registry {
        registry(&[
            ("ai.message", &["ai_brain"], false),
            ("workflow.connection", &["the_canvas"], false),
            ("brand.new", &["sam_next"], false),
            ("ai.unheard.of", &["custom"], false),
            ("ai.wizard", &["ai_brain"], true),
            ("res.users", &["base", "sam_ai"], false),
            ("sale.order", &["sale"], false),
        ])
    }

    fn choose(selection: &Selection) -> Choice {
        Choice::new(&sample(), selection).unwrap()
    }

    fn names(choice: &Choice) -> Vec<&str> {
        choice.chosen.keys().map(String::as_str).collect()
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn models_that_the_inventory_does_not_know_are_chosen_too() {
        let choice = choose(&Selection::default());
        assert_eq!(
            names(&choice),
            [
                "ai.message",
                "ai.unheard.of",
                "brand.new",
                "workflow.connection"
            ]
        );
        assert_eq!(choice.chosen["brand.new"], "defined by the module sam_next");
        assert_eq!(
            choice.chosen["workflow.connection"],
            "in the inventory as connections"
        );
        assert!(!choice.everything);
    }

    #[test]
    fn a_model_that_the_stack_only_extends_is_not_chosen() {
        assert!(
            !choose(&Selection::default())
                .chosen
                .contains_key("res.users")
        );
    }

    #[test]
    fn transient_models_are_left_out_unless_asked_for() {
        let choice = choose(&Selection::default());
        assert!(choice.transient.contains("ai.wizard"));
        for selection in [
            Selection {
                include_transient: true,
                ..Selection::default()
            },
            Selection {
                models: list(&["ai.wizard"]),
                ..Selection::default()
            },
            Selection {
                profile: Profile::All,
                ..Selection::default()
            },
        ] {
            assert!(
                choose(&selection).chosen.contains_key("ai.wizard"),
                "{selection:?}"
            );
        }
        let by_glob = choose(&Selection {
            models: list(&["ai.*"]),
            ..Selection::default()
        });
        assert!(by_glob.transient.contains("ai.wizard"));
    }

    #[test]
    fn models_take_the_place_of_the_profile_and_the_rest_of_the_inventory_is_excluded() {
        let choice = choose(&Selection {
            models: list(&["sale.order"]),
            ..Selection::default()
        });
        assert_eq!(names(&choice), ["sale.order"]);
        assert!(
            choice.excluded.contains("ai.message")
                && choice.excluded.contains("workflow.connection")
        );
    }

    #[test]
    fn exclude_takes_away_and_may_name_what_only_the_inventory_knows() {
        let choice = choose(&Selection {
            exclude: list(&["ai.mess*", "ai.service.config"]),
            ..Selection::default()
        });
        assert!(
            choice.excluded.contains("ai.message") && !choice.chosen.contains_key("ai.message")
        );
        let slip = Selection {
            exclude: list(&["ai.mesage"]),
            ..Selection::default()
        };
        assert!(Choice::new(&sample(), &slip).is_err());
    }

    #[test]
    fn everything_is_everything_only_when_no_models_are_named() {
        assert!(
            choose(&Selection {
                profile: Profile::All,
                ..Selection::default()
            })
            .everything
        );
        let narrowed = Selection {
            profile: Profile::All,
            models: list(&["sale.*"]),
            ..Selection::default()
        };
        assert!(!choose(&narrowed).everything);
    }
}

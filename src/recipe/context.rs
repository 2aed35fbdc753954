//! The context for deriving a plan: where each value comes from, and the problems found so far.

use std::fmt::Display;

use super::error::{Origin, Other, Problem, RecipeError};
use super::layers::Origins;
use super::resolve::{MissingFile, Options};

/// The input for the checks of one run, and the problems and warnings that the checks have found.
pub(super) struct Context<'a> {
    pub(super) origins: &'a Origins,
    /// Keys whose values do not fit the schema. The checks report no further problems with these keys.
    pub(super) faulty: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) options: &'a Options,
    pub(super) problems: Vec<RecipeError>,
    pub(super) warnings: Vec<String>,
    pub(super) missing: Vec<MissingFile>,
}

impl Context<'_> {
    /// Returns where the value of a key is set.
    ///
    /// For a model dimension that follows from `model.size`, returns where `model.size` is set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let by_size = || self.origins.get("model.size").filter(|_| key.starts_with("model."));
        self.origins
            .get(key)
            .or_else(by_size)
            .map_or(Origin::Default, |placed| placed.origin.clone())
    }

    /// Returns the priority of the recipe layer that sets a key, such as a file or `--set`; 0 for a default.
    ///
    /// A layer overrides all layers with a lower priority.
    pub(super) fn rank(&self, key: &str) -> usize {
        self.origins.get(key).map_or(0, |placed| placed.rank)
    }

    /// Adds a problem with `key`. `others` are the other keys whose values take part in this problem.
    ///
    /// Does nothing if the value of `key` or of one of `others` does not fit the schema: that is already reported.
    pub(super) fn add(&mut self, key: &str, others: &[&str], problem: Problem) {
        let error = self.error(key, problem);
        if !others.iter().chain([&key]).any(|key| self.is_faulty(key)) {
            self.problems.push(error);
        }
    }

    /// Returns an error with `key`, the place where the key is set, and `problem`.
    pub(super) fn error(&self, key: &str, problem: Problem) -> RecipeError {
        RecipeError { key: key.to_owned(), origin: self.origin(key), problem }
    }

    /// Adds the problem that `found`, the value of `key`, is invalid. See [`Problem::Refused`].
    pub(super) fn refuse(
        &mut self,
        key: &str,
        found: impl Display,
        why: &str,
        hint: impl Into<String>,
    ) {
        self.refuse_with(key, &[], found, why, hint);
    }

    /// Adds the problem that `found`, the value of `key`, is invalid together with the values of the keys in `others`.
    pub(super) fn refuse_with(
        &mut self,
        key: &str,
        others: &[&str],
        found: impl Display,
        why: &str,
        hint: impl Into<String>,
    ) {
        let problem =
            Problem::Refused { found: found.to_string(), why: why.to_owned(), hint: hint.into() };
        self.add(key, others, problem);
    }

    /// Adds the problem that two values are valid alone but not together. See [`Problem::Conflict`].
    pub(super) fn conflict(
        &mut self,
        (key, value): (&str, impl Display),
        relation: &str,
        (other, other_value): (&str, impl Display),
        hint: impl Into<String>,
    ) {
        let with = Other {
            key: other.to_owned(),
            value: other_value.to_string(),
            origin: self.origin(other),
        };
        let problem = Problem::Conflict {
            value: value.to_string(),
            relation: relation.to_owned(),
            with: Box::new(with),
            hint: hint.into(),
        };
        self.add(key, &[other], problem);
    }

    fn is_faulty(&self, key: &str) -> bool {
        let below = |table: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.faulty.iter().any(|faulty| faulty == key || below(faulty))
    }
}

/// Returns the value of a key that is always set, because `defaults.toml` has a default for it.
pub(super) fn given<T: Clone>(value: Option<&T>) -> T {
    value.cloned().expect("defaults.toml has every key that is not derived")
}

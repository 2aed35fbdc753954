//! The context for deriving a plan: where each value comes from, and the problems found so far.

use std::fmt::Display;

use super::error::{Origin, Other, Problem, RecipeError};
use super::layers::Origins;
use super::resolve::{MissingFile, Options};

/// The problems found so far, and the place where the recipe sets each key.
pub(super) struct Context<'a> {
    pub(super) origins: &'a Origins,
    /// Keys whose invalid values are already reported.
    pub(super) faulty: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) options: &'a Options,
    pub(super) problems: Vec<RecipeError>,
    pub(super) warnings: Vec<String>,
    pub(super) missing: Vec<MissingFile>,
}

impl Context<'_> {
    /// Returns where the recipe sets `key`.
    ///
    /// If `model.size` determines `key`, returns where `model.size` is set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let by_size = || self.origins.get("model.size").filter(|_| key.starts_with("model."));
        self.origins
            .get(key)
            .or_else(by_size)
            .map_or(Origin::Default, |placed| placed.origin.clone())
    }

    /// Returns the priority of the file or argument that sets `key`.
    ///
    /// A higher priority overrides a lower one. The defaults have priority 0.
    pub(super) fn rank(&self, key: &str) -> usize {
        self.origins.get(key).map_or(0, |placed| placed.rank)
    }

    /// Adds `problem`, unless `key` or one of `others` is already reported as invalid.
    pub(super) fn add(&mut self, key: &str, others: &[&str], problem: Problem) {
        let error = self.error(key, problem);
        if !others.iter().chain([&key]).any(|key| self.is_faulty(key)) {
            self.problems.push(error);
        }
    }

    /// Converts `problem` to an error at the place where the recipe sets `key`.
    pub(super) fn error(&self, key: &str, problem: Problem) -> RecipeError {
        RecipeError { key: key.to_owned(), origin: self.origin(key), problem }
    }

    /// Reports that the value `found` of `key` is invalid.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        found: impl Display,
        why: &str,
        hint: impl Into<String>,
    ) {
        self.refuse_with(key, &[], found, why, hint);
    }

    /// Reports that the value `found` of `key` contradicts the keys in `others`.
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

    /// Reports that the values of two keys contradict each other.
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

/// Unwraps the value of a key that `defaults.toml` sets.
pub(super) fn given<T: Clone>(value: Option<&T>) -> T {
    value.cloned().expect("defaults.toml has every key that is not derived")
}

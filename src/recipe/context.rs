//! What deriving a plan carries along: where values come from, and the problems found so far.

use std::fmt::Display;

use super::Options;
use super::error::{Origin, Other, Problem, RecipeError};
use super::layers::Origins;

/// One point's derivation.
pub(super) struct Context<'a> {
    pub(super) origins: &'a Origins,
    /// Keys the schema has refused: what follows from them is not reported again.
    pub(super) faulty: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) options: &'a Options,
    pub(super) problems: Vec<RecipeError>,
    pub(super) warnings: Vec<String>,
}

impl Context<'_> {
    /// Where a key's value comes from; a dimension that is not spelled out comes from `model.size`.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let by_size = || self.origins.get("model.size").filter(|_| key.starts_with("model."));
        self.origins
            .get(key)
            .or_else(by_size)
            .map_or(Origin::Default, |placed| placed.origin.clone())
    }

    /// The rank of the layer that gave a key.
    pub(super) fn rank(&self, key: &str) -> usize {
        self.origins.get(key).map_or(0, |placed| placed.rank)
    }

    /// Adds a problem of `key` that follows from `others` too, unless one of them is refused
    /// already.
    pub(super) fn add(&mut self, key: &str, others: &[&str], problem: Problem) {
        let origin = self.origin(key);
        if !others.iter().chain([&key]).any(|key| self.is_faulty(key)) {
            self.problems.push(RecipeError { key: key.to_owned(), origin, problem });
        }
    }

    /// Refuses a value that is impossible by itself.
    pub(super) fn refuse(
        &mut self,
        key: &str,
        found: impl Display,
        why: &str,
        hint: impl Into<String>,
    ) {
        self.refuse_with(key, &[], found, why, hint);
    }

    /// Refuses a value that is impossible beside `others`.
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

    /// Refuses two values, each possible by itself.
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

/// The value of a key that `defaults.toml` has.
pub(super) fn given<T: Clone>(value: Option<&T>) -> T {
    value.cloned().expect("defaults.toml has every key that is not derived")
}

//! Problems of a recipe: what is wrong, where, and how to fix it.

use std::fmt;
use std::path::PathBuf;

/// All problems of a recipe, sorted by file and line.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipeErrors(pub Vec<RecipeError>);

/// One problem of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipeError {
    /// The dotted key with the problem; empty if the problem concerns a whole file.
    pub key: String,
    /// Where the value of the key is set.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Problem,
}

/// Where a value of a recipe comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A recipe file or a checkpoint.
    File {
        /// The path as the user typed it.
        path: PathBuf,
        /// Line number, counted from 1; 0 for the whole file.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Name of the environment variable.
        var: String,
    },
    /// A `--set` argument.
    Set {
        /// The argument, `key=value`.
        arg: String,
    },
    /// The built-in defaults.
    Default,
}

/// What is wrong with a recipe.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// The program cannot read a recipe file.
    Unreadable {
        /// The operating system's error message.
        cause: String,
    },
    /// The text is not valid TOML.
    Syntax {
        /// The TOML parser's error message.
        message: String,
    },
    /// A recipe extends itself, directly or through other recipes.
    Cycle {
        /// The files in the order in which they extend each other. The last file is the first file again.
        chain: Vec<PathBuf>,
    },
    /// The key does not exist in recipes.
    UnknownKey {
        /// The valid key that the user probably meant.
        near: Option<String>,
    },
    /// The value has the wrong type or is out of range.
    WrongType {
        /// The invalid value, as TOML text.
        found: String,
        /// A description of the valid values.
        expected: String,
        /// The value that the user probably meant, as TOML text.
        near: Option<String>,
    },
    /// A path contains `${VAR}`, but this variable is not set.
    UnsetVariable {
        /// Name of the environment variable.
        var: String,
    },
    /// Two values contradict each other.
    Conflict {
        /// The value of [`RecipeError::key`], as TOML text.
        value: String,
        /// The words between the two keys in the error message, such as "is more than".
        relation: String,
        /// The second key, with its value and its place.
        with: Box<Other>,
        /// How to fix the problem; may be empty.
        hint: String,
    },
    /// The value is missing, or invalid for a reason that no other variant describes.
    Refused {
        /// The invalid value, as TOML text; empty if the value is missing.
        found: String,
        /// Why the value is invalid, such as "is too large".
        why: String,
        /// How to fix the problem; may be empty.
        hint: String,
    },
}

/// The second of two keys that contradict each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// The second dotted key, such as `pretrain.epochs`.
    pub key: String,
    /// The value of the second key, as TOML text.
    pub value: String,
    /// The place that sets the second key.
    pub origin: Origin,
}

impl std::error::Error for RecipeErrors {}

impl std::error::Error for RecipeError {}

impl fmt::Display for RecipeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                write!(f, "\nerror: ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, origin, problem } = self;
        match problem {
            Problem::Unreadable { cause } if key.is_empty() => {
                write!(f, "cannot read the recipe: {cause}")?;
            }
            Problem::Unreadable { cause } => {
                write!(f, "cannot read the recipe in `{key}`: {cause}")?;
            }
            Problem::Syntax { message } => write!(f, "cannot parse the recipe: {message}")?,
            Problem::Cycle { chain } => {
                let chain = chain.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
                write!(f, "`{key}` is circular: {}", chain.join(" -> "))?;
            }
            Problem::UnknownKey { .. } => write!(f, "unknown key `{key}`")?,
            Problem::WrongType { found, expected, .. } => {
                write!(f, "`{key} = {found}`: expected {expected}")?;
            }
            Problem::UnsetVariable { var } => {
                write!(
                    f,
                    "`{key}` needs the environment variable `{var}`, but this variable is not set"
                )?;
            }
            Problem::Conflict { value, relation, with, .. } => {
                write!(f, "`{key} = {value}` {relation} `{} = {}`", with.key, with.value)?;
            }
            Problem::Refused { found, why, .. } if found.is_empty() => write!(f, "`{key}` {why}")?,
            Problem::Refused { found, why, .. } => write!(f, "`{key} = {found}` {why}")?,
        }
        self.write_places(f, origin)?;
        match self.hint() {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl RecipeError {
    fn write_places(&self, f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
        match &self.problem {
            Problem::Conflict { with, .. } if with.origin != *origin => {
                write!(
                    f,
                    "\n  --> {origin} (`{}`)\n  --> {} (`{}`)",
                    self.key, with.origin, with.key
                )
            }
            _ => write!(f, "\n  --> {origin}"),
        }
    }

    fn hint(&self) -> Option<String> {
        match &self.problem {
            Problem::UnknownKey { near: Some(near) } if *near == self.key => Some(
                "remove the quotes, because a dot inside quotes is part of the name".to_owned(),
            ),
            Problem::UnknownKey { near: Some(near) }
            | Problem::WrongType { near: Some(near), .. } => {
                Some(format!("did you mean `{near}`?"))
            }
            Problem::UnsetVariable { var } => {
                Some(format!("set `{var}`, or pass the path with `--set {}=PATH`", self.key))
            }
            Problem::Cycle { .. } => Some("remove one of these files from `extends`".to_owned()),
            Problem::Conflict { hint, .. } | Problem::Refused { hint, .. } if !hint.is_empty() => {
                Some(hint.clone())
            }
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(f, "the built-in defaults"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env { var } => write!(f, "environment variable {var}"),
            Self::Set { arg } => write!(f, "--set {arg}"),
        }
    }
}

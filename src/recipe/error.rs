//! What is wrong with a recipe, said to the person at the keyboard: what, where, and the way out.

use std::fmt;
use std::path::PathBuf;

/// Everything that is wrong with a recipe, in the order of its layers and lines.
///
/// Displays one problem after the other; each but the first begins with `error: `, which the
/// command line puts before the first.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipeErrors(pub Vec<RecipeError>);

/// One thing that is wrong with a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct RecipeError {
    /// The dotted key; empty where a whole file is meant.
    pub key: String,
    /// Where its value comes from.
    pub origin: Origin,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The layer a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A recipe's file; line 0 is the file as a whole.
    File {
        /// As it was given, or as `extends` leads to it.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        var: String,
    },
    /// A `--set` argument.
    Set {
        /// The whole argument, `key=value`.
        arg: String,
    },
    /// The built-in defaults.
    Default,
}

/// What is wrong, by what the reader can do about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Problem {
    /// The file cannot be read.
    Unreadable {
        /// The system's reason.
        cause: String,
    },
    /// The text is not TOML.
    Syntax {
        /// The parser's reason.
        message: String,
    },
    /// A recipe extends itself.
    Cycle {
        /// From the file to itself.
        chain: Vec<PathBuf>,
    },
    /// No key of a recipe has this name.
    UnknownKey {
        /// The key that was probably meant.
        near: Option<String>,
    },
    /// The value is of the wrong type, or outside the key's values.
    WrongType {
        /// The value, as TOML.
        found: String,
        /// What the key takes, in words.
        expected: String,
        /// The value that was probably meant, as TOML.
        near: Option<String>,
    },
    /// `${VAR}` of a variable that is not set.
    UnsetVariable {
        /// Its name.
        var: String,
    },
    /// Two keys exclude each other as they are.
    Conflict {
        /// The value, as TOML.
        value: String,
        /// How the two stand to each other: "is more than".
        relation: String,
        /// The other key.
        with: Box<Other>,
        /// The way out.
        hint: String,
    },
    /// The value is impossible by itself, or for reasons given in words.
    Refused {
        /// The value, as TOML; empty where there is none.
        found: String,
        /// Why, to be read after the key.
        why: String,
        /// The way out.
        hint: String,
    },
}

/// The other key of a conflict.
#[derive(Debug, Clone, PartialEq)]
pub struct Other {
    /// The dotted key.
    pub key: String,
    /// Its value, as TOML.
    pub value: String,
    /// Where it comes from.
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
            Problem::Unreadable { cause } => write!(f, "cannot read what `{key}` names: {cause}")?,
            Problem::Syntax { message } => write!(f, "not TOML: {message}")?,
            Problem::Cycle { chain } => {
                let chain = chain.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
                write!(f, "`{key}` leads back to the same file: {}", chain.join(" -> "))?;
            }
            Problem::UnknownKey { .. } => write!(f, "unknown key `{key}`")?,
            Problem::WrongType { found, expected, .. } => {
                write!(f, "`{key} = {found}`: expected {expected}")?;
            }
            Problem::UnsetVariable { var } => {
                write!(f, "`{key}` needs the environment variable {var}, which is not set")?;
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
            Problem::UnknownKey { near: Some(near) } if *near == self.key => {
                Some("leave out the quotes: a dot inside them is part of one name".to_owned())
            }
            Problem::UnknownKey { near: Some(near) }
            | Problem::WrongType { near: Some(near), .. } => {
                Some(format!("did you mean `{near}`?"))
            }
            Problem::UnsetVariable { var } => {
                Some(format!("set {var}, or write the path: --set {}=PATH", self.key))
            }
            Problem::Cycle { .. } => Some("take one of these files out of `extends`".to_owned()),
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

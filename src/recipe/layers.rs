//! The layers of a recipe, lowest first: defaults, `extends`, the file, the environment, `--set`.
//!
//! The crate `figment` merges the layers and remembers which layer set each value. It merges tables key by key. Of
//! any other value, such as a list, only the value of the last layer remains. An entry of `extends` includes the files
//! that this entry extends, so a later entry overrides everything in an earlier entry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Tag, Value as Tagged};
use figment::{Figment, Metadata, Profile, Provider, Source};
use toml::{Table, Value};

use super::error::{Origin, Problem, RecipeError};
use super::near;
use super::parse::{self, Parsed, SourcePosition};
use super::schema::{self, DEFAULTS, KEYS, OPTIONAL_TABLES, Recipe};

/// Where each dotted key or table is set.
pub(super) type Origins = BTreeMap<String, Placed>;

/// The merged values of all files, environment variables and `--set` arguments.
#[derive(Debug, Clone)]
pub(super) struct Merged {
    pub(super) tree: Table,
    pub(super) origins: Origins,
}

/// Where a value is set, and its priority.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) origin: Origin,
    /// Priority of the file or argument. A higher number overrides a lower number; the defaults have 0.
    pub(super) rank: usize,
    /// Sort key for swept keys: (index of the file or argument, byte offset).
    pub(super) order: (usize, usize),
}

/// Settings that environment variables and `--set` override.
#[derive(Debug, Clone, Copy)]
pub enum BaseLayer<'a> {
    /// The path of a recipe file. The recipes in its `extends` are also read.
    File(&'a Path),
    /// The text of a recipe, such as the recipe in `meta.json`, with the path of its file.
    Text(&'a Path, &'a str),
    /// Settings that follow from a checkpoint, such as the depth, with the path of the checkpoint.
    Settings(&'a Path, &'a Recipe),
}

/// Merges `base`, environment variables and `--set`. Later values override earlier values.
pub(super) fn merge(
    base: &[BaseLayer<'_>],
    env: &[(String, String)],
    set: &[String],
    warnings: &mut Vec<String>,
) -> Result<Merged, Vec<RecipeError>> {
    let mut layers = Layers::default();
    for layer in base {
        match *layer {
            BaseLayer::File(path) => layers.add_file(path, None, &mut Vec::new()),
            BaseLayer::Text(path, text) => layers.add_text(path, text, &mut Vec::new()),
            BaseLayer::Settings(path, settings) => layers.add_settings(path, settings),
        }
    }
    for (var, text) in env {
        layers.add_env(var, text, warnings);
    }
    for arg in set {
        layers.add_set(arg);
    }
    if layers.errors.is_empty() { Ok(layers.merged()) } else { Err(layers.errors) }
}

#[derive(Debug)]
struct Layer {
    kind: LayerKind,
    content: Parsed,
}

#[derive(Debug, PartialEq)]
enum LayerKind {
    Default,
    File(PathBuf),
    Env(String),
    Set(String),
}

#[derive(Default)]
struct Layers {
    layers: Vec<Layer>,
    errors: Vec<RecipeError>,
}

/// A recipe file that is being read: (path as written, canonical path).
type Open = (PathBuf, PathBuf);

impl Layers {
    fn fail(&mut self, key: &str, origin: Origin, problem: Problem) {
        self.errors.push(RecipeError { key: key.to_owned(), origin, problem });
    }

    /// Adds the file at `path`, after the files in its `extends`.
    ///
    /// `named` is the place of the `extends` key that names the file. `open` lists the files being read, to detect
    /// cycles.
    fn add_file(&mut self, path: &Path, named: Option<&Origin>, open: &mut Vec<Open>) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let whole = Origin::File { path: path.to_owned(), line: 0 };
                let (key, origin) = named.map_or(("", whole), |named| ("extends", named.clone()));
                let cause = format!("{}: {error}", path.display());
                let cause = if named.is_some() { cause } else { error.to_string() };
                return self.fail(key, origin, Problem::Unreadable { cause });
            }
        };
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(start) = open.iter().position(|(_, other)| *other == real) {
            let mut chain: Vec<_> = open[start..].iter().map(|(named, _)| named.clone()).collect();
            chain.push(path.to_owned());
            let origin = named.expect("the first file is not open yet").clone();
            return self.fail("extends", origin, Problem::Cycle { chain });
        }
        open.push((path.to_owned(), real));
        self.add_text(path, &text, open);
        open.pop();
    }

    fn add_text(&mut self, path: &Path, text: &str, open: &mut Vec<Open>) {
        match parse::parse(text) {
            Err(error) => {
                let origin = Origin::File { path: path.to_owned(), line: error.line };
                self.fail("", origin, Problem::Syntax { message: error.message });
            }
            Ok(content) => self.add_parsed(path, content, open),
        }
    }

    fn add_settings(&mut self, path: &Path, settings: &Recipe) {
        let content = Parsed { table: super::write::toml_table(settings), places: BTreeMap::new() };
        self.layers.push(Layer { kind: LayerKind::File(path.to_owned()), content });
    }

    fn add_parsed(&mut self, path: &Path, mut content: Parsed, open: &mut Vec<Open>) {
        let line = content.places.get("extends").map_or(0, |place| place.line);
        let origin = Origin::File { path: path.to_owned(), line };
        match extended_files(content.table.remove("extends")) {
            Ok(files) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                for file in files {
                    self.add_file(&folder.join(file), Some(&origin), open);
                }
            }
            Err(found) => {
                let expected = "the path of a recipe or a list of paths".to_owned();
                self.fail("extends", origin, Problem::WrongType { found, expected, near: None });
            }
        }
        self.layers.push(Layer { kind: LayerKind::File(path.to_owned()), content });
    }

    /// Adds the value of the environment variable `var`, such as `MAE_PRETRAIN__BLR`.
    ///
    /// Warns if the name starts with `MAE_` but matches no recipe key.
    fn add_env(&mut self, var: &str, text: &str, warnings: &mut Vec<String>) {
        let Some(rest) = var.strip_prefix("MAE_") else { return };
        let key = rest.to_lowercase().replace("__", ".");
        let settable = key != "extends" && KEYS.contains(&key) && rest == rest.to_uppercase();
        if !settable {
            let near =
                near::key(&key, &[]).map(|near| format!(". Did you mean `{}`?", variable(&near)));
            let near = near.unwrap_or_default();
            warnings.push(format!(
                "mae ignores the environment variable `{var}`, because it matches no recipe key{near}"
            ));
            return;
        }
        let parts: Vec<_> = key.split('.').map(str::to_owned).collect();
        self.add_value(LayerKind::Env(var.to_owned()), &key, &parts, text);
    }

    fn add_set(&mut self, arg: &str) {
        let origin = Origin::Set { arg: arg.to_owned() };
        let refused = |why: &str, hint: &str| Problem::Refused {
            found: String::new(),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        let Some((key, text)) = arg.split_once('=') else {
            let problem = refused("has no value", "write `--set KEY=VALUE`");
            return self.fail(arg, origin, problem);
        };
        let key = key.trim();
        match parse::parse_key(key) {
            None => {
                let hint =
                    "write `--set KEY=VALUE` with a dotted key, as in `--set pretrain.epochs=10`";
                self.fail(key, origin, refused("is not a recipe key", hint));
            }
            Some(parts) if parts[0] == "extends" => {
                self.fail(
                    key,
                    origin,
                    refused("works only in recipe files", "write this key in a recipe file"),
                );
            }
            Some(parts) => {
                self.add_value(LayerKind::Set(arg.to_owned()), &parts.join("."), &parts, text);
            }
        }
    }

    fn add_value(&mut self, kind: LayerKind, key: &str, parts: &[String], text: &str) {
        let mut value = parse::parse_value(text.trim());
        if schema::at(key).is_some_and(|schema| schema["type"] == "string") && !value.is_str() {
            value = Value::String(text.trim().to_owned());
        }
        let content = Parsed { table: parse::nest(parts, value), places: BTreeMap::new() };
        self.layers.push(Layer { kind, content });
    }

    fn merged(mut self) -> Merged {
        let mut defaults = DEFAULTS.clone();
        let said =
            |table: &str| self.layers.iter().any(|layer| layer.content.table.contains_key(table));
        for table in OPTIONAL_TABLES.into_iter().filter(|table| !said(table)) {
            defaults.remove(table);
        }
        let content = Parsed { table: defaults, places: BTreeMap::new() };
        self.layers.insert(0, Layer { kind: LayerKind::Default, content });

        let figment = (self.layers.iter().enumerate())
            .fold(Figment::new(), |figment, (index, layer)| {
                figment.merge(Numbered { index, layer })
            });
        let values = figment
            .data()
            .ok()
            .and_then(|mut profiles| profiles.remove(&Profile::Default))
            .expect("the layers are parsed already");
        let mut origins = Origins::new();
        let tree = self.untag("", values, &figment, &mut origins);
        Merged { tree, origins }
    }

    /// Converts figment's values to TOML values. Adds the place of each to `origins`.
    fn untag(&self, prefix: &str, values: Dict, figment: &Figment, origins: &mut Origins) -> Table {
        let mut table = Table::new();
        for (key, value) in values {
            let path = format!("{prefix}{key}");
            origins.insert(path.clone(), self.placed(&path, layer_of(value.tag(), figment)));
            let value = match value {
                Tagged::Dict(_, inner) => {
                    Value::Table(self.untag(&format!("{path}."), inner, figment, origins))
                }
                leaf => plain(leaf),
            };
            table.insert(key, value);
        }
        table
    }

    /// Returns where `key` is set. `index` is the position in `self.layers`.
    fn placed(&self, key: &str, index: usize) -> Placed {
        let names = |layer: &Layer| layer.content.places.contains_key(key);
        let index = match &self.layers[index] {
            layer if matches!(layer.kind, LayerKind::File(_)) && !names(layer) => {
                self.layers.iter().rposition(names).unwrap_or(index)
            }
            _ => index,
        };
        let layer = &self.layers[index];
        let place =
            layer.content.places.get(key).copied().unwrap_or(SourcePosition { byte: 0, line: 0 });
        let (origin, rank) = match &layer.kind {
            LayerKind::Default => (Origin::Default, 0),
            LayerKind::File(path) => (Origin::File { path: path.clone(), line: place.line }, index),
            LayerKind::Env(var) => (Origin::Env { var: var.clone() }, usize::MAX - 1),
            LayerKind::Set(arg) => (Origin::Set { arg: arg.clone() }, usize::MAX),
        };
        Placed { origin, rank, order: (index, place.byte) }
    }
}

/// Returns the environment variable of a key: `MAE_PRETRAIN__BLR` for `pretrain.blr`.
fn variable(key: &str) -> String {
    format!("MAE_{}", key.replace('.', "__").to_uppercase())
}

/// Returns the paths in `extends`. The error is the invalid value as TOML.
fn extended_files(extends: Option<Value>) -> Result<Vec<String>, String> {
    match extends {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one]),
        Some(other) => {
            let found = super::write::toml_text(&other);
            other.try_into().map_err(|_| found)
        }
    }
}

// Stores the layer's index in figment's metadata, so that errors can show where a value comes from.
struct Numbered<'a> {
    index: usize,
    layer: &'a Layer,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::from("layer", Source::Custom(self.index.to_string()))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let dict = self.layer.content.table.iter().map(|(k, v)| (k.clone(), tagged(v))).collect();
        Ok(Profile::Default.collect(dict))
    }
}

fn layer_of(tag: Tag, figment: &Figment) -> usize {
    figment
        .get_metadata(tag)
        .and_then(|metadata| metadata.source.as_ref()?.custom()?.parse().ok())
        .expect("every value comes from a numbered layer")
}

fn tagged(value: &Value) -> Tagged {
    match value {
        Value::String(text) => Tagged::from(text.clone()),
        Value::Integer(number) => Tagged::from(*number),
        Value::Float(number) => Tagged::from(*number),
        Value::Boolean(yes) => Tagged::from(*yes),
        // Recipes have no dates, so a date becomes text.
        Value::Datetime(date) => Tagged::from(date.to_string()),
        Value::Array(items) => Tagged::from(items.iter().map(tagged).collect::<Vec<_>>()),
        Value::Table(table) => {
            Tagged::from(table.iter().map(|(k, v)| (k.clone(), tagged(v))).collect::<Dict>())
        }
    }
}

fn plain(value: Tagged) -> Value {
    match value {
        Tagged::String(_, text) => Value::String(text),
        Tagged::Bool(_, yes) => Value::Boolean(yes),
        Tagged::Num(_, number) => match number.to_i128() {
            Some(integer) => Value::Integer(integer as i64),
            None => Value::Float(number.to_f64().expect("a number is whole or a float")),
        },
        Tagged::Array(_, items) => Value::Array(items.into_iter().map(plain).collect()),
        Tagged::Dict(_, inner) => {
            Value::Table(inner.into_iter().map(|(key, value)| (key, plain(value))).collect())
        }
        Tagged::Char(..) | Tagged::Empty(..) => {
            unreachable!("TOML has neither characters nor empty values")
        }
    }
}

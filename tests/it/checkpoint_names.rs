//! Networks under any prefix, with the names of other libraries, in several files: found, listed, or refused with the
//! reason.

#![expect(clippy::unwrap_used, reason = "a file that cannot be written is a failed test")]

use super::pickles::Pickled::{Dict, Ints, Module, Number, Tensor, Word};
use super::pickles::{Pickled, dict, write};
use super::program::{Bench, TINY};
use mae::checkpoint::{self, Facts, HostTensor, TensorFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Tensors = BTreeMap<String, HostTensor>;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

fn tensors(name: &str) -> Tensors {
    checkpoint::open(&golden(name), None).unwrap().file.tensors
}

/// A classifier of timm: width 16, two blocks, two heads, five classes.
fn classifier() -> Tensors {
    tensors("timm-token/model.safetensors")
}

fn encoder() -> Tensors {
    classifier().into_iter().filter(|(name, _)| !name.starts_with("head.")).collect()
}

/// Other values in every tensor.
fn other(tensors: &Tensors) -> Tensors {
    let half = |t: &HostTensor| HostTensor {
        shape: t.shape.clone(),
        values: t.values.iter().map(|value| value * 0.5).collect(),
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), half(tensor))).collect()
}

fn named(tensors: &Tensors, rename: impl Fn(&str) -> String) -> Tensors {
    tensors.iter().map(|(name, tensor)| (rename(name), tensor.clone())).collect()
}

fn pickle(tensors: &Tensors) -> Pickled {
    Dict(tensors.iter().map(|(name, tensor)| (name.clone(), Tensor(tensor.clone()))).collect())
}

fn ones(shape: &[usize]) -> HostTensor {
    HostTensor { shape: shape.to_vec(), values: vec![1.0; shape.iter().product()] }
}

fn put(bench: &Bench, name: &str, tensors: Tensors) -> PathBuf {
    let path = bench.path(name);
    TensorFile { tensors, note: String::new() }.write(&path).unwrap();
    path
}

/// Opens a file. Returns its tensors and the notes, one a line.
fn opened(path: &Path) -> (Tensors, String, Facts) {
    let opened = checkpoint::open(path, None).unwrap_or_else(|error| panic!("{error}"));
    (opened.file.tensors, opened.notes.join("\n"), opened.facts)
}

fn refused(path: &Path) -> String {
    checkpoint::open(path, None).err().map(|error| error.to_string()).expect("it is refused")
}

#[test]
fn a_network_is_found_under_any_prefix_in_pickles_and_in_safetensors() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    for prefix in [
        "model.",
        "backbone.",
        "encoder.",
        "student.",
        "teacher.",
        "module.",
        "_orig_mod.module.",
        "_fsdp_wrapped_module.",
        "model.ema.",
    ] {
        let file = put(&bench, "a.safetensors", named(&plain, |name| format!("{prefix}{name}")));
        let (found, notes, _) = opened(&file);
        assert!(found == plain, "{prefix}");
        assert_eq!(
            notes,
            format!("mae reads the weights from the tensors with the prefix `{prefix}`")
        );
        let file = bench.path("a.ckpt");
        let inside = pickle(&named(&plain, |name| format!("{prefix}{name}")));
        let content = dict([("epoch", Number(3)), ("state_dict", inside)]);
        write(&file, &content);
        let (found, notes, _) = opened(&file);
        assert!(found == plain, "{prefix}");
        assert_eq!(
            notes,
            format!("mae reads the weights from the tensors with the prefix `state_dict.{prefix}`")
        );
    }
    // The keys of the official code and of a bare dict are usual.
    for content in [dict([("model", pickle(&plain))]), pickle(&plain)] {
        write(&bench.path("b.pth"), &content);
        assert_eq!(opened(&bench.path("b.pth")).1, "");
    }
    write(&bench.path("c.pth"), &dict([("module", pickle(&plain))]));
    assert_eq!(
        opened(&bench.path("c.pth")).1,
        "mae reads the weights from the tensors with the prefix `module.`"
    );
    // The name is said to the user, and the classes are those of the plain file.
    image::RgbImage::from_pixel(9, 9, image::Rgb([9, 99, 199])).save(bench.path("a.png")).unwrap();
    put(&bench, "plain.safetensors", plain);
    let predict =
        |file: &str| bench.mae(&["predict", file, "a.png", "--json", "--set", "model.num_heads=2"]);
    assert_eq!(predict("c.pth").stdout, predict("plain.safetensors").stdout);
    let stderr = String::from_utf8(predict("c.pth").stderr).unwrap();
    assert!(
        stderr.contains(
            "warning: c.pth: mae reads the weights from the tensors with the prefix `module.`"
        ),
        "{stderr}"
    );
}

#[test]
fn wrappers_in_the_middle_of_names_are_removed() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    for wrapper in ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"] {
        let inside = |name: &str| match name.splitn(3, '.').collect::<Vec<_>>()[..] {
            ["blocks", index, rest] => format!("net.blocks.{index}.{wrapper}.{rest}"),
            _ => format!("net.{name}"),
        };
        let file = put(&bench, "a.safetensors", named(&plain, inside));
        let (found, notes, _) = opened(&file);
        assert!(found == plain, "{wrapper}");
        assert_eq!(notes, "mae reads the weights from the tensors with the prefix `net.`");
    }
}

#[test]
fn tensors_beside_the_network_do_not_refuse_it() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    let integers = |name: &str| (name.to_owned(), Ints(vec![0, 1, 2]));
    let Dict(mut content) = pickle(&named(&plain, |name| format!("model.{name}"))) else {
        panic!()
    };
    content.extend([integers("model.position_ids"), integers("model.num_batches_tracked")]);
    content.push(("criterion.weight".to_owned(), Tensor(ones(&[3]))));
    // What an optimizer stores by name is no network.
    let moments = pickle(&other(&plain));
    let file = bench.path("a.pth");
    write(&file, &dict([("state_dict", Dict(content)), ("optim_state", moments)]));
    let (found, notes, _) = opened(&file);
    assert!(found == plain);
    assert_eq!(
        notes,
        "mae reads the weights from the tensors with the prefix `state_dict.model.`\n\
         mae ignores the tensors outside the network: `state_dict.criterion.weight`"
    );
    let Dict(mut content) = pickle(&plain) else { panic!() };
    content.retain(|(name, _)| name != "norm.bias");
    content.push(integers("norm.bias"));
    write(&file, &Dict(content));
    assert!(
        refused(&file)
            .contains("`norm.bias` is not a float tensor. Type in the file: int64 tensor"),
        "{}",
        refused(&file)
    );
}

#[test]
fn several_networks_are_listed_and_chosen() {
    let recipe = TINY
        .replace("patch_size = 2", "patch_size = 4\nmlp_ratio = 2")
        .replace("from = [\"scratch\", \"checkpoints\"]", "from = \"two.pth\"")
        .replace("from = [\"scratch\", \"last\"]", "from = \"two.pth\"");
    let (bench, student) = (Bench::new(&recipe), encoder());
    let teacher = other(&student);
    let of = |name: &str, tensors: &Tensors| pickle(&named(tensors, |n| format!("{name}.{n}")));
    let file = bench.path("two.pth");
    write(
        &file,
        &dict([
            ("student", of("module.backbone", &student)),
            ("teacher", of("backbone", &teacher)),
        ]),
    );
    let error = refused(&file);
    for expected in [
        "the file contains 2 networks with these prefixes:\n  `student.module.backbone`: an encoder, width 16, 2 blocks, patch size 4",
        "\n  `teacher.backbone`: an encoder",
        "choose a network, for example with `--prefix",
        "`finetune.prefix`",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    for (prefix, expected) in
        [("student", &student), ("teacher.backbone", &teacher), ("teacher.backbone.", &teacher)]
    {
        let found = checkpoint::open(&file, Some(prefix)).unwrap().file.tensors;
        assert!(found == *expected, "{prefix}");
    }
    let convert = |prefix: &str| {
        let mut command = bench.command(&["convert", "two.pth", "out.pth", "--to", "official"]);
        command.args(["--prefix", prefix]).output().unwrap()
    };
    let wrong = String::from_utf8(convert("critic").stderr).unwrap();
    assert!(wrong.contains("`student.module.backbone`, `teacher.backbone`"), "{wrong}");
    assert!(convert("teacher").status.success());
    assert!(opened(&bench.path("out.pth")).0 == teacher);
    // Recipes have a key for it.
    for (stage, prefix) in [("finetune", "teacher"), ("linprobe", "student.module.backbone")] {
        let args = ["run", "r.toml", "--stage", stage, "--runs", stage];
        let error = bench.refused(&args, 2);
        assert!(error.contains("the file contains 2 networks"), "{error}");
        let set = format!("{stage}.prefix={prefix}");
        bench.done(&[&args[..], &["--set", &set]].concat());
        assert!(bench.read(&format!("{stage}/tiny/recipe.toml")).contains(prefix));
    }
    let error = bench.refused(
        &[
            "run",
            "r.toml",
            "--fresh",
            "--set",
            "pretrain.resume=two.pth",
            "--set",
            "pretrain.prefix=nobody",
        ],
        2,
    );
    assert!(error.contains("prefix `nobody`"), "{error}");
}

#[test]
fn plain_weights_are_read_where_averaged_ones_lie_beside_them() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    let file = bench.path("a.pth");
    for (ema, key) in [
        ("model_ema", "model"),
        ("state_dict_ema", "state_dict"),
        ("ema", "net"),
        ("momentum_encoder", "base_encoder"),
    ] {
        write(&file, &dict([(ema, pickle(&other(&plain))), (key, pickle(&plain))]));
        let (found, notes, _) = opened(&file);
        assert!(found == plain, "{ema}");
        let said = format!("mae ignores the averaged weights (EMA) under `{ema}.`");
        assert!(notes.contains(&said), "{notes}");
        assert!(checkpoint::open(&file, Some(ema)).unwrap().file.tensors == other(&plain));
    }
    write(&file, &dict([("model_ema", pickle(&plain))]));
    assert!(opened(&file).0 == plain, "averaged weights alone are read");
    // A compiled module and its original hold the same values.
    write(&file, &dict([("net", pickle(&plain)), ("compiled", pickle(&plain))]));
    assert!(opened(&file).0 == plain);
}

#[test]
fn a_checkpoint_in_several_files_is_read_through_its_index() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    let wrapped = named(&plain, |name| format!("model.{name}"));
    let mut map = serde_json::Map::new();
    for part in 0..2 {
        let file = format!("model-0000{}-of-00002.safetensors", part + 1);
        let own = wrapped.iter().enumerate().filter(|(at, _)| at % 2 == part);
        let own: Tensors = own.map(|(_, (name, tensor))| (name.clone(), tensor.clone())).collect();
        map.extend(own.keys().map(|name| (name.clone(), file.clone().into())));
        put(&bench, &file, own);
    }
    let index = bench.path("model.safetensors.index.json");
    let write_index = |map: &serde_json::Map<String, serde_json::Value>| {
        let text = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        mae::durable::write(&index, text.as_bytes()).unwrap();
    };
    write_index(&map);
    for path in [bench.path("."), index.clone()] {
        let (found, notes, _) = opened(&path);
        assert!(found == plain);
        assert_eq!(notes, "mae reads the weights from the tensors with the prefix `model.`");
    }
    let part = refused(&bench.path("model-00001-of-00002.safetensors"));
    assert!(
        part.contains("hint: pass the checkpoint's folder or its `.index.json` file"),
        "{part}"
    );
    for (value, expected) in [
        (
            "model-00003-of-00002.safetensors",
            "model-00003-of-00002.safetensors of this checkpoint does not exist",
        ),
        ("../model.safetensors", "a value that is not a file name"),
    ] {
        let mut wrong = map.clone();
        wrong.insert("model.norm.weight".to_owned(), value.into());
        write_index(&wrong);
        let error = refused(&index);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_pickled_module_states_its_heads_and_its_activation() {
    let (bench, plain) = (Bench::new(TINY), classifier());
    let file = bench.path("whole.pth");
    write(&file, &module(&plain, "GELU", "none"));
    let (found, notes, facts) = opened(&file);
    assert!(found == plain && notes.is_empty(), "{notes}");
    assert_eq!((facts.num_heads, facts.settings.norm_eps), (Some(2), Some(1e-6)));
    for (act, approximate, expected) in [
        ("ReLU", "none", "the activation function is ReLU"),
        ("GELU", "tanh", "the GELU is approximate"),
    ] {
        write(&file, &module(&plain, act, approximate));
        assert!(refused(&file).contains(expected), "{}", refused(&file));
    }
}

/// Returns what `torch.save(model)` pickles.
fn module(tensors: &Tensors, act: &str, approximate: &str) -> Pickled {
    let mut root = BTreeMap::new();
    for (name, tensor) in tensors {
        insert(&mut root, &name.split('.').collect::<Vec<_>>(), tensor);
    }
    to_module("timm.models.VisionTransformer", "", root, act, approximate)
}

enum Part {
    Inner(BTreeMap<String, Part>),
    Parameter(HostTensor),
}

fn insert(parts: &mut BTreeMap<String, Part>, path: &[&str], tensor: &HostTensor) {
    let [first, rest @ ..] = path else { return };
    if rest.is_empty() {
        parts.insert((*first).to_owned(), Part::Parameter(tensor.clone()));
        return;
    }
    let inner = parts.entry((*first).to_owned()).or_insert(Part::Inner(BTreeMap::new()));
    if let Part::Inner(inner) = inner {
        insert(inner, rest, tensor);
    }
}

fn to_module(
    class: &str,
    name: &str,
    parts: BTreeMap<String, Part>,
    act: &str,
    approximate: &str,
) -> Pickled {
    let (mut parameters, mut modules) = (Vec::new(), Vec::new());
    for (name, part) in parts {
        match part {
            Part::Parameter(tensor) => parameters.push((name, Tensor(tensor))),
            Part::Inner(inner) => {
                let module = to_module("torch.nn.Module", &name, inner, act, approximate);
                modules.push((name, module));
            }
        }
    }
    if name == "mlp" {
        let state = dict([("_modules", dict([])), ("approximate", Word(approximate.to_owned()))]);
        let class = format!("torch.nn.modules.activation.{act}");
        modules.push(("act".to_owned(), Module(class, Box::new(state))));
    }
    let mut state = vec![
        ("training".to_owned(), Number(0)),
        ("_parameters".to_owned(), Dict(parameters)),
        ("_buffers".to_owned(), dict([])),
        ("_modules".to_owned(), Dict(modules)),
    ];
    match name {
        "attn" => state.push(("num_heads".to_owned(), Number(2))),
        "norm1" | "norm" => state.push(("eps".to_owned(), Pickled::Float(1e-6))),
        "" => state.push(("global_pool".to_owned(), Word("token".to_owned()))),
        _ => {}
    }
    Module(class.to_owned(), Box::new(Dict(state)))
}

#[test]
fn a_file_that_fits_nothing_shows_its_names_and_the_nearest_fit() {
    let (bench, mut names) = (Bench::new(TINY), classifier());
    let other: Tensors = ["conv1.weight", "bn1.weight", "fc.weight"]
        .iter()
        .map(|n| ((*n).to_owned(), ones(&[2])))
        .collect();
    let error = refused(&put(&bench, "a.safetensors", other));
    assert!(
        error.contains("The first of its 3 tensors are `bn1.weight`, `conv1.weight`"),
        "{error}"
    );
    assert!(!error.contains("most similar") && !error.contains("truncated"), "{error}");
    names.remove("patch_embed.proj.weight");
    let error = refused(&put(&bench, "b.safetensors", named(&names, |name| format!("net.{name}"))));
    let expected = "The most similar names are those of the official code and timm under the prefix `net.`: 31 names match, \
                    but `patch_embed.proj.weight` is missing";
    let count = names.len().to_string();
    assert!(error.contains(&expected.replace("31", &count)), "{error}");
    write(&bench.path("c.pth"), &dict([("epoch", Number(3))]));
    let error = refused(&bench.path("c.pth"));
    assert!(error.contains("the file contains no named tensors"), "{error}");
    write(&bench.path("d.pth"), &dict([("module", pickle(&zero3(&classifier())))]));
    let error = refused(&bench.path("d.pth"));
    assert!(error.contains("zero_to_fp32.py"), "{error}");
}

/// Tensors as `ZeRO` stage 3 leaves them in the file of a rank: without values.
fn zero3(tensors: &Tensors) -> Tensors {
    tensors.keys().map(|name| (name.clone(), ones(&[0]))).collect()
}

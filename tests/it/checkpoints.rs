//! Checkpoints of other programs: every command accepts them, they convert in both directions, and errors name missing settings.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read is a failed test")]

use super::program::{Bench, TINY};
use mae::checkpoint::{self, HostTensor};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn golden(name: &str) -> String {
    format!("{}/tests/golden/checkpoints/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Returns the shape and the bits of each tensor in a checkpoint, by name.
fn bits(path: impl AsRef<Path>) -> BTreeMap<String, (Vec<usize>, Vec<u32>)> {
    let bits = |t: HostTensor| (t.shape, t.values.into_iter().map(f32::to_bits).collect());
    let opened = checkpoint::open(path.as_ref(), None).unwrap();
    opened.file.tensors.into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
}

/// The settings that the files of the small models do not contain.
const HEADS: [&str; 4] = ["--set", "model.num_heads=2", "--set", "model.decoder_num_heads=2"];

/// A recipe for the models in `tests/golden/checkpoints`.
fn fitting() -> String {
    TINY.replace("patch_size = 2", "patch_size = 4\nmlp_ratio = 2")
        .replace("linprobe", "linprobe_of")
        .split("[linprobe_of]")
        .next()
        .unwrap()
        .to_owned()
}

#[test]
fn converted_to_every_format_and_back_a_checkpoint_is_the_same_to_the_bit() {
    for (name, formats) in [
        ("torch-mae/checkpoint-2.pth", &["mae", "official", "huggingface"][..]),
        ("torch-mae/legacy.pth", &["mae", "official", "huggingface"]),
        ("torch-mae/half.pth", &["mae", "official", "huggingface"]),
        ("torch-mae/checkpoint-2.pd", &["mae", "official", "huggingface"]),
        ("torch-mae/weights.pdparams", &["mae", "official", "huggingface"]),
        ("torch-mae/encoder-only.pth", &["mae", "official", "timm"]),
        ("huggingface-vitmae", &["mae", "official", "huggingface"]),
        ("huggingface-vit", &["mae", "official", "timm", "huggingface"]),
        ("timm-avg/checkpoint-9.pth", &["mae", "official", "timm"]),
        ("timm-token/pytorch_model.bin", &["mae", "official", "timm", "huggingface"]),
        ("timm-token/model.safetensors", &["mae", "official", "timm", "huggingface"]),
    ] {
        let bench = Bench::new(TINY);
        let before = bits(golden(name));
        let files = formats.iter().map(|to| match *to {
            "mae" | "huggingface" => (*to, "out"),
            to => (to, "out.safetensors"),
        });
        for (to, out) in files.chain([("official", "out.pth")]) {
            let (source, norm) = (golden(name), ["--set", "pretrain.norm_pix_loss=true"]);
            let args = [&["convert", &source, out, "--to", to][..], &HEADS, &norm].concat();
            bench.done(&args);
            assert!(bits(bench.path(out)) == before, "{name} to {to}");
            if to == "huggingface" {
                // The transform of evaluation: resize the short side, crop the centre.
                let text = bench.read("out/preprocessor_config.json");
                assert!(text.contains("\"shortest_edge\": 9"), "{text}");
                assert!(text.contains("\"do_center_crop\": true"), "{text}");
            }
            let back = [&["convert", out, "back", "--to", "mae"][..], &HEADS, &norm].concat();
            bench.done(&back);
            assert!(bits(bench.path("back")) == before, "{name} to {to} and back");
            for made in [out, "back"] {
                let path = bench.path(made);
                if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                    .unwrap();
            }
        }
    }
}

#[test]
fn missing_settings_are_asked_for_and_contradictions_are_refused() {
    let bench = Bench::new(&fitting());
    let mae = golden("torch-mae/legacy.pth");
    let convert = |more: &[&str]| {
        let args = [&["convert", &mae, "out", "--to", "huggingface"][..], more].concat();
        bench.refused(&args, 2)
    };
    assert!(convert(&[]).contains("--set model.num_heads="));
    assert!(convert(&HEADS[..2]).contains("--set model.decoder_num_heads="));
    assert!(convert(&HEADS).contains("--set pretrain.norm_pix_loss="));
    let whole = [&HEADS[..], &["--set", "pretrain.norm_pix_loss=true"]].concat();
    for (set, expected) in [
        ("model.depth=3", "`model.depth = 3` contradicts the checkpoint: `model.depth = 2`"),
        ("model.depth=3", "--> --set model.depth=3 (`model.depth`)"),
        ("model.depth=3", "remove this argument, or use `--set model.depth=2`"),
        ("model.embed_dim=32", "`model.embed_dim = 16`"),
        ("model.mlp_ratio=4", "`model.mlp_ratio = 4` contradicts"),
        ("data.input_size=16", "`data.input_size = 8`"),
        ("model.num_heads=3", "model.num_heads"),
        ("model.num_haeds=2", "did you mean `num_heads`?"),
        ("model.size=vit_base_patch16", "`model.size = \"vit_base_patch16\"` contradicts"),
        ("finetune.layer_dekay=0.5", "unknown key `finetune.layer_dekay`"),
    ] {
        let error = convert(&[&whole[..], &["--set", set]].concat());
        assert!(error.contains(expected), "{set}: {error}");
    }
    assert!(!bench.path("out").exists());
    // `--set` may repeat a setting of the file, or set one that the file does not have. A recipe provides the others.
    let agreeing = ["--set", "model.depth=2", "--set", "finetune.drop_path=0.2"];
    bench.done(&[&["convert", &mae, "out", "--recipe", "r.toml"][..], &agreeing].concat());
    assert!(
        bench
            .refused(&["convert", &mae, "out", "--recipe", "r.toml"], 2)
            .contains("already exists")
    );
    let huggingface = golden("huggingface-vit");
    let error = bench.refused(&["convert", &huggingface, "hf", "--set", "model.num_heads=4"], 2);
    assert!(error.contains("`model.num_heads = 2`"), "{error}");
}

#[test]
fn a_format_that_cannot_represent_a_checkpoint_says_why() {
    let bench = Bench::new(TINY);
    let average = golden("timm-avg/model.safetensors");
    let to = |input: &str, to: &str| {
        let out = if to == "timm" { "out.safetensors" } else { "out" };
        let args = [&["convert", input, out, "--to", to][..], &HEADS].concat();
        bench.refused(&args, 2)
    };
    assert!(to(&average, "huggingface").contains("mean of the patch tokens"));
    assert!(to(&golden("torch-mae/encoder-only.pth"), "huggingface").contains("only an encoder"));
    bench.done(&["run", "r.toml"]);
    let probe = "runs/tiny/linprobe/from-0003/checkpoints/epoch-0002";
    assert!(to(probe, "timm").contains("BatchNorm"));
    assert!(to(probe, "huggingface").contains("BatchNorm"));
    assert!(!bench.path("out").exists() && !bench.path("out.safetensors").exists());
    assert!(
        bench
            .refused(&["convert", probe, "out.npz", "--to", "official"], 2)
            .contains("`.safetensors`, or with `.pth`")
    );
    // The checkpoint decides the network: `--set` can repeat its settings, but not change them.
    let error = bench.refused(&["eval", probe, "--set", "model.norm_eps=1e-3"], 2);
    assert!(error.contains("`model.norm_eps = 0.001` contradicts the checkpoint"), "{error}");
    bench.done(&["eval", probe, "--set", "model.num_heads=2", "--set", "linprobe.epochs=7"]);
    bench.done(&["convert", probe, "probe.safetensors", "--to", "official"]);
    bench.done(&["convert", probe, "probe.pth", "--to", "official"]);
    let json = |checkpoint: &str| {
        bench.done(&[
            "eval",
            checkpoint,
            "--data",
            "r.toml",
            "--set",
            "model.num_heads=2",
            "--json",
        ])
    };
    assert_eq!(json("probe.safetensors"), json(probe));
    assert_eq!(json("probe.pth"), json(probe));
    let decoder = golden("torch-mae/legacy.pth");
    let output =
        bench.mae(&[&["convert", &decoder, "t.safetensors", "--to", "timm"][..], &HEADS].concat());
    assert!(String::from_utf8(output.stderr).unwrap().contains("timm has no decoder"));
}

#[test]
fn eval_and_predict_use_classifiers_of_other_programs() {
    let bench = Bench::new(&TINY.replace("input_size = 8", "input_size = 8\nnum_classes = 10"));
    let photo = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([x as u8 * 8, y as u8, 90]));
    photo.save(bench.path("a.png")).unwrap();
    let text = bench.done(&["predict", &golden("huggingface-vit"), "a.png"]);
    assert!(["ant", "bee", "cat", "dog", "elk"].iter().all(|name| text.contains(name)), "{text}");
    let timm = golden("timm-token/pytorch_model.bin");
    assert!(bench.refused(&["predict", &timm, "a.png"], 2).contains("model.num_heads"));
    let text = bench.done(&["predict", &timm, "a.png", "--set", "model.num_heads=2"]);
    assert!(text.contains("LABEL_4"), "{text}");
    let heads = ["--set", "model.num_heads=2"];
    let error = bench.refused(&[&["eval", &timm][..], &heads].concat(), 2);
    assert!(error.contains("--data"), "{error}");
    let error = bench.refused(&[&["eval", &timm, "--data", "r.toml"][..], &heads].concat(), 2);
    assert!(error.contains("the checkpoint has 5 classes, but the data has 10"), "{error}");
    let error = bench.refused(
        &["predict", &golden("torch-mae/encoder-only.pth"), "a.png", "--set", "model.num_heads=2"],
        2,
    );
    assert!(error.contains("no classification head"), "{error}");
}

#[test]
fn a_plan_warns_about_a_file_that_a_run_will_refuse() {
    let bench = Bench::new(&fitting());
    let whole = fs::read(golden("torch-mae/encoder-only.pth")).unwrap();
    mae::durable::write(&bench.path("cut.pth"), &whole[..whole.len() / 2]).unwrap();
    for set in ["finetune.from=cut.pth", "pretrain.resume=cut.pth"] {
        let output = bench.mae(&["plan", "r.toml", "--set", set]);
        let warning = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{warning}");
        assert!(warning.contains("`mae run` would fail now: cannot read cut.pth"), "{warning}");
    }
}

#[test]
fn fine_tuning_starts_from_encoders_of_other_programs_or_names_the_settings_that_fit() {
    let from = |name: &str| format!("finetune.from={}", golden(name));
    let bench = Bench::new(&fitting());
    let run = |name: &str, runs: &str| {
        bench.done(&["run", "r.toml", "--stage", "finetune", "--runs", runs, "--set", &from(name)])
    };
    // The same model in several files: fine-tuning has the same results.
    let digits = |table: &str| {
        table.lines().nth(1).unwrap().split(',').take(6).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = digits(&run("torch-mae/checkpoint-2.pth", "pth"));
    for (name, runs) in
        [("torch-mae/weights.pdparams", "pd"), ("torch-mae/encoder-only.pth", "encoder")]
    {
        assert_eq!(digits(&run(name, runs)), first, "{name}");
    }
    run("huggingface-vitmae", "hf");
    let refused = |recipe: &str, name: &str| {
        let bench = Bench::new(recipe);
        let set = from(name);
        let error = bench.refused(&["run", "r.toml", "--set", &set], 2);
        assert!(!bench.path("runs").exists(), "{error}");
        error
    };
    let error = refused(TINY, "torch-mae/checkpoint-2.pth");
    for expected in [
        "`patch_embed.proj.weight` has the shape [16, 3, 4, 4], expected [16, 3, 2, 2]",
        "model.patch_size = 4",
        "model.depth = 2",
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let other_heads = fitting().replace("\nnum_heads = 2", "\nnum_heads = 4");
    let error = refused(&other_heads, "huggingface-vitmae");
    assert!(error.contains("--set model.num_heads=2"), "{error}");
    let error = refused(&fitting(), "make.py");
    assert!(error.contains("make.py"), "{error}");
}

#[test]
fn pre_training_continues_from_other_programs_with_their_optimizer_state() {
    let text = fitting()
        .replace("checkpoint_epochs = [2]", "mask_ratio = 0.5\ncheckpoint_epochs = [3]")
        .replace("epochs = 3", "epochs = 5");
    let bench = Bench::new(&text);
    let resume = |name: &str| format!("pretrain.resume={}", golden(name));
    for (name, runs) in [("torch-mae/checkpoint-2.pth", "pth"), ("torch-mae/checkpoint-2.pd", "pd")]
    {
        let plan = bench.done(&["plan", "r.toml", "--runs", runs, "--set", &resume(name)]);
        assert!(plan.contains("to do from epoch 4\n"), "{plan}");
        bench.done(&[
            "run",
            "r.toml",
            "--stage",
            "pretrain",
            "--runs",
            runs,
            "--set",
            &resume(name),
        ]);
        let table = bench.read(&format!("{runs}/tiny/pretrain/epochs.csv"));
        let epochs: Vec<&str> =
            table.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
        assert_eq!(epochs, ["4", "5"], "{table}");
        // The imported epoch is kept unchanged, for the fine-tunings.
        let kept = bench.path(&format!("{runs}/tiny/pretrain/checkpoints/epoch-0003"));
        assert!(bits(kept) == bits(golden(name)));
    }
    // Both files contain the same training. The linear moments of Paddle are transposed.
    let last =
        |runs: &str| bits(bench.path(&format!("{runs}/tiny/pretrain/checkpoints/epoch-0005")));
    assert!(last("pth") == last("pd"));
    for (set, name, expected) in [
        (
            "pretrain.epochs=3",
            "torch-mae/checkpoint-2.pth",
            "the checkpoint was trained for 3 epochs",
        ),
        (
            "pretrain.checkpoint_epochs=[1]",
            "torch-mae/checkpoint-2.pth",
            "checkpoint_epochs` cannot contain 1",
        ),
        (
            "pretrain.norm_pix_loss=false",
            "torch-mae/checkpoint-2.pth",
            "--set pretrain.norm_pix_loss=true",
        ),
        ("pretrain.epochs=5", "torch-mae/legacy.pth", "no optimizer state"),
        ("model.depth=1", "torch-mae/checkpoint-2.pth", "model.depth = 2"),
    ] {
        let args = ["run", "r.toml", "--stage", "pretrain", "--set", &resume(name), "--set", set];
        let error = bench.refused(&args, 2);
        assert!(error.contains(expected), "{set}: {error}");
        assert!(!bench.path("runs").exists());
    }
}

#[test]
fn files_downloaded_instead_of_weights_are_recognized() {
    let bench = Bench::new(TINY);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 343000000\n";
    for (content, said) in
        [(pointer, "git lfs pull"), ("\n<!DOCTYPE html>\n<html></html>", "a web page")]
    {
        for name in ["model.safetensors", "model.pth"] {
            mae::durable::write(&bench.path(name), content.as_bytes()).unwrap();
            assert!(bench.refused(&["eval", name], 2).contains(said));
        }
    }
}

#[test]
fn unsupported_networks_are_refused_and_no_tensor_is_ignored() {
    let bench = Bench::new(&fitting());
    let tensors =
        || checkpoint::open(golden("torch-mae/encoder-only.pth").as_ref(), None).unwrap().file;
    let refused = |change: &dyn Fn(&mut BTreeMap<String, HostTensor>)| {
        let mut file = tensors();
        change(&mut file.tensors);
        file.write(&bench.path("x.safetensors")).unwrap();
        let from = "finetune.from=x.safetensors";
        let error = bench.refused(&["run", "r.toml", "--set", from], 2);
        assert!(!bench.path("runs").exists(), "{error}");
        let args = ["convert", "x.safetensors", "y.safetensors", "--to", "official"];
        assert_eq!(bench.mae(&args).status.code(), Some(2));
        error
    };
    let one = |shape: &[usize]| HostTensor {
        shape: shape.to_vec(),
        values: vec![1.0; shape.iter().product()],
    };
    let add = |name: &str, shape: &[usize]| {
        let (name, tensor) = (name.to_owned(), one(shape));
        refused(&move |tensors| drop(tensors.insert(name.clone(), tensor.clone())))
    };
    assert!(add("blocks.0.ls1.gamma", &[16]).contains("blocks.0.ls1.gamma"));
    assert!(add("dist_token", &[1, 1, 16]).contains("dist_token"));
    assert!(add("blocks.7.norm1.weight", &[16]).contains("`blocks.2.norm1.weight` is missing"));
    assert!(add("head.weight", &[1 << 40, 0]).contains("head."));
    assert!(add("pos_embed", &[1, 7, 16]).contains("does not fit a square grid"));
    let error = refused(&|tensors| drop(tensors.remove("blocks.1.attn.qkv.bias")));
    assert!(error.contains("`blocks.1.attn.qkv.bias` is missing"), "{error}");
    let error = refused(&|tensors| tensors.get_mut("norm.bias").unwrap().values[3] = f32::NAN);
    assert!(error.contains("`norm.bias` contains NaN or infinity"), "{error}");
}

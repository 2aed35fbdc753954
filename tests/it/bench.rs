//! Benchmarks end in time, whatever the model and the data.

use super::program::Bench;

/// Two updates per epoch, and a validation split that would take minutes to evaluate.
const SHORT_EPOCHS: &str = r#"
name = "short"
[data]
format = "synthetic"
input_size = 16
train_images = 16
val_images = 1000000
num_classes = 10
[model]
patch_size = 4
embed_dim = 16
depth = 1
num_heads = 2
decoder_embed_dim = 16
decoder_depth = 1
decoder_num_heads = 2
[runtime]
device = "cpu"
[finetune]
from = "scratch"
epochs = 1
warmup_epochs = 0
batch_size = 8
"#;

#[test]
fn a_training_bench_measures_a_step_in_no_time_and_counts_all_steps() {
    let bench = Bench::new(SHORT_EPOCHS);
    let json = bench.done(&["bench", "train", "r.toml", "--seconds", "0.001", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["steps"], &json["uncounted_steps"]), (&1.into(), &1.into()));
    assert!(json["images_per_s"].as_f64().unwrap() > 0.0);
    for part in ["forward", "backward", "optimizer"] {
        assert!(json["ms"][part].as_f64().unwrap() > 0.0, "{part}");
    }
    let text = bench.done(&["bench", "train", "r.toml", "--seconds", "0.001"]);
    assert!(text.contains("(1 step measured, 1 not measured; "), "{text}");
}

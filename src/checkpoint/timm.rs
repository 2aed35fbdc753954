//! Reads the `config.json` that timm stores with its models on the Hugging Face Hub.

use super::facts::Settings;
use serde_json::Value;

pub(super) fn recognises(config: &Value) -> bool {
    config["architecture"].is_string()
}

/// Returns the settings in timm's `config.json` that affect predictions.
///
/// `fc_norm` is true if the checkpoint has the tensor `fc_norm.weight`, a norm after pooling.
pub(super) fn settings(config: &Value, fc_norm: bool) -> Result<Settings, String> {
    let args = &config["model_args"];
    let floats = |key: &str| -> Option<Vec<f64>> {
        let list = config["pretrained_cfg"][key].as_array().or(config[key].as_array())?;
        list.iter().map(Value::as_f64).collect()
    };
    let pool = config["global_pool"].as_str().or(args["global_pool"].as_str()).unwrap_or("token");
    if !pool.is_empty() && (pool == "avg") != fc_norm {
        return Err(format!(
            "`config.json` has `global_pool = \"{pool}\"`, but the checkpoint has {} `fc_norm`. mae does not support this combination",
            if fc_norm { "an" } else { "no" }
        ));
    }
    if let Some(act) = args["act_layer"].as_str().filter(|act| *act != "gelu") {
        return Err(format!(
            "`config.json` has `act_layer = \"{act}\"`, but mae supports only \"gelu\""
        ));
    }
    let names = config["label_names"].as_array();
    let names =
        names.map(|names| names.iter().map(Value::as_str).map(|n| n.map(str::to_owned)).collect());
    Ok(Settings {
        average_pool: Some(pool == "avg").filter(|_| !pool.is_empty()),
        num_heads: args["num_heads"].as_u64().map(|heads| heads as usize),
        mean: floats("mean"),
        std: floats("std"),
        class_names: names.flatten().unwrap_or_default(),
        ..Settings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::settings;
    use serde_json::json;

    #[test]
    fn an_unsupported_activation_is_refused() {
        let with = |act: &str| settings(&json!({ "model_args": { "act_layer": act } }), false);
        assert!(with("gelu").is_ok());
        assert!(with("relu").unwrap_err().contains("mae supports only \"gelu\""));
    }
}

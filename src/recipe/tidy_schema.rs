use serde_json::{Map, Value};

/// Removes parts of the schema that do not apply to TOML, such as null values.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            tidy_object(map);
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn tidy_object(map: &mut Map<String, Value>) {
    map.retain(|key, value| match key.as_str() {
        "format" => !value.is_string(),
        "default" => !value.is_object(),
        "required" => !value.is_array(),
        _ => true,
    });
    if let Some(Value::String(description)) = map.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for list in ["type", "enum", "anyOf"] {
        let Some(Value::Array(items)) = map.get_mut(list) else { continue };
        let null = |item: &Value| item.is_null() || *item == "null" || item["type"] == "null";
        items.retain(|item| !null(item));
        match (list, items.as_slice()) {
            ("type", [single]) => map[list] = single.clone(),
            ("anyOf", [Value::Object(single)]) => {
                let single = single.clone();
                map.remove(list);
                for (key, value) in single {
                    map.entry(key).or_insert(value);
                }
            }
            _ => {}
        }
    }
}

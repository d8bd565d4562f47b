//! Examples of responses, request bodies and parameters.

use serde_json::{Value, json};

use super::spec::{operations, schema_name};

/// Keyed by schema name, by parameter name, and, where the example of the schema does not fit, by
/// operation id, status and media type.
const EXAMPLES: &str = include_str!("examples.json");

pub fn add_examples(document: &mut Value) {
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap_or_default();
    let schemas = document["components"]["schemas"].as_object_mut();
    for (name, schema) in schemas.into_iter().flatten() {
        // Enumerations need no example.
        if let Some(example) = examples["schemas"].get(name) {
            schema["example"] = example.clone();
        }
    }
    for operation in operations(document) {
        let id = operation["operationId"].as_str().unwrap_or_default();
        let own = examples["responses"][id].as_object();
        for (status, examples) in own.into_iter().flatten() {
            for (media_type, example) in examples.as_object().into_iter().flatten() {
                operation["responses"][status]["content"][media_type]["example"] = example.clone();
            }
        }
        let parameters = operation
            .get_mut("parameters")
            .and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default();
            if let Some(example) = examples["parameters"].get(name) {
                parameter["example"] = example.clone();
            }
        }
        let responses = operation["responses"].as_object_mut();
        for (_, response) in responses.into_iter().flatten() {
            if let Some(content) = response.pointer_mut("/content/text~1event-stream") {
                let entry = &examples["schemas"]["LogEntry"];
                content["example"] = entry.clone();
                let description = response["description"].as_str().unwrap_or_default();
                response["description"] =
                    json!(format!("{description}\n\n{}", sample_event(entry)));
            }
            if let Some(content) = response.pointer_mut("/content/application~1json")
                && content["schema"]["type"] == "array"
                && let Some(name) = schema_name(&content["schema"]["items"])
            {
                content["example"] = json!([examples["schemas"][name]]);
            }
        }
    }
}

/// A server-sent event, which the schema of its data cannot show.
fn sample_event(entry: &Value) -> String {
    let id = entry["cursor"].as_str().unwrap_or_default();
    format!("```\nevent: log\nid: {id}\ndata: {entry}\n\n```")
}

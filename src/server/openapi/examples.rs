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
        let own = examples["answers"][id].as_object();
        for (status, forms) in own.into_iter().flatten() {
            for (form, example) in forms.as_object().into_iter().flatten() {
                operation["responses"][status]["content"][form]["example"] = example.clone();
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
        let answers = operation["responses"].as_object_mut();
        for (_, answer) in answers.into_iter().flatten() {
            if let Some(form) = answer.pointer_mut("/content/text~1event-stream") {
                let entry = &examples["schemas"]["LogEntry"];
                form["example"] = entry.clone();
                let description = answer["description"].as_str().unwrap_or_default();
                answer["description"] = json!(format!("{description}\n\n{}", sample_event(entry)));
            }
            if let Some(form) = answer.pointer_mut("/content/application~1json")
                && form["schema"]["type"] == "array"
                && let Some(name) = schema_name(&form["schema"]["items"])
            {
                form["example"] = json!([examples["schemas"][name]]);
            }
        }
    }
}

/// A server-sent event, which the schema of its data cannot show.
fn sample_event(entry: &Value) -> String {
    let id = entry["cursor"].as_str().unwrap_or_default();
    format!("```\nevent: log\nid: {id}\ndata: {entry}\n\n```")
}

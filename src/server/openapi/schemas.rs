//! Completes the schemas that poem-openapi derives from the types of the wire contract.

use serde_json::{Map, Value, json};

use super::spec::{operations, schema_name};

/// Fields that are `null` when they have no value. All other optional fields are left out then.
const NULLABLE_FIELDS: [(&str, &[&str]); 2] = [
    ("LogEntry", &["timestamp", "level", "target", "message"]),
    ("LogPage", &["first_cursor"]),
];

/// Fields that hold an RFC 3339 timestamp.
const TIMESTAMPS: [(&str, &str); 12] = [
    ("AuditEntry", "time"),
    ("BrowserSession", "expires_at"),
    ("CreatedSession", "expires_at"),
    ("DaemonStatus", "started_at"),
    ("HealthCheck", "since"),
    ("LastExit", "at"),
    ("LogEntry", "timestamp"),
    ("ReloadResult", "previous_key_valid_until"),
    ("SessionSummary", "created_at"),
    ("SessionSummary", "expires_at"),
    ("StopResult", "deadline"),
    ("WorkerStatus", "started_at"),
];

/// Fields that hold an object of any names and values.
const OBJECTS: [(&str, &str); 1] = [("AuditEntry", "detail")];

const SCOPES: &[&str] = &["admin:read", "admin:logs", "admin:control"];
/// Text fields with a closed set of values.
const ENUMS: [(&str, &str, &[&str]); 10] = [
    ("AuditEntry", "outcome", &["accepted", "refused", "failed"]),
    ("BrowserSession", "scopes", SCOPES),
    ("CreatedSession", "scopes", SCOPES),
    ("SignInPreview", "scopes", SCOPES),
    ("SessionSummary", "scopes", SCOPES),
    ("RevokeResult", "signing_key", &["replaced", "unchanged"]),
    ("LivenessReport", "status", &["alive"]),
    (
        "LogEntry",
        "level",
        &["ERROR", "WARN", "INFO", "DEBUG", "TRACE"],
    ),
    (
        "LogStreamEnd",
        "reason",
        &["stopping", "restarting", "signed_out", "token_expired"],
    ),
    (
        "WorkerStatus",
        "state",
        &["starting", "ready", "stopping", "backing_off", "crash_loop"],
    ),
];

/// Completes all schemas of a document.
pub fn complete_schemas(document: &mut Value) {
    describe_request_bodies(document);
    for (name, schema) in schemas(document) {
        schema["title"] = json!(name);
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (_, property) in properties.into_iter().flatten() {
            describe_reference(property);
        }
    }
    for (schema, field, values) in ENUMS {
        let Some(property) = property(document, schema, field) else {
            continue;
        };
        if property["type"] == "array" {
            property["items"]["enum"] = json!(values);
        } else {
            property["enum"] = json!(values);
        }
    }
    for (schema, field) in TIMESTAMPS {
        if let Some(property) = property(document, schema, field) {
            property["format"] = json!("date-time");
        }
    }
    for (schema, field) in OBJECTS {
        if let Some(property) = property(document, schema, field) {
            property["type"] = json!("object");
            property["additionalProperties"] = json!({});
        }
    }
    for (schema, fields) in NULLABLE_FIELDS {
        for field in fields {
            if let Some(property) = property(document, schema, field) {
                property["nullable"] = json!(true);
                // An enumeration allows null only if it lists it.
                if let Some(values) = property.get_mut("enum").and_then(Value::as_array_mut) {
                    values.push(Value::Null);
                }
            }
        }
        let path = format!("/components/schemas/{schema}/required");
        if let Some(Value::Array(required)) = document.pointer_mut(&path) {
            required.extend(fields.iter().map(|field| json!(field)));
        }
    }
    if let Some(status) = property(document, "Problem", "status") {
        status["minimum"] = json!(400);
        status["maximum"] = json!(599);
    }
    describe_numbers(document);
}

fn schemas(document: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    let schemas = document.pointer_mut("/components/schemas");
    let schemas = schemas.and_then(Value::as_object_mut);
    schemas.into_iter().flat_map(Map::iter_mut)
}

fn property<'a>(document: &'a mut Value, schema: &str, field: &str) -> Option<&'a mut Value> {
    document.pointer_mut(&format!("/components/schemas/{schema}/properties/{field}"))
}

/// Reduces `allOf` of a reference and a description to the reference. The description stands beside
/// it, too, and generators take two items for a type of its own, or for none.
fn describe_reference(property: &mut Value) {
    if let Some(Value::Array(items)) = property.get_mut("allOf") {
        items.retain(|item| !item["$ref"].is_null());
    }
}

/// Forbids unknown fields in request bodies, and allows null for optional ones, as the parser does.
fn describe_request_bodies(document: &mut Value) {
    let bodies: Vec<String> = operations(document)
        .filter_map(|operation| {
            let body = &operation["requestBody"]["content"]["application/json"];
            schema_name(&body["schema"]).map(str::to_owned)
        })
        .collect();
    for name in bodies {
        let schema = &mut document["components"]["schemas"][name];
        schema["additionalProperties"] = json!(false);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let properties = schema["properties"].as_object_mut().into_iter().flatten();
        for (name, property) in properties {
            if !required.contains(&json!(name)) {
                property["nullable"] = json!(true);
            }
        }
    }
}

/// Gives numbers the formats and limits that generators know. No number of the API is negative.
///
/// Generators read the unsigned formats, which OpenAPI does not define, as 32 bits. Numbers of 32
/// bits are process ids, generations and the like, which never exceed 31.
fn describe_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let is_integer = fields.get("type").is_some_and(|kind| kind == "integer");
            if is_integer || fields.get("type").is_some_and(|kind| kind == "number") {
                fields.entry("minimum").or_insert(json!(0));
            }
            if is_integer {
                match fields.get("format").and_then(Value::as_str) {
                    Some("uint64") => fields.insert("format".into(), json!("int64")),
                    Some("uint16" | "uint32") => fields.insert("format".into(), json!("int32")),
                    _ => None,
                };
                // Generators for typed languages reject `1.0`.
                for limit in ["minimum", "maximum"] {
                    if let Some(limit) = fields.get_mut(limit)
                        && let Some(number) = limit.as_f64()
                    {
                        *limit = format!("{number}")
                            .parse::<u64>()
                            .map_or(json!(number), |n| json!(n));
                    }
                }
            }
            fields.values_mut().for_each(describe_numbers);
        }
        Value::Array(items) => items.iter_mut().for_each(describe_numbers),
        _ => {}
    }
}

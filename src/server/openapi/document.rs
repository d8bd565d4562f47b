//! Completes what poem-openapi derives.

use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Value, json};

use super::errors::add_errors;
use super::examples::add_examples;
use super::operation::Operation;
use super::spec::{derive, operations, schema_name};
use crate::api::MAX_PAGE_LINES;
use crate::server::http::json;

/// Fields that are `null` when they have no value. All other optional fields are left out then.
const NULLABLE_FIELDS: [(&str, &[&str]); 2] = [
    ("LogEntry", &["timestamp", "level", "target", "message"]),
    ("LogPage", &["first_cursor"]),
];

/// A cursor: inode, birth time of the file, offset and length of the line.
const CURSOR_PATTERN: &str = "(0|[1-9a-f][0-9a-f]{0,15})(-(0|[1-9a-f][0-9a-f]{0,15})){3}";

/// RFC 3339 with valid days only, so that every text that matches is accepted.
const TIMESTAMP_PATTERN: &str = concat!(
    "([12][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)",
    "|[12][0-9](0[48]|[2468][048]|[13579][26])-02-29)",
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?",
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
);
/// A level, and directives for parts of the program. More forms than these are accepted.
const LEVEL_PATTERN: &str = "^(error|warn|info|debug|trace|off)(,[a-z_]{1,40}(::[a-z_]{1,40}){0,4}=(error|warn|info|debug|trace|off)){0,8}$";

/// A duration such as `1h 30m`.
const DURATION_PATTERN: &str = "[0-9]{1,5}[smhdw]( ?[0-9]{1,5}[smhdw]){0,4}";

/// The complete document of a service.
///
/// `default_url` is the address of the listener with default settings, and `listener` describes it.
pub fn document<T: OpenApi>(
    service: &OpenApiService<T, ()>,
    default_url: &str,
    listener: &str,
    declared: &[&Operation],
) -> Value {
    let mut document = derive(service);
    if let Some(servers) = document.get_mut("servers") {
        *servers = json!([
            { "url": "/", "description": "Where this document came from." },
            { "url": default_url, "description": listener },
        ]);
    }
    document["info"]["license"] =
        json!({ "name": "MIT", "url": "https://opensource.org/license/mit" });
    for (schema, fields) in NULLABLE_FIELDS {
        let schema = &mut document["components"]["schemas"][schema];
        if schema.is_null() {
            continue;
        }
        for field in fields {
            schema["properties"][*field]["nullable"] = json!(true);
        }
        if let Some(required) = schema["required"].as_array_mut() {
            required.extend(fields.iter().map(|field| json!(field)));
        }
    }
    describe_request_bodies(&mut document);
    if let Some(level) =
        document.pointer_mut("/components/schemas/LogLevelRequest/properties/level")
    {
        level["pattern"] = json!(LEVEL_PATTERN);
        level["example"] = json!("debug");
    }
    // Indexing above may have added null schemas.
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|_, schema| !schema.is_null());
    }
    for operation in operations(&mut document) {
        describe_parameters(operation);
        describe_responses(operation);
        let id = operation["operationId"].as_str().unwrap_or_default();
        let declared = declared.iter().find(|declared| declared.id == id);
        add_errors(operation, declared.map_or(&[], |declared| declared.errors));
    }
    add_examples(&mut document);
    normalize_integer_limits(&mut document);
    document
}

/// Replaces descriptions that only say `Done.` with the summary of the operation.
fn describe_responses(operation: &mut Value) {
    let summary = operation["summary"].clone();
    let responses = operation["responses"].as_object_mut();
    for (_, response) in responses.into_iter().flatten() {
        if response["description"] == json::DONE {
            response["description"] = summary.clone();
        }
        let headers = response.get_mut("headers").and_then(Value::as_object_mut);
        for (_, header) in headers.into_iter().flatten() {
            header
                .as_object_mut()
                .map(|header| header.remove("deprecated"));
        }
    }
    // States explicitly that no credentials are required.
    if operation["security"].is_null() {
        operation["security"] = json!([]);
    }
}

/// Writes limits of integers as integers: generators for typed languages reject `1.0`.
fn normalize_integer_limits(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "integer") {
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
            fields.values_mut().for_each(normalize_integer_limits);
        }
        Value::Array(items) => items.iter_mut().for_each(normalize_integer_limits),
        _ => {}
    }
}

/// Adds the accepted values of text parameters, which their types do not express.
fn describe_parameters(operation: &mut Value) {
    let is_page = operation["operationId"] == "get_logs";
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let (keyword, value) = match parameter["name"].as_str() {
            // The larger limit of the type is for text/plain; generated clients request JSON.
            Some("lines") if is_page => ("maximum", json!(MAX_PAGE_LINES)),
            Some("level") => ("enum", json!(["error", "warn", "info", "debug", "trace"])),
            Some("since") => (
                "pattern",
                json!(format!("^({TIMESTAMP_PATTERN}|{DURATION_PATTERN})$")),
            ),
            Some("before" | "after") => ("pattern", json!(format!("^{CURSOR_PATTERN}$"))),
            Some("Last-Event-ID") => ("pattern", json!(format!("^({CURSOR_PATTERN})?$"))),
            _ => continue,
        };
        parameter["schema"][keyword] = value;
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

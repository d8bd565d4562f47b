//! The OpenAPI documents: what poem-openapi derives from the operations, with what it leaves out put in.

mod examples;
mod problems;

use std::collections::HashMap;

use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::{admin, payload, public};

/// Fields that are `null` when they have no value; all other optional fields are left out then.
const NULLABLE_FIELDS: [(&str, &[&str]); 2] = [
    ("LogEntry", &["timestamp", "level", "target", "message"]),
    ("LogPage", &["first_cursor"]),
];

/// What a cursor looks like: an inode, when it was born, where the line begins and how long it is.
const CURSOR_PATTERN: &str = "(0|[1-9a-f][0-9a-f]{0,15})(-(0|[1-9a-f][0-9a-f]{0,15})){3}";

/// RFC 3339 with the days that there are, so that every text of this form is accepted.
const TIMESTAMP_PATTERN: &str = concat!(
    "([12][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)",
    "|[12][0-9](0[48]|[2468][048]|[13579][26])-02-29)",
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?",
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
);
/// A level, and directives for parts of the program. Others are understood too.
const LEVEL_PATTERN: &str = "^(error|warn|info|debug|trace|off)(,[a-z_]{1,40}(::[a-z_]{1,40}){0,4}=(error|warn|info|debug|trace|off)){0,8}$";

/// How long ago.
const DURATION_PATTERN: &str = "[0-9]{1,5}[smhdw]( ?[0-9]{1,5}[smhdw]){0,4}";

/// The document of the public API.
#[must_use]
pub fn public_document() -> Value {
    let usual = "The public listener: HOST and PORT.";
    complete(
        &public::document_service().spec(),
        "http://127.0.0.1:8000",
        usual,
    )
}

/// The document of the admin API.
#[must_use]
pub fn admin_document() -> Value {
    let usual = "The admin listener: ADMIN_HOST and ADMIN_PORT.";
    complete(
        &admin::document_service().spec(),
        "http://127.0.0.1:8001",
        usual,
    )
}

/// `usual` is the address unless the settings say otherwise.
fn complete(derived: &str, usual: &str, description: &str) -> Value {
    let mut document: Value = serde_json::from_str(derived).unwrap_or_default();
    if let Some(servers) = document.get_mut("servers") {
        *servers = json!([
            { "url": "/", "description": "Where this document came from." },
            { "url": usual, "description": description },
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
    // Indexing with `NULLABLE` above must not leave empty schemas behind.
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|_, schema| !schema.is_null());
    }
    for operation in operations(&mut document) {
        describe_parameters(operation);
        describe_responses(operation);
        problems::add_errors(operation);
    }
    examples::add_examples(&mut document);
    normalize_integer_limits(&mut document);
    document
}

/// What an answer that is only `Done.` tells: what was asked for.
fn describe_responses(operation: &mut Value) {
    let summary = operation["summary"].clone();
    let answers = operation["responses"].as_object_mut();
    for (_, answer) in answers.into_iter().flatten() {
        if answer["description"] == payload::DONE {
            answer["description"] = summary.clone();
        }
        let headers = answer.get_mut("headers").and_then(Value::as_object_mut);
        for (_, header) in headers.into_iter().flatten() {
            header
                .as_object_mut()
                .map(|header| header.remove("deprecated"));
        }
    }
    // Says that nothing is required of the caller, which is otherwise left to be guessed.
    if operation["security"].is_null() {
        operation["security"] = json!([]);
    }
}

/// Limits of integers as integers: generators of typed languages stumble over `1.0`.
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

/// What the types of the parameters do not say: which texts are accepted.
fn describe_parameters(operation: &mut Value) {
    let is_page = operation["operationId"] == "get_logs";
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let (keyword, value) = match parameter["name"].as_str() {
            // What the parameter alone allows is for text/plain; a generated client asks for JSON.
            Some("lines") if is_page => ("maximum", json!(admin::MAX_PAGE_LINES)),
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

/// Bodies are read strictly: a field that is not known is refused. One that may be left out may also be null.
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

/// The name of the schema that is referred to.
fn schema_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    document["paths"]
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
        .filter_map(Value::as_object_mut)
        .flat_map(serde_json::Map::values_mut)
}

/// The paths of a service's operations.
pub(super) fn paths<T: poem_openapi::OpenApi>(
    service: &poem_openapi::OpenApiService<T, ()>,
) -> Vec<String> {
    let document: Value = serde_json::from_str(&service.spec()).unwrap_or_default();
    let paths = document["paths"].as_object();
    paths
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .cloned()
        .collect()
}

/// The names of the query parameters of each path.
pub(super) fn query_parameters(document: &Value) -> HashMap<String, Vec<String>> {
    let names = |item: &Value| {
        let operations = item
            .as_object()
            .into_iter()
            .flat_map(serde_json::Map::values);
        operations
            .filter_map(|operation| operation["parameters"].as_array())
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
            .collect()
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .map(|(path, item)| (path.clone(), names(item)))
        .collect()
}

/// `Allow` for each path of the document, and for the paths `unlisted`, which are only read.
pub(super) fn allowed_methods(
    document: &Value,
    unlisted: impl IntoIterator<Item = String>,
) -> HashMap<String, HeaderValue> {
    let read_only = unlisted
        .into_iter()
        .map(|path| (path, HeaderValue::from_static("GET, HEAD")));
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .filter_map(|(path, item)| {
            let mut methods: Vec<String> = item
                .as_object()?
                .keys()
                .map(|method| method.to_ascii_uppercase())
                .collect();
            if methods.iter().any(|method| method == "GET") {
                methods.push("HEAD".into());
            }
            let allow = HeaderValue::try_from(methods.join(", ")).ok()?;
            Some((path.clone(), allow))
        })
        .chain(read_only)
        .collect()
}

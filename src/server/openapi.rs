//! The OpenAPI documents: what poem-openapi derives from the operations, with what it leaves out put in.

use std::collections::HashMap;

use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::{admin, public};
use crate::api::event;

/// Fields that are `null` when they have no value; all other optional fields are left out then.
const NULLABLE: [(&str, &[&str]); 2] = [
    ("LogEntry", &["timestamp", "level", "target", "message"]),
    ("LogPage", &["first_cursor"]),
];

/// What a cursor looks like: an inode, when it was born, where the line begins and how long it is.
const CURSOR: &str = "(0|[1-9a-f][0-9a-f]{0,15})(-(0|[1-9a-f][0-9a-f]{0,15})){3}";

/// RFC 3339 with the days that there are, so that every text of this form is accepted.
const TIMESTAMP: &str = concat!(
    "([12][0-9]{3}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)",
    "|[12][0-9](0[48]|[2468][048]|[13579][26])-02-29)",
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?",
    "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
);
/// A level, and directives for parts of the program. Others are understood too.
const LEVEL: &str = "^(error|warn|info|debug|trace|off)(,[a-z_]{1,40}(::[a-z_]{1,40}){0,4}=(error|warn|info|debug|trace|off)){0,8}$";

/// How long ago.
const AGO: &str = "[0-9]{1,5}[smhdw]( ?[0-9]{1,5}[smhdw]){0,4}";

/// The document of the public API.
#[must_use]
pub fn public_document() -> Value {
    complete(&public::document_service().spec())
}

/// The document of the admin API.
#[must_use]
pub fn admin_document() -> Value {
    complete(&admin::document_service().spec())
}

fn complete(derived: &str) -> Value {
    let mut document: Value = serde_json::from_str(derived).unwrap_or_default();
    if let Some(servers) = document.get_mut("servers") {
        *servers = json!([{ "url": "/" }]);
    }
    document["info"]["license"] =
        json!({ "name": "MIT", "url": "https://opensource.org/license/mit" });
    for (schema, fields) in NULLABLE {
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
    describe_bodies(&mut document);
    if let Some(level) =
        document.pointer_mut("/components/schemas/LogLevelRequest/properties/level")
    {
        level["pattern"] = json!(LEVEL);
        level["example"] = json!("debug");
    }
    // Indexing with `NULLABLE` above must not leave empty schemas behind.
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|_, schema| !schema.is_null());
    }
    for operation in operations(&mut document) {
        describe_parameters(operation);
        if operation["operationId"] == "stream_logs" {
            describe_events(operation);
        }
        let problem = operation["responses"]["default"].clone();
        if operation["security"]
            .as_array()
            .is_some_and(|s| !s.is_empty())
        {
            add_refusals(operation, &problem);
        }
    }
    document
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
            Some("since") => ("pattern", json!(format!("^({TIMESTAMP}|{AGO})$"))),
            Some("before" | "after") => ("pattern", json!(format!("^{CURSOR}$"))),
            Some("Last-Event-ID") => ("pattern", json!(format!("^({CURSOR})?$"))),
            _ => continue,
        };
        parameter["schema"][keyword] = value;
    }
}

/// `OpenAPI` before 3.2 has no word for the items of a stream: as most tools read it, the schema is that of one event.
fn describe_events(operation: &mut Value) {
    operation["responses"]["200"]["content"]["text/event-stream"]["schema"] = json!({
        "type": "object",
        "description": "One event, as the HTML standard takes it apart.",
        "required": ["event", "data"],
        "properties": {
            "event": { "type": "string", "enum": [event::LOG, event::GAP, event::END] },
            "id": { "type": "string", "description": "The cursor of the last line that was sent." },
            "retry": { "type": "integer", "description": "Milliseconds to wait before connecting again." },
            "data": {
                "type": "string",
                "description": "JSON: with `log` a `LogEntry`, with `end` a `StreamEnd`, with `gap` an empty object.",
            },
        },
    });
}

/// Bodies are read strictly: a field that is not known is refused. One that may be left out may also be null.
fn describe_bodies(document: &mut Value) {
    let bodies: Vec<String> = operations(document)
        .filter_map(|operation| {
            let body = &operation["requestBody"]["content"]["application/json"];
            let reference = body["schema"]["$ref"].as_str()?;
            Some(reference.rsplit('/').next()?.to_owned())
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

/// The answers of the guard, which no operation's own type mentions.
fn add_refusals(operation: &mut Value, problem: &Value) {
    let refusals = [
        (
            "401",
            "No valid token or session.",
            "Bearer error=\"invalid_token\"",
        ),
        (
            "403",
            "The token or the session lacks the scope, or the request comes from a page of another site.",
            "Bearer error=\"insufficient_scope\"",
        ),
    ];
    for (status, description, challenge) in refusals {
        let mut response = problem.clone();
        response["description"] = json!(description);
        response["headers"] = json!({
            "WWW-Authenticate": {
                "description": "The challenge of RFC 6750.",
                "schema": { "type": "string", "example": challenge },
            },
        });
        operation["responses"][status] = response;
    }
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

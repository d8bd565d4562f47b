//! The OpenAPI documents: what poem-openapi derives from the operations, with what it leaves out put in.

use std::collections::HashMap;

use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::{admin, public};

/// Fields that are `null` when they have no value; all other optional fields are left out then.
const NULLABLE: [(&str, &[&str]); 2] = [
    ("LogEntry", &["timestamp", "level", "target", "message"]),
    ("LogPage", &["first_cursor"]),
];

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
    // Indexing with `NULLABLE` above must not leave empty schemas behind.
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.retain(|_, schema| !schema.is_null());
    }
    for operation in operations(&mut document) {
        if operation["operationId"] == "get_logs" {
            limit_lines(operation);
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

/// What the parameter alone allows is for text/plain; a generated client asks for JSON.
fn limit_lines(operation: &mut Value) {
    let parameters = operation["parameters"].as_array_mut().into_iter().flatten();
    for parameter in parameters.filter(|parameter| parameter["name"] == "lines") {
        parameter["schema"]["maximum"] = json!(admin::MAX_PAGE_LINES);
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

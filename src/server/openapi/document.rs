//! Completes what poem-openapi derives.

use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Value, json};

use super::access::Access;
use super::errors::add_errors;
use super::examples::add_examples;
use super::operation::Operation;
use super::schemas::complete_schemas;
use super::spec::{derive, operations, schema_name};
use crate::api::MAX_PAGE_LINES;
use crate::server::http::json;

/// The complete document of a service.
///
/// `root` is the address of `/`, relative to that of the document. `default_url` is the address of the
/// listener with default settings, and `listener` describes it.
pub fn document<T: OpenApi>(
    service: &OpenApiService<T, ()>,
    root: &str,
    default_url: &str,
    listener: &str,
    declared: &[&Operation],
) -> Value {
    let mut document = derive(service);
    if let Some(servers) = document.get_mut("servers") {
        *servers = json!([
            { "url": root, "description": "The server that this document was loaded from." },
            { "url": default_url, "description": listener },
        ]);
    }
    document["info"]["license"] =
        json!({ "name": "MIT", "url": "https://opensource.org/license/mit" });
    join_lines(&mut document);
    complete_schemas(&mut document);
    let schemas = document["components"]["schemas"].clone();
    for operation in operations(&mut document) {
        let access = Access::take_from(operation);
        require_cookies(operation);
        describe_parameters(operation);
        describe_responses(operation, &schemas);
        let description = operation["description"].as_str().unwrap_or_default();
        operation["description"] = json!(format!("{description}\n\n{}", access.describe()));
        let id = operation["operationId"].as_str().unwrap_or_default();
        let declared = declared.iter().find(|declared| declared.id == id);
        add_errors(
            operation,
            declared.map_or(&[], |declared| declared.errors),
            access,
        );
    }
    add_examples(&mut document);
    document
}

/// Joins the lines of descriptions, which the source code wraps. Paragraphs stay.
fn join_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let ("description", Value::String(text)) = (name.as_str(), &mut *value) {
                    let paragraphs: Vec<_> = text
                        .split("\n\n")
                        .map(|paragraph| paragraph.lines().map(str::trim).collect::<Vec<_>>())
                        .map(|lines| lines.join(" "))
                        .collect();
                    *text = paragraphs.join("\n\n");
                } else {
                    join_lines(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

/// Appends the description of the body to those of successful responses.
fn describe_responses(operation: &mut Value, schemas: &Value) {
    let description = operation["description"].clone();
    let responses = operation["responses"].as_object_mut();
    for (_, response) in responses.into_iter().flatten() {
        let schema = &response["content"]["application/json"]["schema"];
        let body = match schema_name(schema) {
            Some(name) => schemas[name]["description"].as_str(),
            None => description.as_str(),
        };
        let own = response["description"].as_str().unwrap_or_default();
        if let Some(prefix) = own.strip_suffix(json::OF_BODY) {
            let text = format!("{prefix}{}", body.unwrap_or_default());
            response["description"] = json!(text);
        }
        let headers = response.get_mut("headers").and_then(Value::as_object_mut);
        for (_, header) in headers.into_iter().flatten() {
            header
                .as_object_mut()
                .map(|header| header.remove("deprecated"));
        }
    }
}

/// Adds the cookie to the session value and the ticket, which are valid together with it only.
/// poem-openapi describes only credentials that are sufficient alone.
fn require_cookies(operation: &mut Value) {
    let accepted = operation.get_mut("security").and_then(Value::as_array_mut);
    for accepted in accepted.into_iter().flatten() {
        if ["session", "ticket"]
            .iter()
            .any(|name| accepted.get(*name).is_some())
        {
            accepted["cookie"] = json!([]);
        }
    }
}

/// The parameter with which a polyfill of `EventSource` resumes the log stream.
const POLYFILL_RESUME_PARAMETER: &str = "lastEventId";

/// Adds the accepted values of parameters that their types do not express.
///
/// Texts of several forms have no pattern: generated clients would refuse a form that a later
/// version accepts.
fn describe_parameters(operation: &mut Value) {
    let is_page = operation["operationId"] == "get_logs";
    let mut parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    if let Some(parameters) = &mut parameters {
        // It is described with `after`: progenitor gives it the same identifier as the header
        // `Last-Event-ID`, and the generated client would not compile.
        parameters.retain(|parameter| parameter["name"] != POLYFILL_RESUME_PARAMETER);
    }
    for parameter in parameters.into_iter().flatten() {
        match parameter["name"].as_str() {
            // The larger limit of the type is for text/plain; generated clients request JSON.
            Some("lines") if is_page => parameter["schema"]["maximum"] = json!(MAX_PAGE_LINES),
            Some("level") => {
                parameter["schema"]["enum"] = json!(["error", "warn", "info", "debug", "trace"]);
            }
            _ => {}
        }
    }
}

//! Finds what was forgotten when an operation was added.

use std::collections::BTreeSet;

use hyper::Method;

use super::*;

/// Operations that the command line does not need.
const WITHOUT_CLIENT_METHOD: [&str; 7] = [
    "create_session",
    "delete_session",
    "get_metrics",
    "get_session",
    "get_settings",
    "get_sign_in_token",
    "set_log_level",
];

#[test]
fn every_operation_is_declared_once() {
    let routes = openapi::routes(&document_service());
    for route in &routes {
        let (method, path) = (&route.method, &route.path);
        assert!(
            !route.operation_id.is_empty(),
            "{method} {path} has no `operation_id`"
        );
    }
    let ids: Vec<_> = routes.iter().map(|route| &*route.operation_id).collect();
    let declared: Vec<_> = declared_operations().iter().map(|each| each.id).collect();
    for id in &ids {
        let count = declared.iter().filter(|each| *each == id).count();
        assert_eq!(count, 1, "entries for `{id}` in the OPERATIONS of its file");
    }
    for id in &declared {
        assert!(ids.contains(id), "OPERATIONS has `{id}`, no operation does");
    }
}

#[test]
fn every_change_has_its_own_audit_action() {
    let declared = declared_operations();
    let mut actions = BTreeSet::new();
    for route in openapi::routes(&document_service()) {
        let id = &*route.operation_id;
        let operation = declared.iter().find(|each| each.id == id).unwrap();
        if route.method.is_safe() {
            assert_eq!(operation.audit_action, None, "`{id}` changes nothing");
        } else {
            let action = operation.audit_action;
            let action = action.unwrap_or_else(|| panic!("`{id}` has no audit action"));
            assert!(actions.insert(action), "two operations have `{action}`");
        }
    }
}

#[test]
fn every_operation_documents_errors_and_examples() {
    let document = admin_document();
    for route in openapi::routes(&document_service()) {
        let id = &*route.operation_id;
        let method = route.method.as_str().to_lowercase();
        let operation = &document["paths"][&route.path][method];
        assert!(
            operation["summary"].is_string(),
            "`{id}` has no doc comment"
        );
        assert!(
            operation["description"].is_string(),
            "the doc comment of `{id}` has only a summary"
        );
        assert!(
            !operation["security"].as_array().unwrap().is_empty(),
            "`{id}` takes no `Auth`"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.contains_key("500"),
            "`{id}` returns no `Result` with an `ApiError`"
        );
        if route.method != Method::GET {
            assert!(
                responses.contains_key("409"),
                "`{id}` does not document NOT_ACTIVE"
            );
        }
        for (status, response) in responses {
            for (form, content) in response["content"].as_object().into_iter().flatten() {
                let schema = content["schema"]["$ref"].as_str().unwrap_or("#");
                let schema = document.pointer(&schema[1..]).unwrap();
                assert!(
                    !content["example"].is_null() || !schema["example"].is_null(),
                    "examples.json has none for {status} of `{id}` as {form}"
                );
            }
        }
    }
}

#[test]
fn every_operation_has_a_client_method_or_needs_none() {
    let client = include_str!("../../../client/admin.rs");
    let client = client.split_whitespace().collect::<Vec<_>>().join(" ");
    for route in openapi::routes(&document_service()) {
        let id = &*route.operation_id;
        let call = format!("Method::{}, \"{}\"", route.method, route.path);
        assert_eq!(
            client.contains(&call),
            !WITHOUT_CLIENT_METHOD.contains(&id),
            "AdminClient and WITHOUT_CLIENT_METHOD disagree about `{id}`"
        );
    }
}

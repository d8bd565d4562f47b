//! The OpenAPI documents and the pages that show them.

use std::fs;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::support::{Home, jwt, request};

fn checked_in_document(api: &str) -> Value {
    let path = format!("{}/openapi/{api}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn checked_in_documents_match_code() {
    let home = Home::started();
    for (api, host, path) in [
        ("public", home.public_address(), "/openapi.json"),
        ("admin", home.admin_address(), "/admin/openapi.json"),
    ] {
        let printed = home.run(["openapi", api]).succeeds().json();
        assert_eq!(checked_in_document(api), printed, "run `make openapi`");
        let served = request(&host, "GET", path, &[], "");
        assert_eq!(served.header("content-type"), Some("application/json"));
        assert_eq!(served.json(), printed);
    }
}

#[test]
fn every_operation_is_named_and_documents_errors() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api-clients.md");
    let page = fs::read_to_string(page).unwrap();
    for api in ["public", "admin"] {
        let document = checked_in_document(api);
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let row = format!("| `{id}` | `{} {path}` |", method.to_uppercase());
                assert!(page.contains(&row), "docs/api-clients.md lacks {row}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["description"].is_string(), "{method} {path}");
                let responses = &operation["responses"];
                assert!(responses["default"].is_null(), "{method} {path}");
                let problem = &responses["500"]["content"]["application/problem+json"];
                assert!(problem.is_object(), "{method} {path}");
                if api == "admin" {
                    let schemes: &[&str] = match id {
                        "create_session" | "create_sign_in_token" | "get_sign_in_token" => {
                            &["bearer"]
                        }
                        "get_session" | "delete_session" => &["session"],
                        "stream_logs" => &["bearer", "session", "ticket"],
                        _ => &["bearer", "session"],
                    };
                    let required = |scheme: &&str| match *scheme {
                        "bearer" => json!({ "bearer": [] }),
                        // Never without the cookie.
                        scheme => json!({ scheme: [], "cookie": [] }),
                    };
                    let expected: Vec<_> = schemes.iter().map(required).collect();
                    assert_eq!(operation["security"], json!(expected), "{method} {path}");
                    let headers = &operation["responses"]["401"]["headers"];
                    assert!(headers["WWW-Authenticate"].is_object(), "{method} {path}");
                }
            }
        }
    }
    let entry = &checked_in_document("admin")["components"]["schemas"]["LogEntry"];
    assert_eq!(entry["properties"]["level"]["nullable"], true);
    assert!(
        entry["required"]
            .as_array()
            .unwrap()
            .contains(&"level".into())
    );
}

#[test]
fn description_ends_with_scope_that_daemon_demands() {
    let mut home = Home::new();
    home.set("JWT_SECRET_KEY", jwt::SECRET);
    home.run(["start"]).succeeds();
    let host = home.admin_address();
    let document = checked_in_document("admin");
    // A token without a scope is refused by every operation that needs one.
    let bearer = format!("Bearer {}", jwt::token(""));
    let headers = [("Authorization", bearer.as_str())];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            let description = operation["description"].as_str().unwrap();
            let (_, last) = description.rsplit_once("\n\n").unwrap();
            let documented = &operation["responses"]["403"];
            let detail = &documented["content"]["application/problem+json"]["example"]["detail"];
            if operation["security"] == json!([{ "session": [], "cookie": [] }]) {
                assert_eq!(last, "Scope: none, only a browser session.", "{name}");
                assert!(detail.as_str().unwrap().contains("origin"), "{name}");
                continue;
            }
            let answer = request(&host, &method.to_uppercase(), path, &headers, "");
            answer.assert_problem(403, detail.as_str().unwrap());
            let challenge = &documented["headers"]["WWW-Authenticate"]["example"];
            assert_eq!(
                answer.header("www-authenticate"),
                challenge.as_str(),
                "{name}"
            );
            let (_, scopes) = challenge.as_str().unwrap().split_once("scope=\"").unwrap();
            let scopes = scopes.trim_end_matches('"');
            let expected = if scopes.contains(' ') {
                "Scope: any.".into()
            } else {
                format!("Scope: `{scopes}`.")
            };
            assert_eq!(last, expected, "{name}");
        }
    }
    let document = checked_in_document("public");
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let description = operation["description"].as_str().unwrap();
            assert!(
                description.ends_with("\n\nNo token needed."),
                "{description}"
            );
        }
    }
}

/// The example of a media type: its own, or that of its schema.
fn example<'a>(document: &'a Value, form: &'a Value) -> &'a Value {
    let schema = form["schema"]["$ref"].as_str().unwrap_or("#");
    let of_schema = document.pointer(&schema[1..]).unwrap();
    form.get("example").unwrap_or(&of_schema["example"])
}

#[test]
fn every_response_has_example_of_its_status() {
    for api in ["public", "admin"] {
        let document = checked_in_document(api);
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                assert!(answers.contains_key("500"), "{method} {path}");
                for (status, answer) in answers {
                    for (kind, form) in answer["content"].as_object().into_iter().flatten() {
                        let example = example(&document, form);
                        assert!(!example.is_null(), "{method} {path} {status} {kind}");
                        if kind == "application/problem+json" {
                            assert_eq!(example["status"].to_string(), *status, "{method} {path}");
                        }
                    }
                }
            }
        }
    }
    let public = checked_in_document("public");
    let of_health = |path: &str, status: &str| {
        let answer = &public["paths"][path]["get"]["responses"][status];
        example(&public, &answer["content"]["application/json"]).clone()
    };
    assert_eq!(of_health("/health", "200")["status"], "healthy");
    assert_eq!(of_health("/health", "503")["status"], "unhealthy");
    for (status, is_ready) in [("200", true), ("503", false)] {
        let readiness = of_health("/health/ready", status);
        assert_eq!(readiness["ready"], is_ready);
        let checks = readiness["checks"].as_array().unwrap();
        let is_down = |check: &Value| check["state"] == "down" && check["last_error"].is_string();
        assert_eq!(checks.iter().any(is_down), !is_ready, "{readiness}");
    }
    let stream =
        &checked_in_document("admin")["paths"]["/admin/logs/stream"]["get"]["responses"]["200"];
    let entry = &stream["content"]["text/event-stream"]["example"];
    let event = format!(
        "event: log\nid: {}\ndata: {entry}\n\n",
        entry["cursor"].as_str().unwrap()
    );
    assert!(stream["description"].as_str().unwrap().contains(&event));
}

/// Calls `visit` with every object of a document and the path to it.
fn visit_objects(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    match value {
        Value::Object(fields) => {
            visit(path, fields);
            for (name, value) in fields {
                visit_objects(value, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for item in items {
                visit_objects(item, path, visit);
            }
        }
        _ => {}
    }
}

#[test]
fn schemas_are_complete_for_generators() {
    for api in ["public", "admin"] {
        let document = checked_in_document(api);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            assert_eq!(schema["title"], **name);
            assert!(schema["description"].is_string(), "{name}");
            let properties = schema["properties"].as_object().into_iter().flatten();
            for (field, property) in properties {
                assert!(property["description"].is_string(), "{name}.{field}");
                let example = schema["example"][field].as_str();
                let is_timestamp = example.is_some_and(|text| text.parse::<Timestamp>().is_ok());
                let has_format = property["format"] == "date-time";
                assert!(!is_timestamp || has_format, "{name}.{field}");
            }
        }
        visit_objects(&document, api, &mut |path, fields| {
            let text = |name| fields.get(name).and_then(Value::as_str);
            if let Some(Value::Array(parts)) = fields.get("allOf") {
                assert!(parts.len() == 1 && parts[0]["$ref"].is_string(), "{path}");
            }
            if matches!(text("type"), Some("integer" | "number")) {
                assert!(fields["minimum"].is_number(), "{path}");
                let format = text("format").unwrap();
                assert!(["int32", "int64", "double"].contains(&format), "{path}");
            }
        });
    }
}

#[test]
fn error_details_match_documented_examples() {
    let home = Home::started();
    let (host, document) = (home.admin_address(), checked_in_document("admin"));
    let responses = &document["paths"]["/admin/stop"]["post"]["responses"];
    let bearer = home.bearer();
    let long = "x".repeat(17_000);
    let headers = |name, value| [("Authorization", bearer.as_str()), (name, value)];
    for (status, headers) in [
        (413, headers("Content-Length", "1048577")),
        (431, headers("X-Long", &long)),
    ] {
        let answer = request(&host, "POST", "/admin/stop", &headers, "");
        let example = &responses[status.to_string()]["content"]["application/problem+json"];
        let detail = example["example"]["detail"].as_str().unwrap();
        answer.assert_problem(status, detail);
    }
    let path = "/admin/status?lines=1";
    let answer = request(&host, "GET", path, &headers("Accept", "*/*"), "");
    let example = &responses["400"]["content"]["application/problem+json"]["example"];
    answer.assert_problem(400, example["detail"].as_str().unwrap());
}

#[test]
fn documentation_pages_need_no_internet() {
    let home = Home::started();
    for (host, path) in [
        (home.public_address(), "/docs"),
        (home.admin_address(), "/admin/docs"),
    ] {
        let page = request(&host, "GET", path, &[], "");
        assert_eq!(page.status, 200);
        assert!(
            page.header("content-type")
                .unwrap()
                .starts_with("text/html")
        );
        for element in ["<script", "<link", "<img", "<iframe"] {
            for at in page.body.match_indices(element).map(|(at, _)| at) {
                let tag = page.body[at..].split('>').next().unwrap();
                assert!(
                    !tag.contains("src=\"http") && !tag.contains("href=\"http"),
                    "{tag}"
                );
            }
        }
        let tag = page.header("etag").unwrap();
        let [weak, in_list] = [format!("W/{tag}"), format!("\"a,b\" , W/{tag},\"c\"")];
        for known in [tag, &weak, &in_list, "*"] {
            let headers = [("If-None-Match", "\"other\""), ("If-None-Match", known)];
            let headers = if known == "*" {
                &headers[1..]
            } else {
                &headers
            };
            for method in ["GET", "HEAD"] {
                let not_modified = request(&host, method, path, headers, "");
                let answer = (not_modified.status, not_modified.body.as_str());
                assert_eq!(answer, (304, ""), "{known}");
                assert_eq!(not_modified.header("etag"), Some(tag));
            }
        }
        for unknown in ["\"other\"", "W/\"other\"", tag.trim_matches('"'), ""] {
            let page = request(&host, "GET", path, &[("If-None-Match", unknown)], "");
            assert_eq!(page.status, 200, "{unknown}");
        }
    }
}

/// Every `module::test` in the list of a threat.
fn tests_named_in(threat: &str) -> Vec<&str> {
    let items = threat.lines().filter_map(|line| line.strip_prefix("- `"));
    items.filter_map(|item| item.strip_suffix('`')).collect()
}

/// Whether the source has a test of this name that the harness runs.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let function = format!("fn {name}() {{");
    let is_it = |line: &&str| line.strip_prefix("async ").unwrap_or(line) == function;
    let Some(at) = lines.iter().position(is_it) else {
        return false;
    };
    let attributes = lines[..at].iter().rev();
    let attributes: Vec<_> = attributes
        .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
        .collect();
    let is_run = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    attributes.iter().any(|line| is_run(line))
        && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

#[test]
fn threat_model_accepts_only_real_tests() {
    let source =
        "/// Why.\n#[test]\nfn one() {\n}\n\nfn two() {\n#[test]\n#[ignore]\nfn three() {\n";
    assert!(is_test(source, "one"));
    for none in ["two", "three", "four", "on"] {
        assert!(!is_test(source, none), "{none}");
    }
}

#[test]
fn every_threat_has_existing_tests() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/threat-model.md")).unwrap();
    let (threats, _) = text.split_once("\n## Known limits\n").unwrap();
    let threats: Vec<_> = threats.split("\n### ").skip(1).collect();
    assert!(threats.len() > 20, "{}", threats.len());
    for threat in threats {
        let tests = tests_named_in(threat);
        assert!(!tests.is_empty(), "{threat}");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let is_unit_test = module.starts_with("fuzzing::") || module.ends_with("::tests");
            let directory = root.join(if is_unit_test { "src" } else { "tests/it" });
            let module = module.replace("::", "/");
            let files = [
                format!("{module}.rs"),
                format!("{module}/mod.rs"),
                format!("{}.rs", module.trim_end_matches("/tests")),
            ];
            let read = |file| std::fs::read_to_string(directory.join(file)).ok();
            let source = files.iter().find_map(read);
            let source = source.unwrap_or_else(|| panic!("{test}: no such file"));
            assert!(is_test(&source, name), "{test}");
        }
    }
}

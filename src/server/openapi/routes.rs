//! Routing tables, read from the OpenAPI documents.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hyper::Method;
use hyper::header::HeaderValue;
use poem_openapi::registry::MetaPath;
use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value};

use super::spec::derive;

/// Path, method and id of an operation.
pub struct DocumentedRoute {
    pub path: String,
    pub method: Method,
    pub operation_id: String,
}

/// The routes of a service. They are read without building its document, because every start needs
/// them: the document would keep a lot of code in the memory of an idle daemon.
pub fn routes<T: OpenApi>(_service: &OpenApiService<T, ()>) -> Vec<DocumentedRoute> {
    let paths = T::meta().into_iter().flat_map(|api| api.paths);
    paths
        .flat_map(|MetaPath { path, operations }| {
            operations
                .into_iter()
                .map(move |operation| DocumentedRoute {
                    path: path.clone(),
                    method: operation.method,
                    operation_id: operation.operation_id.unwrap_or_default().into(),
                })
        })
        .collect()
}

/// The names of the query parameters of each path.
pub fn query_parameters<T: OpenApi>(
    service: &OpenApiService<T, ()>,
) -> HashMap<String, Vec<String>> {
    let document = derive(service);
    let schemes = &document["components"]["securitySchemes"];
    let names = |item: &Value| {
        let operations = item.as_object().into_iter().flat_map(Map::values);
        let parameters = |operation: &Value| {
            let declared = operation["parameters"].as_array().cloned();
            let accepted = operation["security"].as_array().cloned();
            let credentials = accepted.into_iter().flatten().flat_map(|accepted| {
                let names: Vec<_> = accepted
                    .as_object()
                    .into_iter()
                    .flat_map(Map::keys)
                    .collect();
                names
                    .into_iter()
                    .map(|name| schemes[name].clone())
                    .collect::<Vec<_>>()
            });
            declared
                .into_iter()
                .flatten()
                .chain(credentials)
                .collect::<Vec<_>>()
        };
        operations
            .flat_map(parameters)
            .filter(|parameter| parameter["in"] == "query")
            .filter_map(|parameter| parameter["name"].as_str().map(str::to_owned))
            .collect()
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .map(|(path, item)| (path.clone(), names(item)))
        .collect()
}

/// The `Allow` header of each path of the service, and of the read-only paths in `unlisted`.
pub fn allowed_methods<T: OpenApi>(
    _service: &OpenApiService<T, ()>,
    unlisted: impl IntoIterator<Item = String>,
) -> HashMap<String, HeaderValue> {
    let read_only = unlisted
        .into_iter()
        .map(|path| (path, HeaderValue::from_static("GET, HEAD")));
    allowed_methods_below::<T>("").chain(read_only).collect()
}

/// The `Allow` header of each path of an API that is mounted below `prefix`.
pub fn allowed_methods_below<T: OpenApi>(
    prefix: &str,
) -> impl Iterator<Item = (String, HeaderValue)> {
    let mut methods = BTreeMap::<String, BTreeSet<String>>::new();
    for MetaPath { path, operations } in T::meta().into_iter().flat_map(|api| api.paths) {
        let path = match path.as_str() {
            "/" if !prefix.is_empty() => prefix.to_owned(),
            path => format!("{prefix}{path}"),
        };
        let of_path = methods.entry(path).or_default();
        for operation in operations {
            if operation.method == Method::GET {
                of_path.insert(Method::HEAD.to_string());
            }
            of_path.insert(operation.method.to_string());
        }
    }
    methods.into_iter().filter_map(|(path, methods)| {
        let methods: Vec<String> = methods.into_iter().collect();
        Some((path, HeaderValue::try_from(methods.join(", ")).ok()?))
    })
}

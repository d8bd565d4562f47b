//! Parts of an OpenAPI document.

use poem_openapi::{OpenApi, OpenApiService};
use serde_json::{Map, Value};

/// The document that poem-openapi derives from the operations of a service.
pub fn derive<T: OpenApi>(service: &OpenApiService<T, ()>) -> Value {
    serde_json::from_str(&service.spec()).unwrap_or_default()
}

/// Name of the referenced schema.
pub fn schema_name(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.rsplit('/').next()
}

pub fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    document["paths"]
        .as_object_mut()
        .into_iter()
        .flat_map(Map::values_mut)
        .filter_map(Value::as_object_mut)
        .flat_map(Map::values_mut)
}

//! The OpenAPI documents, and the routing tables that are read from them.

mod access;
mod document;
mod errors;
mod examples;
mod operation;
mod routes;
mod schemas;
mod spec;

pub use access::Access;
pub use document::document;
pub use errors::DocumentedError;
pub use operation::Operation;
pub use routes::{allowed_methods, allowed_methods_below, query_parameters, routes};

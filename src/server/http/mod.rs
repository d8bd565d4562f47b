//! HTTP: handles each request, and defines the parts of responses that all operations share.

pub mod access_log;
mod application;
pub mod audit;
mod body;
pub mod compress;
pub mod forwarded;
pub mod headers;
pub mod json;
pub mod negotiate;
pub mod origin;
pub mod problem;
mod raw_response;
mod refusal_page;
pub mod request_id;
mod service;
pub mod static_file;
pub mod unique_fields;
mod validity;

pub use service::Service;

//! The operations of the public and of the admin port.

pub mod admin;
pub mod control_request;
pub mod public;

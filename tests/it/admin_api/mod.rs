//! Responses and errors of the admin API on the wire.

mod logs;
mod requests;
mod state;
mod stop;

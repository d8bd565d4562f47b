//! Requests to the application: which arrive, in which form, and with which response. The server
//! runs in process, and the test is the worker, so that it decides who acts first.

mod failures;
mod messages;
mod server;
mod websocket;

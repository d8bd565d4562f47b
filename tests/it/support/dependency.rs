//! Real PostgreSQL and Redis servers, private to a test.

use std::process::Command;

use rustix::process::Signal;

use super::{Home, Postgres, Redis};

/// The default password. It is unlikely to appear in a log by chance.
pub const PASSWORD: &str = "correct horse 4711";

/// A private server that a test can pause, stop and reconfigure. Ends when dropped.
pub trait Dependency {
    /// Name of its health check.
    fn name(&self) -> &'static str;
    /// Settings for the daemon: address and credentials.
    fn settings(&self) -> Vec<(&'static str, String)>;
    fn password_setting(&self) -> &'static str;
    fn start(&mut self);
    /// Stops immediately and drops all connections.
    fn stop(&mut self);
    /// Sends a signal to all processes of the server.
    fn signal(&self, signal: Signal);
    /// Suspends the server: connections stay open, and nothing responds.
    fn pause(&self) {
        self.signal(Signal::STOP);
    }
    fn resume(&self) {
        self.signal(Signal::CONT);
    }
    /// Closes the daemon's connection.
    fn disconnect_clients(&self);
    /// Identifies the daemon's connection, if there is one.
    fn client_connection(&self) -> Option<String>;
    /// A value that changes with each probe.
    fn last_probe(&self) -> String;
    fn set_password(&mut self, password: &str);
}

/// Starts one server of each kind.
pub fn start_dependencies() -> Vec<Box<dyn Dependency>> {
    vec![Box::new(Postgres::start()), Box::new(Redis::start())]
}

/// Whether the server programs are installed.
pub fn dependencies_available() -> bool {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    super::postgres::binaries().is_some() && is_there("redis-server") && is_there("openssl")
}

impl Home {
    /// Configures the daemon to check this dependency.
    pub fn depends_on(&mut self, dependency: &dyn Dependency) {
        for (name, value) in dependency.settings() {
            self.set(name, &value);
        }
    }
}

//! What the service depends on: real servers of the test's own.

use std::process::Command;

use super::{Home, Postgres, Redis};

/// The password of servers whose password does not matter. Nobody else would write it.
pub const PASSWORD: &str = "correct horse 4711";

/// A private server that can be ill-treated. Ends when it is dropped.
pub trait Dependency {
    /// The name of its check.
    fn name(&self) -> &'static str;
    /// Where it is and how to get in.
    fn settings(&self) -> Vec<(&'static str, String)>;
    /// The name of the setting of its password.
    fn password_setting(&self) -> &'static str;
    fn start(&mut self);
    /// It is gone at once, with all its connections.
    fn stop(&mut self);
    /// It goes on to exist, and does nothing.
    fn pause(&self);
    fn resume(&self);
    /// Ends the connection of the daemon.
    fn disconnect_clients(&self);
    /// Names the connection of the daemon, while it has one.
    fn client_connection(&self) -> Option<String>;
    /// Something that is another with each probe.
    fn last_probe(&self) -> String;
    fn set_password(&mut self, password: &str);
}

/// One of each, running.
pub fn start_dependencies() -> Vec<Box<dyn Dependency>> {
    vec![Box::new(Postgres::start()), Box::new(Redis::start())]
}

/// Whether there are programs for them.
pub fn dependencies_available() -> bool {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    super::postgres::binaries().is_some() && is_there("redis-server") && is_there("openssl")
}

impl Home {
    /// Has the daemon watch it.
    pub fn depends_on(&mut self, dependency: &dyn Dependency) {
        for (name, value) in dependency.settings() {
            self.set(name, &value);
        }
    }
}

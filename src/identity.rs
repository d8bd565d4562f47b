//! The name of the program and everything that is derived from it.
//!
//! Messages, file names and protocol values need the name in code that has nothing else in common.
//! One process is one program, so the identity is process-wide: [`App`](crate::App) sets it before
//! anything else runs, and [`identity`] returns it. Code that is not run by an `App` (tests,
//! benchmarks) gets [`Identity::FULLON`].

use std::sync::OnceLock;

static CURRENT: OnceLock<Identity> = OnceLock::new();

/// Names of a program that is built with this crate. Everything else that carries its name is a
/// method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The command in a shell. Also the prefix of cookies, token audiences and temporary files.
    pub command: &'static str,
    /// The service in API responses, in file names and in systemd. Letters, digits and underscores.
    pub service: &'static str,
    /// The product, as in the title of the console.
    pub product: &'static str,
    /// The title of the API documents.
    pub title: &'static str,
}

/// The identity of this process.
pub fn identity() -> &'static Identity {
    CURRENT.get_or_init(Identity::default)
}

/// Sets the identity of this process. Has no effect once [`identity`] has been called.
pub(crate) fn set_identity(identity: Identity) {
    // The first program in a process names it.
    let _ = CURRENT.set(identity);
}

impl Default for Identity {
    fn default() -> Self {
        Self::FULLON
    }
}

impl Identity {
    /// The program of this repository.
    pub const FULLON: Self = Self {
        command: "fullon",
        service: "fullon_master_api",
        product: "Fullon",
        title: "Fullon Master API",
    };

    /// Audience of bearer tokens.
    #[must_use]
    pub fn token_audience(&self) -> String {
        format!("{}-admin", self.command)
    }

    /// Name of the session cookie. Cookies ignore ports (RFC 6265, section 8.5), so the name holds
    /// the port.
    #[must_use]
    pub fn session_cookie(&self, port: u16) -> String {
        format!("{}-session-{port}", self.command)
    }

    /// Name of the session cookie of an https origin. Browsers accept the prefix only over TLS, for
    /// this host and all paths. `port` is that of the origin, unless it is the default.
    #[must_use]
    pub fn secure_session_cookie(&self, port: Option<u16>) -> String {
        let suffix = port.map_or_else(String::new, |port| format!("-{port}"));
        format!("__Host-{}-session{suffix}", self.command)
    }

    /// Default of `PID_FILE`.
    #[must_use]
    pub fn pid_file(&self) -> String {
        format!("~/.{}.pid", self.service)
    }

    /// Default of `LOG_FILE`.
    #[must_use]
    pub fn log_file(&self) -> String {
        format!("/tmp/{}.log", self.service)
    }

    /// Name of the key file in the home directory.
    #[must_use]
    pub fn key_file(&self) -> String {
        format!(".{}.key", self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other programs and existing installations rely on these.
    #[test]
    fn fullon_keeps_its_names() {
        let identity = Identity::default();
        assert_eq!(identity.token_audience(), "fullon-admin");
        assert_eq!(identity.session_cookie(8001), "fullon-session-8001");
        assert_eq!(
            identity.secure_session_cookie(None),
            "__Host-fullon-session"
        );
        assert_eq!(identity.pid_file(), "~/.fullon_master_api.pid");
        assert_eq!(identity.log_file(), "/tmp/fullon_master_api.log");
        assert_eq!(identity.key_file(), ".fullon_master_api.key");
    }
}

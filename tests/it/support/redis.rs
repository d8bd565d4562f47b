//! A private Redis server.

use std::fmt::Write as _;
use std::fs;
use std::process::{Child, Command, Stdio};

use fullon_master_api::sys::Process;
use rustix::process::Signal;

use super::dependency::{Dependency, PASSWORD};
use super::{Certificate, Outcome, eventually, free_port};

/// A server with a password.
pub struct Redis {
    directory: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    password: String,
    server: Option<Child>,
}

impl Redis {
    pub fn start() -> Self {
        let mut server = Self::new();
        server.options.push(format!("port {}", server.port));
        server.start();
        server
    }

    /// Starts a server that requires TLS, as `localhost`.
    pub fn encrypted(certificate: &Certificate) -> Self {
        Self::with_tls(certificate, "no")
    }

    /// Starts a server that requires TLS. `clients` says whether it requires a certificate of
    /// clients, too: `yes` or `no`.
    pub fn with_tls(certificate: &Certificate, clients: &str) -> Self {
        let mut server = Self::new();
        let certificates = [
            ("tls-cert-file", certificate.certificate()),
            ("tls-key-file", certificate.key()),
            ("tls-ca-cert-file", certificate.authority()),
        ];
        let options = certificates.map(|(name, path)| format!("{name} {}", path.display()));
        server.options.extend(options);
        let port = format!("tls-port {}", server.port);
        let clients = format!("tls-auth-clients {clients}");
        server.options.extend([port, "port 0".into(), clients]);
        server.start();
        server
    }

    /// Path of its Unix socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("socket")
    }

    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            port: free_port(),
            options: vec!["bind 127.0.0.1".into(), "save \"\"".into()],
            password: PASSWORD.into(),
            server: None,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn cli(&self, command: &[&str]) -> Command {
        let mut cli = Command::new("redis-cli");
        cli.env("REDISCLI_AUTH", &self.password)
            .args(["--no-auth-warning", "-s"])
            .arg(self.socket())
            .args(command)
            .stdin(Stdio::null());
        cli
    }

    /// Runs a command and returns its output.
    pub fn command(&self, command: &[&str]) -> String {
        Outcome::run(&mut self.cli(command)).succeeds().stdout
    }

    /// Clients connected by TCP.
    fn clients(&self) -> Vec<String> {
        let clients = self.command(&["CLIENT", "LIST"]);
        let of_network = |line: &&str| line.contains(" addr=127.0.0.1:");
        clients
            .lines()
            .filter(of_network)
            .map(str::to_owned)
            .collect()
    }
}

impl Dependency for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("REDIS_HOST", "localhost".into()),
            ("REDIS_PORT", self.port.to_string()),
            ("REDIS_PASSWORD", self.password.clone()),
        ]
    }

    fn password_setting(&self) -> &'static str {
        "REDIS_PASSWORD"
    }

    fn start(&mut self) {
        // Escaped, because it may contain any byte.
        let password = self.password.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "\\x{byte:02x}").unwrap();
            text
        });
        let socket = self.socket();
        let mut text = self.options.join("\n");
        write!(text, "\nunixsocket {}\n", socket.display()).unwrap();
        writeln!(text, "requirepass \"{password}\"").unwrap();
        let path = self.directory.path().join("redis.conf");
        fs::write(&path, text).unwrap();
        let mut server = Command::new("redis-server");
        server
            .arg(&path)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        self.server = Some(server.spawn().unwrap());
        eventually("Redis serves", || {
            let answer = self.cli(&["PING"]).output().unwrap();
            answer.stdout == b"PONG\n"
        });
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.server.as_ref().unwrap().id();
        Process::open(pid).unwrap().send_signal(signal).unwrap();
    }

    fn disconnect_clients(&self) {
        self.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }

    fn client_connection(&self) -> Option<String> {
        let clients = self.clients();
        let ids = clients.iter().map(|line| line.split(' ').next().unwrap());
        let ids: Vec<_> = ids.collect();
        (!ids.is_empty()).then(|| ids.join(" "))
    }

    fn last_probe(&self) -> String {
        let statistics = self.command(&["INFO", "commandstats"]);
        let line = statistics
            .lines()
            .find(|line| line.starts_with("cmdstat_ping"));
        line.unwrap_or_default().to_owned()
    }

    fn set_password(&mut self, password: &str) {
        // This command still uses the old password.
        self.command(&["CONFIG", "SET", "requirepass", password]);
        password.clone_into(&mut self.password);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

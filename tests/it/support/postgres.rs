//! A private PostgreSQL server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fullon_master_api::sys::Process;
use rustix::process::Signal;

use super::dependency::{Dependency, PASSWORD};
use super::{Certificate, Outcome, child_processes, eventually, free_port};

/// Lines of `pg_hba.conf`, unless a test has its own.
const DEFAULT_RULES: &str = "local all all trust\nhost all all 127.0.0.0/8 scram-sha-256";

/// A server with the role and the database `fullon`.
pub struct Postgres {
    directory: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
    host: &'static str,
    password: String,
    server: Option<Child>,
}

/// The directory of its programs.
pub fn binaries() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let binaries = versions.map(|version| version.path().join("bin"));
    binaries.filter(|path| path.join("postgres").exists()).max()
}

impl Postgres {
    pub fn start() -> Self {
        let mut server = Self::new();
        server.start();
        server
    }

    /// Starts a server that supports TLS as `localhost`, and verifies the certificates that clients
    /// present.
    pub fn encrypted(certificate: &Certificate) -> Self {
        Self::with(Some(certificate), DEFAULT_RULES, &[])
    }

    /// Starts a server with these lines in `pg_hba.conf`, and these options.
    pub fn with(certificate: Option<&Certificate>, rules: &str, options: &[&str]) -> Self {
        let mut server = Self::new();
        server.write_rules(rules);
        let options = options.iter().map(|option| (*option).to_owned());
        server.options.extend(options);
        if let Some(certificate) = certificate {
            server.options.push("ssl=on".into());
            for (option, path) in [
                ("ssl_key_file", certificate.key()),
                ("ssl_cert_file", certificate.certificate()),
                ("ssl_ca_file", certificate.authority()),
            ] {
                let copy = server.directory.path().join(option);
                fs::copy(path, &copy).unwrap();
                Self::give(&copy);
                Outcome::run(Command::new("chmod").arg("600").arg(&copy)).succeeds();
                server.options.push(format!("{option}={}", copy.display()));
            }
        }
        server.start();
        server
    }

    /// Replaces `pg_hba.conf`. The superuser can always connect through the Unix socket.
    fn write_rules(&self, rules: &str) {
        let rules = format!("local all postgres trust\n{rules}\n");
        fs::write(self.data().join("pg_hba.conf"), rules).unwrap();
    }

    /// The directory of its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The processes that serve the daemon are encrypted, or not.
    pub fn is_client_encrypted(&self) -> String {
        self.sql("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'fullon'")
    }

    fn new() -> Self {
        let server = Self {
            directory: tempfile::tempdir().unwrap(),
            port: free_port(),
            options: Vec::new(),
            host: "localhost",
            password: PASSWORD.into(),
            server: None,
        };
        Self::give(server.directory.path());
        let mut initdb = server.program("initdb");
        initdb.args(["-U", "postgres", "-A", "trust", "--no-sync", "--no-locale"]);
        initdb.args(["-E", "UTF8", "-D"]).arg(server.data());
        Outcome::run(&mut initdb).succeeds();
        server.write_rules(DEFAULT_RULES);
        server
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Makes the file accessible to the server, which refuses to run as root.
    fn give(path: &Path) {
        if nix::unistd::geteuid().is_root() {
            Outcome::run(Command::new("chown").arg("postgres").arg(path)).succeeds();
        }
    }

    fn program(&self, name: &str) -> Command {
        let path = binaries().unwrap().join(name);
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            command.arg(path);
            command
        } else {
            Command::new(path)
        };
        command
            .env("HOME", self.directory.path())
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a query as the superuser.
    pub fn sql(&self, query: &str) -> String {
        let mut psql = self.psql(query);
        Outcome::run(&mut psql).succeeds().stdout.trim().to_owned()
    }

    fn psql(&self, query: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]);
        psql.arg(self.directory.path());
        psql.args(["-p", &self.port.to_string(), "-c", query, "postgres"]);
        psql
    }

    /// Restarts the server on this address.
    pub fn at(mut self, host: &'static str) -> Self {
        self.stop();
        self.host = host;
        self.start();
        self
    }
}

impl Dependency for Postgres {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DB_HOST", self.host.into()),
            ("DB_PORT", self.port.to_string()),
            ("DB_USER", "fullon".into()),
            ("DB_NAME", "fullon".into()),
            ("DB_PASSWORD", self.password.clone()),
        ]
    }

    fn password_setting(&self) -> &'static str {
        "DB_PASSWORD"
    }

    fn start(&mut self) {
        let mut postgres = self.program("postgres");
        let address = match self.host {
            "localhost" => "127.0.0.1",
            host => host,
        };
        postgres.arg("-D").arg(self.data());
        postgres.args(["-p", &self.port.to_string(), "-c", "fsync=off", "-k"]);
        postgres.arg(self.directory.path());
        postgres.args(["-c", &format!("listen_addresses={address}")]);
        for option in &self.options {
            postgres.args(["-c", option]);
        }
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        postgres.stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(postgres.spawn().unwrap());
        eventually("PostgreSQL serves", || {
            self.psql("SELECT 1").output().unwrap().status.success()
        });
        if self.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'fullon'") == "0" {
            self.sql("CREATE ROLE fullon LOGIN");
            self.sql("CREATE DATABASE fullon OWNER fullon");
            self.set_password(PASSWORD);
        }
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let process = Process::open(server.id()).unwrap();
            // Immediate shutdown.
            process.send_signal(Signal::QUIT).unwrap();
            let _ = process.send_signal(Signal::CONT);
            server.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.server.as_ref().unwrap().id();
        // The parent first, because it starts children.
        let parent = Process::open(pid).unwrap();
        parent.send_signal(signal).unwrap();
        for child in child_processes(pid) {
            let _ = child.send_signal(signal);
        }
    }

    fn disconnect_clients(&self) {
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'fullon'");
    }

    fn client_connection(&self) -> Option<String> {
        let pids = self.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'fullon'");
        Some(pids).filter(|pids| !pids.is_empty())
    }

    fn last_probe(&self) -> String {
        self.sql("SELECT query_start FROM pg_stat_activity WHERE usename = 'fullon'")
    }

    fn set_password(&mut self, password: &str) {
        let quoted = password.replace('\'', "''");
        self.sql(&format!("ALTER ROLE fullon PASSWORD '{quoted}'"));
        password.clone_into(&mut self.password);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            for child in child_processes(server.id()) {
                let _ = child.kill();
            }
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

//! A private pgbouncer in front of a PostgreSQL server.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Child, Command, Stdio};

use super::{PASSWORD, Postgres, eventually, free_port};

/// Pools transactions. Ends when dropped.
pub struct Pgbouncer {
    _directory: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Pgbouncer {
    /// Whether the program is installed.
    pub fn is_available() -> bool {
        pgbouncer().arg("--version").output().is_ok()
    }

    pub fn start(server: &Postgres) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let path = |name: &str| directory.path().join(name);
        let users = path("users");
        fs::write(&users, format!("\"fullon\" \"{PASSWORD}\"\n")).unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\nlogfile = {}\n",
            server.port(),
            users.display(),
            path("log").display()
        );
        fs::write(path("settings"), settings).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = pgbouncer();
        if nix::unistd::geteuid().is_root() {
            // It refuses to run as root.
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            chown(directory.path(), Some(user.uid.as_raw()), None).unwrap();
            command.args(["-u", "postgres"]);
        }
        command.arg(path("settings"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        eventually("pgbouncer listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            _directory: directory,
            port,
            process,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Debian has it in a directory that is not in every `PATH`.
fn pgbouncer() -> Command {
    let installed = std::path::Path::new("/usr/sbin/pgbouncer");
    if installed.exists() {
        Command::new(installed)
    } else {
        Command::new("pgbouncer")
    }
}

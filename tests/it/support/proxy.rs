//! Proxies in front of a port of the daemon: nginx, `HAProxy` and Caddy.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use super::{ChildGuard, Home, eventually, free_port, prerequisite_available, spawn};

/// The page with the tested configurations.
const PAGE: &str = include_str!("../../../docs/reverse-proxies.md");
/// The proxies are installed where not every `PATH` leads.
const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// The configuration in a language in a section of `docs/reverse-proxies.md`, with ports and files
/// of the test.
pub fn documented_configuration(
    section: &str,
    language: &str,
    replacements: &[(&str, &str)],
) -> String {
    let (_, section) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
    let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    replacements
        .iter()
        .fold(block.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from} is not in {text}");
            text.replace(from, to)
        })
}

#[derive(Debug, Clone, Copy)]
pub enum ProxyProgram {
    Nginx,
    HaProxy,
    Caddy,
}

impl ProxyProgram {
    pub const ALL: [Self; 3] = [Self::Nginx, Self::HaProxy, Self::Caddy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Caddy => "caddy",
        }
    }

    /// Starts it on a free port. `configure` makes the configuration from the port: of nginx the
    /// content of `http`, of Caddy the sites, of `HAProxy` all. `None` if it is not installed.
    pub fn start(
        self,
        test: &str,
        home: &Home,
        configure: impl FnOnce(u16) -> String,
    ) -> Option<Proxy> {
        let paths = DIRECTORIES.map(|directory| format!("{directory}/{}", self.name()));
        let program = paths.into_iter().find(|path| Path::new(path).is_file());
        let needed = format!("{} (scripts/install-test-tools.sh)", self.name());
        if !prerequisite_available(test, &needed, program.is_some()) {
            return None;
        }
        let port = free_port();
        let at = home.path().join(format!("{}-{port}", self.name()));
        fs::create_dir(&at).unwrap();
        let file = at.join("configuration");
        fs::write(&file, self.whole_configuration(&at, &configure(port))).unwrap();
        let file = file.to_str().unwrap();
        let error_log = at.join("error.log");
        let mut command = home.command(program?);
        command.args(match self {
            Self::Nginx => vec!["-c", file, "-e", error_log.to_str().unwrap()],
            Self::HaProxy => vec!["-q", "-f", file],
            Self::Caddy => vec!["run", "--adapter", "caddyfile", "--config", file],
        });
        let process = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        eventually("the proxy listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(Proxy {
            port,
            _process: process,
        })
    }

    fn whole_configuration(self, directory: &Path, text: &str) -> String {
        match self {
            Self::Nginx => {
                let at = directory.display();
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
                let temporary = temporary.map(|kind| format!("{kind}_temp_path {at}/{kind};"));
                let user = if nix::unistd::geteuid().is_root() {
                    "user root;"
                } else {
                    ""
                };
                format!(
                    "daemon off; master_process off; {user} pid {at}/pid; error_log {at}/error.log; events {{}}\nhttp {{ access_log off; {}\n{text}}}\n",
                    temporary.join(" ")
                )
            }
            Self::HaProxy => text.to_owned(),
            Self::Caddy => format!("{{\n admin off\n auto_https off\n}}\n{text}"),
        }
    }
}

/// A running proxy. Dropping it ends it.
pub struct Proxy {
    pub port: u16,
    _process: ChildGuard,
}

impl Proxy {
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

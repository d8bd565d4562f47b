//! A certificate for `localhost`, and the authority that signed it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;

const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// A directory with PEM files.
pub struct Certificate {
    directory: PathBuf,
}

impl Certificate {
    /// Creates an authority and a certificate signed by it.
    pub fn create(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let this = Self { directory };
        let mut authority = vec!["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.extend(["-subj", "/CN=An authority", "-days", "2"]);
        authority.extend(NEW_KEY);
        this.openssl(&authority);
        this.sign("server", "localhost");
        this
    }

    /// Creates a certificate that is its own authority, for this host. `basic` is its basic
    /// constraint.
    pub fn self_signed(directory: &Path, name: &str, host: &str, basic: &str) -> Self {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let this = Self { directory };
        let mut arguments = vec![
            "req",
            "-x509",
            "-keyout",
            "server.key",
            "-out",
            "server.pem",
        ];
        let subject = format!("/CN={host}");
        let name = format!("subjectAltName=DNS:{host}");
        let basic = format!("basicConstraints={basic}");
        arguments.extend(["-subj", &subject, "-addext", &name, "-addext", &basic]);
        arguments.extend(["-days", "2"]);
        arguments.extend(NEW_KEY);
        this.openssl(&arguments);
        std::fs::copy(this.certificate(), this.authority()).unwrap();
        this
    }

    /// Creates a certificate for a client of this name. Returns it and its key.
    pub fn client(&self, name: &str) -> [PathBuf; 2] {
        self.sign(name, name);
        ["pem", "key"].map(|suffix| self.path(&format!("{name}.{suffix}")))
    }

    /// Creates `FILE.pem` and `FILE.key` for a host or a user.
    fn sign(&self, file: &str, name: &str) {
        let [key, request, certificate] =
            ["key", "csr", "pem"].map(|suffix| format!("{file}.{suffix}"));
        let subject = format!("/CN={name}");
        let mut arguments = vec!["req", "-keyout", &key, "-out", &request, "-subj", &subject];
        arguments.extend(NEW_KEY);
        self.openssl(&arguments);
        let names = format!("subjectAltName=DNS:{name}\n");
        std::fs::write(self.path("names"), names).unwrap();
        let mut sign = vec!["x509", "-req", "-in", &request, "-out", &certificate];
        sign.extend(["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]);
        sign.extend(["-extfile", "names", "-days", "2"]);
        self.openssl(&sign);
    }

    pub fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    pub fn certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.path("server.key")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn openssl(&self, arguments: &[&str]) {
        let mut openssl = Command::new("openssl");
        Outcome::run(openssl.args(arguments).current_dir(&self.directory)).succeeds();
    }
}

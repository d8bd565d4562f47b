//! A certificate for `localhost`, and the authority that signed it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;

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
        let key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        let mut authority = vec!["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem"];
        authority.extend(["-subj", "/CN=An authority", "-days", "2"]);
        authority.extend(key);
        this.openssl(&authority);
        let mut request = vec!["req", "-keyout", "server.key", "-out", "server.csr"];
        request.extend(["-subj", "/CN=localhost"]);
        request.extend(key);
        this.openssl(&request);
        std::fs::write(this.path("names"), "subjectAltName=DNS:localhost\n").unwrap();
        let mut sign = vec!["x509", "-req", "-in", "server.csr", "-out", "server.pem"];
        sign.extend(["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]);
        sign.extend(["-extfile", "names", "-days", "2"]);
        this.openssl(&sign);
        this
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut openssl = Command::new("openssl");
        Outcome::run(openssl.args(arguments).current_dir(&self.directory)).succeeds();
    }
}

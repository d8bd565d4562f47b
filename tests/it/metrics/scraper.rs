//! A real Prometheus that scrapes the daemon with the shipped configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::DEPLOY;
use crate::support::{ChildGuard, Home, eventually, free_port, request, spawn};

pub struct Prometheus {
    _program: ChildGuard,
    address: String,
}

impl Prometheus {
    /// Starts it. It scrapes at this interval.
    pub fn start(home: &Home, interval: Duration) -> Self {
        let directory = home.path().join("prometheus");
        fs::create_dir(&directory).unwrap();
        let token = directory.join("token");
        fs::write(&token, home.token("admin:read")).unwrap();
        let shipped = Path::new(DEPLOY).join("prometheus");
        fs::copy(shipped.join("alerts.yml"), directory.join("alerts.yml")).unwrap();
        let settings = fs::read_to_string(shipped.join("prometheus.yml")).unwrap();
        let settings = settings
            .replace("/etc/prometheus/fullon.token", token.to_str().unwrap())
            .replace("127.0.0.1:8001", &home.admin_address())
            .replace("15s", &format!("{}s", interval.as_secs()));
        fs::write(directory.join("prometheus.yml"), settings).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = home.command("prometheus");
        command
            .arg("--config.file=prometheus/prometheus.yml")
            .arg("--storage.tsdb.path=prometheus/data")
            .arg(format!("--web.listen-address={address}"));
        let log = fs::File::create(directory.join("log")).unwrap();
        let program = spawn(command.stdout(log.try_clone().unwrap()).stderr(log));
        eventually("Prometheus is ready", || {
            std::net::TcpStream::connect(&address).is_ok()
                && request(&address, "GET", "/-/ready", &[], "").status == 200
        });
        Self {
            _program: program,
            address,
        }
    }

    /// The result of an expression.
    pub fn query(&self, expression: &str) -> Value {
        self.query_with(expression, "")
    }

    /// The result of an expression at this time, in seconds since 1970.
    pub fn query_at(&self, expression: &str, time: f64) -> Value {
        self.query_with(expression, &format!("&time={time:.3}"))
    }

    fn query_with(&self, expression: &str, parameters: &str) -> Value {
        let encoded = expression.bytes().fold(String::new(), |mut encoded, byte| {
            let _ = write!(encoded, "%{byte:02X}");
            encoded
        });
        let path = format!("/api/v1/query?query={encoded}{parameters}");
        let answer = request(&self.address, "GET", &path, &[], "");
        assert_eq!(answer.status, 200, "{expression}: {answer:#?}");
        answer.json()["data"]["result"].clone()
    }
}

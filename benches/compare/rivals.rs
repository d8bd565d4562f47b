//! Who is compared: how each is configured, started, asked and stopped.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Error, Result};
use tempfile::TempDir;

use crate::contender::{Arguments, Contender, Measured};
use crate::health::BODY;
use crate::ports::Ports;
use crate::{bare_hyper, programs, served};

pub const FULLON: &str = "fullon";
pub const BARE_HYPER: &str = "bare hyper";
pub const NGINX: &str = "nginx";

/// The program under test, built with the settings of a release.
const FULLON_PROGRAM: &str = env!("CARGO_BIN_EXE_fullon");
const LAUNCHER: &str = "start_fullon.py";

/// All that can run here, in the order of the columns. `left_out` hears of the others.
pub fn all(left_out: impl Fn(&str, &Error)) -> Result<Vec<Contender>> {
    let mut ports = Ports::new()?;
    let builders: [(&'static str, Builder); 7] = [
        (FULLON, fullon),
        (BARE_HYPER, bare),
        ("original", original),
        ("supervisord", supervisord),
        ("pm2", pm2),
        ("Caddy", caddy),
        (NGINX, nginx),
    ];
    let mut contenders = Vec::new();
    for (name, builder) in builders {
        match builder(Blank::new(name, &mut ports)?) {
            Ok(contender) => contenders.push(contender),
            Err(error) => left_out(name, &error),
        }
    }
    Ok(contenders)
}

/// Size of the program under test, in MB.
pub fn fullon_size() -> Result<f64> {
    let bytes = fs::metadata(FULLON_PROGRAM)?.len();
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

/// Fullon alone, with settings of its own; `LOG_FILE` may be one of them.
pub fn fullon_with(
    ports: &mut Ports,
    settings: impl IntoIterator<Item = (&'static str, OsString)>,
) -> Result<Contender> {
    let mut contender = fullon(Blank::new(FULLON, ports)?)?;
    // The later one of two wins.
    contender.environment.extend(settings);
    Ok(contender)
}

type Builder = fn(Blank) -> Result<Contender>;

/// What every contender has before it is one.
pub struct Blank {
    name: &'static str,
    directory: TempDir,
    port: u16,
    /// For an admin API of its own.
    admin_port: u16,
}

impl Blank {
    pub fn new(name: &'static str, ports: &mut Ports) -> Result<Self> {
        Ok(Self {
            name,
            directory: TempDir::with_prefix("fullon-compare-")?,
            port: ports.next_free()?,
            admin_port: ports.next_free()?,
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn path(&self, name: &str) -> OsString {
        self.directory.path().join(name).into()
    }

    /// Writes a file, with `@PORT@` and the like replaced.
    pub fn write(&self, name: &str, template: &str) -> Result<OsString> {
        let text = template
            .replace("@PORT@", &self.port.to_string())
            .replace("@ADMIN_PORT@", &self.admin_port.to_string())
            .replace("@BODY@", std::str::from_utf8(BODY)?)
            .replace("@DIRECTORY@", &self.directory.path().to_string_lossy());
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    pub fn contender(self, measured: Measured, verbs: Verbs) -> Contender {
        let mut environment = vec![
            ("HOST", OsString::from("127.0.0.1")),
            ("PORT", self.port.to_string().into()),
            ("ADMIN_PORT", self.admin_port.to_string().into()),
            ("LOG_FILE", self.path("daemon.log")),
            ("PID_FILE", self.path("daemon.pid")),
        ];
        if self.name != FULLON {
            let body = String::from_utf8_lossy(BODY).into_owned();
            environment.push(("HEALTH_BODY", body.into()));
            environment.push(("PM2_HOME", self.path("pm2")));
            // It would ask its registry for a newer one.
            environment.push(("PM2_DISABLE_VERSION_CHECK", "true".into()));
        }
        Contender {
            name: self.name,
            measured,
            port: self.port,
            admin_port: self.admin_port,
            directory: self.directory,
            environment,
            start: verbs.start,
            stop: verbs.stop,
            status: verbs.status,
        }
    }
}

pub struct Verbs {
    pub start: Arguments,
    pub stop: Option<Arguments>,
    pub status: Option<Arguments>,
}

fn fullon(blank: Blank) -> Result<Contender> {
    let program = programs::existing(Path::new(FULLON_PROGRAM))?;
    let verb = |verb: &str| vec![program.clone(), verb.into()];
    let verbs = Verbs {
        start: verb("start"),
        stop: Some(verb("stop")),
        status: Some(verb("status")),
    };
    Ok(blank.contender(Measured::Both, verbs))
}

fn bare(blank: Blank) -> Result<Contender> {
    own_mode(blank, bare_hyper::MODE, &[])
}

/// The public server of `fullon` alone, in a process of the benchmark's own program.
pub fn served(ports: &mut Ports, how: &str) -> Result<Contender> {
    let blank = Blank::new("the server alone", ports)?;
    own_mode(blank, served::MODE, &[how])
}

/// A mode of this program as a contender, whose first argument is its port.
fn own_mode(blank: Blank, mode: &str, rest: &[&str]) -> Result<Contender> {
    let program = std::env::current_exe()?;
    let port = blank.port.to_string();
    let mut start: Arguments = vec![program.into(), mode.into(), port.into()];
    start.extend(rest.iter().map(OsString::from));
    let verbs = Verbs {
        start,
        stop: None,
        status: None,
    };
    Ok(blank.contender(Measured::Load, verbs))
}

pub fn original(blank: Blank) -> Result<Contender> {
    let python = programs::python()?;
    let launcher = blank.write(LAUNCHER, include_str!("../rivals/start_fullon.py"))?;
    let verb = |verb: &str| vec![python.clone(), launcher.clone(), verb.into()];
    let verbs = Verbs {
        start: verb("start"),
        stop: Some(verb("stop")),
        status: Some(verb("status")),
    };
    Ok(blank.contender(Measured::Both, verbs))
}

fn supervisord(blank: Blank) -> Result<Contender> {
    let python = programs::python()?;
    let daemon = programs::installed("supervisord")?;
    let client = programs::installed("supervisorctl")?;
    blank.write(LAUNCHER, include_str!("../rivals/start_fullon.py"))?;
    let template = include_str!("../rivals/supervisord.conf");
    let template = template.replace("@PYTHON@", &python.to_string_lossy());
    let settings = blank.write("supervisord.conf", &template)?;
    let verb = |verb: &str| vec![client.clone(), "-c".into(), settings.clone(), verb.into()];
    let verbs = Verbs {
        start: vec![daemon, "-c".into(), settings.clone()],
        stop: Some(verb("shutdown")),
        status: Some(verb("status")),
    };
    Ok(blank.contender(Measured::Lifecycle, verbs))
}

fn pm2(blank: Blank) -> Result<Contender> {
    programs::installed("node")?;
    let program = programs::pm2()?;
    let server = blank.write("health.js", include_str!("../rivals/health.js"))?;
    // Cluster mode, the one that can reload; and the option that makes `start` wait until the server listens.
    let start = [
        "start".into(),
        server,
        "-i".into(),
        "1".into(),
        "--wait-ready".into(),
    ];
    let verbs = Verbs {
        start: [program.clone()].into_iter().chain(start).collect(),
        stop: Some(vec![program.clone(), "kill".into()]),
        status: Some(vec![program, "status".into()]),
    };
    Ok(blank.contender(Measured::Lifecycle, verbs))
}

fn caddy(blank: Blank) -> Result<Contender> {
    let program = programs::installed("caddy")?;
    let settings = blank.write("Caddyfile", include_str!("../rivals/Caddyfile"))?;
    let admin = format!("127.0.0.1:{}", blank.admin_port);
    let verbs = Verbs {
        start: vec![program.clone(), "start".into(), "--config".into(), settings],
        stop: Some(vec![
            program,
            "stop".into(),
            "--address".into(),
            admin.into(),
        ]),
        status: None,
    };
    Ok(blank.contender(Measured::Both, verbs))
}

pub fn nginx(blank: Blank) -> Result<Contender> {
    let program = programs::installed("nginx")?;
    let settings = blank.write("nginx.conf", include_str!("../rivals/nginx.conf"))?;
    let prefix = blank.directory.path().as_os_str().to_owned();
    let start = vec![
        program,
        "-p".into(),
        prefix,
        "-e".into(),
        "error.log".into(),
        "-c".into(),
        settings,
    ];
    let stop = start.iter().cloned().chain(["-s".into(), "stop".into()]);
    let verbs = Verbs {
        stop: Some(stop.collect()),
        start,
        status: None,
    };
    Ok(blank.contender(Measured::Both, verbs))
}

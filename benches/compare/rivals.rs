//! The contenders: how each is configured, started and stopped.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use crate::contender::{CommandLine, Contender, Measurements};
use crate::health::BODY;
use crate::ports::Ports;
use crate::progress::report_skipped;
use crate::{bare_hyper, programs, public_server};

pub const FULLON: &str = "fullon";
pub const BARE_HYPER: &str = "bare hyper";
pub const NGINX: &str = "nginx";

/// The program under test, built like a release.
const FULLON_PROGRAM: &str = env!("CARGO_BIN_EXE_fullon");
const LAUNCHER: &str = "start_fullon.py";

/// The contenders that can run here, in the order of the columns. Reports the others.
pub fn available_contenders() -> Result<Vec<Contender>> {
    let mut ports = Ports::new()?;
    let builders: [(&'static str, Builder); 7] = [
        (FULLON, fullon_contender),
        (BARE_HYPER, bare_hyper_contender),
        ("original", original_contender),
        ("supervisord", supervisord_contender),
        ("pm2", pm2_contender),
        ("Caddy", caddy_contender),
        (NGINX, nginx_contender),
    ];
    let mut contenders = Vec::new();
    for (name, builder) in builders {
        match builder(ContenderBuilder::new(name, &mut ports)?) {
            Ok(contender) => contenders.push(contender),
            Err(error) => report_skipped(name, &error),
        }
    }
    Ok(contenders)
}

/// Size of the program under test, in MB.
pub fn fullon_size() -> Result<f64> {
    let bytes = fs::metadata(FULLON_PROGRAM)?.len();
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}

/// Fullon with further settings, which may include `LOG_FILE`.
pub fn fullon_with(
    ports: &mut Ports,
    settings: impl IntoIterator<Item = (&'static str, OsString)>,
) -> Result<Contender> {
    let mut contender = fullon_contender(ContenderBuilder::new(FULLON, ports)?)?;
    // A later setting replaces an earlier one.
    contender.environment.extend(settings);
    Ok(contender)
}

type Builder = fn(ContenderBuilder) -> Result<Contender>;

/// The directory and ports of a contender to be.
pub struct ContenderBuilder {
    name: &'static str,
    directory: TempDir,
    port: u16,
    admin_port: u16,
}

impl ContenderBuilder {
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

    /// Writes a file. Replaces `@PORT@` and the other placeholders.
    pub fn write_file(&self, name: &str, template: &str) -> Result<OsString> {
        let text = template
            .replace("@PORT@", &self.port.to_string())
            .replace("@ADMIN_PORT@", &self.admin_port.to_string())
            .replace("@BODY@", std::str::from_utf8(BODY)?)
            .replace("@DIRECTORY@", &self.directory.path().to_string_lossy());
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    pub fn build(self, measured: Measurements, commands: Commands) -> Contender {
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
            // Else pm2 would ask its registry for a newer version.
            environment.push(("PM2_DISABLE_VERSION_CHECK", "true".into()));
        }
        Contender {
            name: self.name,
            measurements: measured,
            port: self.port,
            admin_port: self.admin_port,
            directory: self.directory,
            environment,
            start: commands.start,
            stop: commands.stop,
            status: commands.status,
        }
    }
}

pub struct Commands {
    pub start: CommandLine,
    pub stop: Option<CommandLine>,
    pub status: Option<CommandLine>,
}

fn fullon_contender(builder: ContenderBuilder) -> Result<Contender> {
    let program = programs::require_file(Path::new(FULLON_PROGRAM))?;
    let command = |command: &str| vec![program.clone(), command.into()];
    let commands = Commands {
        start: command("start"),
        stop: Some(command("stop")),
        status: Some(command("status")),
    };
    Ok(builder.build(Measurements::Both, commands))
}

fn bare_hyper_contender(builder: ContenderBuilder) -> Result<Contender> {
    mode_contender(builder, bare_hyper::MODE, &[])
}

/// Fullon's public server alone, in a process of the benchmark's program.
pub fn public_server_contender(ports: &mut Ports, metrics: &str) -> Result<Contender> {
    let builder = ContenderBuilder::new("the server alone", ports)?;
    mode_contender(builder, public_server::MODE, &[metrics])
}

/// A mode of this program as a contender. Its first argument is the port.
fn mode_contender(builder: ContenderBuilder, mode: &str, rest: &[&str]) -> Result<Contender> {
    let program = std::env::current_exe()?;
    let port = builder.port.to_string();
    let mut start: CommandLine = vec![program.into(), mode.into(), port.into()];
    start.extend(rest.iter().map(OsString::from));
    let commands = Commands {
        start,
        stop: None,
        status: None,
    };
    Ok(builder.build(Measurements::Load, commands))
}

pub fn original_contender(builder: ContenderBuilder) -> Result<Contender> {
    let python = programs::python()?;
    let launcher = builder.write_file(LAUNCHER, include_str!("../rivals/start_fullon.py"))?;
    let command = |command: &str| vec![python.clone(), launcher.clone(), command.into()];
    let commands = Commands {
        start: command("start"),
        stop: Some(command("stop")),
        status: Some(command("status")),
    };
    Ok(builder.build(Measurements::Both, commands))
}

fn supervisord_contender(builder: ContenderBuilder) -> Result<Contender> {
    let python = programs::python()?;
    let daemon = programs::find_program("supervisord")?;
    let client = programs::find_program("supervisorctl")?;
    builder.write_file(LAUNCHER, include_str!("../rivals/start_fullon.py"))?;
    let template = include_str!("../rivals/supervisord.conf");
    let template = template.replace("@PYTHON@", &python.to_string_lossy());
    let settings = builder.write_file("supervisord.conf", &template)?;
    let command = |command: &str| {
        vec![
            client.clone(),
            "-c".into(),
            settings.clone(),
            command.into(),
        ]
    };
    let commands = Commands {
        start: vec![daemon, "-c".into(), settings.clone()],
        stop: Some(command("shutdown")),
        status: Some(command("status")),
    };
    Ok(builder.build(Measurements::Lifecycle, commands))
}

fn pm2_contender(builder: ContenderBuilder) -> Result<Contender> {
    programs::find_program("node")?;
    let program = programs::pm2()?;
    let server = builder.write_file("health.js", include_str!("../rivals/health.js"))?;
    // Cluster mode can reload. `--wait-ready` makes `start` wait until the server listens.
    let start = [
        "start".into(),
        server,
        "-i".into(),
        "1".into(),
        "--wait-ready".into(),
    ];
    let commands = Commands {
        start: [program.clone()].into_iter().chain(start).collect(),
        stop: Some(vec![program.clone(), "kill".into()]),
        status: Some(vec![program, "status".into()]),
    };
    Ok(builder.build(Measurements::Lifecycle, commands))
}

fn caddy_contender(builder: ContenderBuilder) -> Result<Contender> {
    let program = programs::find_program("caddy")?;
    let settings = builder.write_file("Caddyfile", include_str!("../rivals/Caddyfile"))?;
    let admin = format!("127.0.0.1:{}", builder.admin_port);
    let commands = Commands {
        start: vec![program.clone(), "start".into(), "--config".into(), settings],
        stop: Some(vec![
            program,
            "stop".into(),
            "--address".into(),
            admin.into(),
        ]),
        status: None,
    };
    Ok(builder.build(Measurements::Both, commands))
}

pub fn nginx_contender(builder: ContenderBuilder) -> Result<Contender> {
    let program = programs::find_program("nginx")?;
    let settings = builder.write_file("nginx.conf", include_str!("../rivals/nginx.conf"))?;
    let prefix = builder.directory.path().as_os_str().to_owned();
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
    let commands = Commands {
        stop: Some(stop.collect()),
        start,
        status: None,
    };
    Ok(builder.build(Measurements::Both, commands))
}

//! The static program of the Containerfile in an empty root, as PID 1 and a user without a name.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{
    ChildGuard, Outcome, child_processes, eventually, free_port, request, running_as_root, spawn,
};

/// User and compiler flags of the Containerfile.
const USER: u32 = 65532;
const FLAGS: &str = "-C target-feature=+crt-static";

fn containerfile() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Containerfile")).unwrap()
}

/// The program, linked with the flags of the Containerfile. The library and what it depends on were
/// built for the tests already: to build them again, as the Containerfile does, takes minutes.
fn static_program(directory: &Path) -> PathBuf {
    assert!(containerfile().contains(&format!("RUSTFLAGS='{FLAGS}' cargo build --release")));
    let program = directory.join("fullon");
    let dependencies = std::env::current_exe().unwrap();
    let dependencies = dependencies.parent().unwrap();
    let mut link = Command::new("rustc");
    link.args(["--edition", "2024", "--crate-name", "fullon", "src/main.rs"])
        .args(FLAGS.split(' '))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .arg("--extern")
        .arg(format!(
            "fullon_master_api={}",
            newest_library(dependencies).display()
        ))
        .arg("-o")
        .arg(&program)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    Outcome::run(&mut link).succeeds();
    program
}

/// The library that the program of the tests was linked with.
fn newest_library(dependencies: &Path) -> PathBuf {
    let files = fs::read_dir(dependencies).unwrap().flatten();
    let is_library = |file: &fs::DirEntry| {
        let name = file.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libfullon_master_api-") && name.ends_with(".rlib")
    };
    let newest = files
        .filter(is_library)
        .max_by_key(|file| file.metadata().unwrap().modified().unwrap());
    newest.expect("the library is not built").path()
}

struct Container {
    root: tempfile::TempDir,
    port: u16,
    /// `unshare`, which exits with the status of PID 1.
    unshare: ChildGuard,
}

impl Container {
    fn run(program: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["proc", "dev", "etc", "run/fullon"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        chown(root.path().join("run/fullon"), Some(USER), Some(USER)).unwrap();
        Outcome::run(Command::new("chmod").arg("755").arg(root.path())).succeeds();
        let install = ["-m", "755"];
        let to = root.path().join("fullon");
        Outcome::run(Command::new("install").args(install).arg(program).arg(to)).succeeds();
        // Every container runtime mounts this file.
        fs::write(root.path().join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        let port = free_port();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/container.sh");
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", script])
            .arg(root.path())
            .arg(USER.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let unshare = spawn(set_environment(&mut unshare).env("PORT", port.to_string()));
        Self {
            root,
            port,
            unshare,
        }
    }

    /// PID 1 of the container, as numbered outside.
    fn init_pid(&self) -> u32 {
        let children = child_processes(self.unshare.0.id());
        children.first().expect("no process runs").pid()
    }

    /// Runs a command inside, as a health check does.
    fn fullon(&self, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        let user = USER.to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter
            .args([
                "--target",
                &self.init_pid().to_string(),
                "--mount",
                "--pid",
                "--root",
                "--wd=/",
            ])
            .args(["--setuid", &user, "--setgid", &user, "/fullon"])
            .args(arguments);
        Outcome::run(set_environment(&mut nsenter))
    }

    fn is_healthy(&self) -> bool {
        let address = format!("127.0.0.1:{}", self.port);
        std::net::TcpStream::connect(&address).is_ok()
            && request(&address, "GET", "/health", &[], "").status == 200
    }
}

/// The arguments of the health check in the Containerfile.
fn health_check() -> Vec<String> {
    let text = containerfile();
    let (_, command) = text.split_once("\nHEALTHCHECK ").unwrap();
    let (_, command) = command.split_once(" CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command.lines().next().unwrap()).unwrap();
    assert_eq!(command, ["/fullon", "status", "--ready"]);
    command[1..].to_vec()
}

/// The environment of the Containerfile, with free ports.
fn set_environment(command: &mut Command) -> &mut Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", "/run/fullon")
        .env("PID_FILE", "/run/fullon/fullon.pid")
        .env("LOG_FILE", "-")
        .env("HOST", "127.0.0.1")
        .env("ADMIN_PORT", "0")
}

/// Without them only authorities named in the settings are trusted.
#[test]
fn image_has_public_certificate_authorities() {
    let text = containerfile();
    let (_, image) = text.split_once("\nFROM scratch\n").unwrap();
    let copy = "COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/";
    assert!(image.lines().any(|line| line == copy), "{image}");
}

#[test]
fn static_program_runs_as_pid_1_in_empty_container() {
    if !running_as_root("static_program_runs_as_pid_1_in_empty_container") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut container = Container::run(&static_program(directory.path()));
    eventually("the daemon serves", || container.is_healthy());
    let status = fs::read_to_string(format!("/proc/{}/status", container.init_pid())).unwrap();
    assert!(
        status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n")),
        "{status}"
    );
    let names = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .unwrap();
    assert!(names.ends_with("\t1"), "{names}");

    container.fullon(&["status"]).succeeds();
    container.fullon(&health_check()).succeeds();
    let state = container.root.path().join("run/fullon/fullon.pid.state");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let by_name = state["admin"]
        .as_str()
        .unwrap()
        .replace("127.0.0.1", "localhost");
    container
        .fullon(&["--admin-url", &by_name, "status"])
        .succeeds();
    // The first process stays when the daemon is replaced.
    let first = container.init_pid();
    container.fullon(&["restart"]).succeeds();
    assert_eq!(container.init_pid(), first);
    assert!(container.is_healthy());

    kill(Pid::from_raw(first.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(container.unshare.0.wait().unwrap().code(), Some(0));
    assert!(!container.root.path().join("run/fullon/fullon.pid").exists());
}

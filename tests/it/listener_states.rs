//! Every command in every state of the daemon, while another user listens at the admin port: no
//! token arrives there. `--nocapture` shows what each command printed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::listener_proof::{
    OTHER_USER, false_status, squat, squat_after_kill, squat_while_draining, starting_daemon,
};
use crate::support::{
    ChildGuard, FakeApi, Home, InstalledProgram, eventually, free_port, preload_library,
    running_as_root, spawn,
};

/// Commands that change the daemon. They run last and one after another, in this order.
const CHANGES: [&str; 5] = ["reload", "start", "run", "restart", "stop"];

/// Every command, with the arguments that decide whether it connects.
fn commands(home: &Home) -> Vec<Vec<String>> {
    let help = home.run(["--help"]).succeeds().stdout;
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names: Vec<_> = names
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert!(CHANGES.iter().all(|change| names.contains(change)));
    let mut commands = Vec::new();
    for name in names {
        let variants: &[&[&str]] = match name {
            "audit" => &[&["audit"], &["audit", "--verify"]],
            "completions" => &[&["completions", "bash"]],
            "help" => &[],
            "logs" => &[&["logs"], &["logs", "--no-follow"]],
            "openapi" => &[&["openapi", "admin"]],
            "restart" => &[&["restart", "--timeout", "1s"], &["restart", "--hard"]],
            "sessions" => &[&["sessions"], &["sessions", "--end", "an-id"]],
            "status" => &[&["status"], &["status", "--ready"], &["--json", "status"]],
            "token" => &[
                &["token"],
                &["token", "--revoke", "an-id"],
                &["token", "--revoke-all"],
            ],
            _ => &[&[name]],
        };
        let owned = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        commands.extend(variants.iter().map(owned));
    }
    commands
}

/// Its place in [`CHANGES`]; `None` for a command that changes nothing.
fn change(command: &[String]) -> Option<usize> {
    CHANGES.iter().position(|name| *name == command[0])
}

/// A line of the table.
struct Row {
    state: &'static str,
    command: String,
    exit: String,
    printed: String,
}

/// A command that runs, with its output in a file.
struct Running {
    command: Vec<String>,
    child: ChildGuard,
    output: PathBuf,
    /// Exists while the command waits before its connection.
    pause: PathBuf,
}

impl Running {
    fn start(
        home: &Home,
        extra: &[&str],
        command: &[String],
        preload: Option<(&Path, u16)>,
    ) -> Self {
        let id = home.path().join(uuid::Uuid::new_v4().to_string());
        let (output, pause) = (id.with_extension("output"), id.with_extension("pause"));
        let file = fs::File::create(&output).unwrap();
        let mut process = home.fullon(
            extra
                .iter()
                .copied()
                .chain(command.iter().map(String::as_str)),
        );
        process.stdout(file.try_clone().unwrap()).stderr(file);
        if let Some((library, port)) = preload {
            process
                .env("LD_PRELOAD", library)
                .env("PAUSE_PORT", port.to_string())
                .env("PAUSE_AT", &pause);
        }
        Self {
            command: command.to_vec(),
            child: spawn(&mut process),
            output,
            pause,
        }
    }

    /// Waits until it is about to connect, or has exited.
    fn wait_for_connect(&mut self) {
        eventually("it connects or exits", || {
            self.pause.exists() || !self.child.is_alive()
        });
    }

    /// Waits until it exits. Followers of the log print a line first, or have nothing to print.
    fn finish(mut self, state: &'static str) -> Row {
        let is_follower = self.command == ["logs"];
        eventually(&format!("{state}: {:?} exits", self.command), || {
            !self.child.is_alive() || is_follower
        });
        let exit = match self.child.0.try_wait().unwrap() {
            Some(status) => status.code().unwrap().to_string(),
            None => "follows".into(),
        };
        let output = String::from_utf8(fs::read(&self.output).unwrap()).unwrap();
        assert!(!output.contains("/console#token=ey"), "{output}");
        assert!(!output.starts_with("error: "), "wrong usage: {output}");
        Row {
            state,
            command: self.command.join(" "),
            exit,
            printed: shown(&output),
        }
    }
}

/// The beginning of the first line.
fn shown(output: &str) -> String {
    let line = output.lines().next().unwrap_or_default();
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// Runs all commands in a state of the daemon.
fn run_all(home: &Home, state: &'static str, extra: &[&str]) -> Vec<Row> {
    let (mut changes, readers): (Vec<_>, Vec<_>) = commands(home)
        .into_iter()
        .partition(|command| change(command).is_some());
    changes.sort_by_key(|command| change(command));
    let start = |command: &Vec<String>| Running::start(home, extra, command, None);
    let readers: Vec<_> = readers.iter().map(start).collect();
    // The follower of the log runs as long as the others, and during the changes.
    let (followers, readers): (Vec<_>, Vec<_>) = readers
        .into_iter()
        .partition(|running| running.command == ["logs"]);
    let mut rows: Vec<_> = readers
        .into_iter()
        .map(|running| running.finish(state))
        .collect();
    rows.extend(changes.iter().map(|command| start(command).finish(state)));
    rows.extend(followers.into_iter().map(|running| running.finish(state)));
    rows
}

/// Nothing arrived, although somebody listened all the time.
#[track_caller]
fn assert_nothing_arrived(fake: &FakeApi, connections: usize) {
    assert_eq!(fake.connections(), connections, "{}", fake.received());
    assert_eq!(fake.received(), "");
    TcpStream::connect(fake.address()).unwrap();
    eventually("it still accepts", || fake.connections() > connections);
}

fn down() -> Vec<Row> {
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    let rows = run_all(&home, "down", &[]);
    assert_nothing_arrived(&fake, 0);
    rows
}

fn starting() -> Vec<Row> {
    let mut home = Home::new();
    let fake = squat(&mut home);
    home.token("admin:read");
    let _starting = starting_daemon(&home);
    let rows = run_all(&home, "starting", &[]);
    assert_nothing_arrived(&fake, 0);
    rows
}

fn killed() -> Vec<Row> {
    let mut home = Home::new();
    let fake = squat_after_kill(&mut home);
    let rows = run_all(&home, "killed", &[]);
    assert_nothing_arrived(&fake, 0);
    rows
}

/// The daemon has closed its ports, and still answers a request.
fn draining() -> Vec<Row> {
    let mut home = Home::new();
    let (fake, _unfinished) = squat_while_draining(&mut home);
    let rows = run_all(&home, "stopping", &[]);
    assert_nothing_arrived(&fake, 0);
    rows
}

/// A new process starts and hangs. Another user listens at its new `ADMIN_PORT`.
fn restarting() -> Vec<Row> {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    let program = InstalledProgram::install_in(&home);
    home.write_env(&format!("ADMIN_PORT={}\n", free_port()));
    program.start(&home);
    program.replace("#!/bin/sh\n: >started\nexec sleep 600\n");
    let port = free_port();
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    let fake = FakeApi::start_as(OTHER_USER, port, &false_status(&home));
    let mut restart = home.fullon(["restart", "--timeout", "60s"]);
    let _restart = spawn(restart.stdout(Stdio::null()).stderr(Stdio::null()));
    eventually("the new process hangs", || {
        home.path().join("started").exists()
    });
    let rows = run_all(&home, "restarting", &[]);
    assert_nothing_arrived(&fake, 0);
    rows
}

fn tunnel() -> Vec<Row> {
    let home = Home::started();
    let fake = FakeApi::start_as(OTHER_USER, free_port(), &false_status(&home));
    let rows = run_all(&home, "tunnel", &["--admin-url", &fake.url()]);
    assert_nothing_arrived(&fake, 0);
    rows
}

/// A command has found the daemon, and is about to connect. A restart moves the daemon to another
/// port, and another user listens at the old one: the connection leads there.
fn replaced() -> Vec<Row> {
    let mut home = Home::new();
    home.unset("ADMIN_PORT");
    let library = preload_library(&home, "pause_connect");
    let mut port = free_port();
    home.write_env(&format!("ADMIN_PORT={port}\n"));
    home.run(["start"]).succeeds();
    let (changes, readers): (Vec<_>, Vec<_>) = commands(&home)
        .into_iter()
        .partition(|command| change(command).is_some());
    let mut rows = Vec::new();
    let mut connections = 0;
    for batch in std::iter::once(readers).chain(changes.into_iter().map(|one| vec![one])) {
        if home.daemon().is_none() {
            home.run(["start"]).succeeds();
        }
        let start =
            |command: &Vec<String>| Running::start(&home, &[], command, Some((&library, port)));
        let mut running: Vec<_> = batch.iter().map(start).collect();
        for each in &mut running {
            each.wait_for_connect();
        }
        let next = free_port();
        home.write_env(&format!("ADMIN_PORT={next}\n"));
        home.run(["restart"]).succeeds();
        let fake = FakeApi::start_as(OTHER_USER, port, &false_status(&home));
        let mut paused = 0;
        for each in &running {
            paused += usize::from(fs::remove_file(&each.pause).is_ok());
        }
        eventually("all that waited connect", || fake.connections() >= paused);
        rows.extend(running.into_iter().map(|each| each.finish("replaced")));
        assert_nothing_arrived(&fake, paused);
        connections += paused;
        port = next;
    }
    // Else nothing was tested.
    assert!(connections >= 8, "{connections} commands connected");
    rows
}

#[test]
fn no_command_sends_a_token_in_any_state() {
    if !running_as_root("no_command_sends_a_token_in_any_state") {
        return;
    }
    let states = [
        down, starting, killed, draining, restarting, replaced, tunnel,
    ];
    let rows = std::thread::scope(|scope| {
        let threads = states.map(|state| scope.spawn(state));
        threads.map(|thread| thread.join().unwrap())
    });
    let mut table = String::from("| state | command | exit | first line |\n|---|---|---|---|\n");
    for row in rows.iter().flatten() {
        let Row {
            state,
            command,
            exit,
            printed,
        } = row;
        writeln!(table, "| {state} | {command} | {exit} | {printed} |").unwrap();
    }
    std::io::stdout().write_all(table.as_bytes()).unwrap();
}

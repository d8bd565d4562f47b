//! `kill -9` at any moment of a start, restart or stop leaves at most one daemon, and the next
//! command works.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use fullon_master_api::instance::{PidFileStatus, StateFile, inspect_pid_file};

use fullon_master_api::sys::Process;

use crate::support::{
    DEADLINE, Home, InstalledProgram, Outcome, Random, child_processes, eventually, executable_of,
    request, scale, unrelated_process,
};

const COMMANDS: [&str; 3] = ["start", "restart", "stop"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The process of the command.
    Command,
    /// The daemon that ran before.
    Daemon,
    /// The new process of a restart.
    NewProcess,
    /// Any process that runs the program.
    Any,
}

const VICTIMS: [Victim; 4] = [
    Victim::Command,
    Victim::Daemon,
    Victim::NewProcess,
    Victim::Any,
];

/// A home whose processes are identified by their copy of the program.
struct Sandbox {
    home: Home,
    program: InstalledProgram,
    /// How long a start takes on this machine.
    start_duration: Duration,
}

impl Sandbox {
    fn new() -> Self {
        let mut home = Home::new();
        home.set("SHUTDOWN_TIMEOUT", "2s");
        let program = InstalledProgram::install_in(&home);
        let start = Instant::now();
        program.start(&home);
        let start_duration = start.elapsed();
        Self {
            home,
            program,
            start_duration,
        }
    }

    fn spawn(&self, name: &str) -> Child {
        let mut command = self.home.command(self.program.path());
        command
            .arg(name)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn run(&self, command: &str) -> Outcome {
        Outcome::run(self.home.command(self.program.path()).arg(command))
    }

    /// All processes that run the program.
    fn processes(&self) -> Vec<Process> {
        Process::all()
            .filter(|process| {
                executable_of(process.pid()).is_some_and(|program| program == self.program.path())
            })
            .collect()
    }

    fn lock_is_held(&self) -> bool {
        matches!(
            inspect_pid_file(&self.home.pid_file()).unwrap(),
            PidFileStatus::Held(_)
        )
    }

    /// Waits until draining and failing processes have exited. Then one process holds the lock, or
    /// none is left.
    fn wait_until_settled(&self) -> Option<Process> {
        eventually("one daemon is left, or none", || {
            let remaining = self.processes();
            remaining.len() <= 1 && self.lock_is_held() == (remaining.len() == 1)
        });
        self.home.daemon()
    }

    /// Waits, because a daemon whose start command was killed may still be starting.
    fn wait_until_healthy(&self) {
        let state =
            || StateFile::read_active(&self.home.pid_file(), self.home.daemon()?.pid()).ok();
        eventually("the daemon has a state file", || state().is_some());
        eventually("the daemon is healthy", || {
            request(&self.home.public_address(), "GET", "/health", &[], "").status == 200
        });
    }
}

/// One kill.
#[derive(Debug)]
struct Round {
    command: &'static str,
    victim: Victim,
    delay: Duration,
}

impl Round {
    fn random(random: &mut Random, pace: Duration) -> Self {
        let command = random.one_of(&COMMANDS);
        let victim = match random.one_of(&VICTIMS) {
            // Only a restart has a new process.
            Victim::NewProcess if command != "restart" => Victim::Any,
            victim => victim,
        };
        // Fine-grained, in the range of an optimised build, or in that of this machine.
        let spans = [1_000, 30_000, u64::try_from(pace.as_micros()).unwrap()];
        let span = random.one_of(&spans);
        let delay = Duration::from_micros(random.below(span));
        Self {
            command,
            victim,
            delay,
        }
    }

    fn run(&self, sandbox: &Sandbox, random: &mut Random) {
        let daemon = sandbox.home.daemon();
        let mut child = sandbox.spawn(self.command);
        let new_process = (self.victim == Victim::NewProcess).then(|| {
            let daemon = daemon.as_ref()?;
            let deadline = Instant::now() + DEADLINE;
            while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
                if let Some(new_process) = child_processes(daemon.pid()).pop() {
                    return Some(new_process);
                }
            }
            None
        });
        std::thread::sleep(self.delay);
        match self.victim {
            Victim::Command => {
                let _ = child.kill();
            }
            Victim::Daemon => kill(daemon.as_ref()),
            Victim::NewProcess => kill(new_process.flatten().as_ref()),
            Victim::Any => {
                let all = sandbox.processes();
                if !all.is_empty() {
                    let chosen = random.below(all.len() as u64);
                    kill(all.get(usize::try_from(chosen).unwrap()));
                }
            }
        }
        let mut is_over = || child.try_wait().unwrap().is_some();
        eventually("the command exits", &mut is_over);
    }
}

/// Kills the process, which may have exited already.
fn kill(process: Option<&Process>) {
    if let Some(process) = process {
        let _ = process.kill();
        assert!(process.wait_for_exit(DEADLINE));
    }
}

#[test]
fn kill_at_any_moment_leaves_at_most_one_daemon() {
    let seed = scale::seed();
    let mut random = Random::new(seed);
    let sandbox = Sandbox::new();
    let mut other_process = unrelated_process();
    for number in 1..=scale::rounds() {
        let round = Round::random(&mut random, 2 * sandbox.start_duration);
        // Shown if the test fails.
        println!("SEED={seed}, round {number}: {round:?}");
        if round.command == "start" && random.below(4) > 0 && sandbox.lock_is_held() {
            sandbox.run("stop").succeeds();
        }
        round.run(&sandbox, &mut random);
        if round.command == "stop" {
            // The killed command may have sent its request just before.
            sandbox.run("stop");
        }
        let remaining = sandbox.wait_until_settled();
        assert!(remaining.is_none() || round.command != "stop");
        if remaining.is_none() && random.below(2) == 0 {
            fs::write(
                sandbox.home.pid_file(),
                format!("{}\n", other_process.0.id()),
            )
            .unwrap();
        }

        let start = sandbox.run("start");
        if remaining.is_some() {
            start.exits(1).stderr_contains(&["already running"]);
        } else {
            start.succeeds();
        }
        sandbox.wait_until_healthy();
        assert!(sandbox.wait_until_settled().is_some());
        if random.below(5) == 0 {
            sandbox.run("stop").succeeds();
            assert_eq!(sandbox.processes().len(), 0);
            assert!(!sandbox.lock_is_held());
        }
        assert!(other_process.is_alive());
    }
    let leftovers: Vec<_> = fs::read_dir(sandbox.home.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains(".state."))
        .collect();
    assert!(leftovers.len() < 10, "{leftovers:?}");
}

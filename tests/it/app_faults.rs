//! Faults of an application, and of the processes that run it: nothing is left over, there are never
//! two sets of workers, and messages say what happened.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use fullon_master_api::sys::Process;
use nix::sys::signal::Signal;

use crate::support::{
    ChildGuard, Home, Outcome, Random, eventually, executable_of, scale, send_signal,
};

/// A home whose daemon runs an application with these faults.
struct Faulty {
    home: Home,
}

/// A guard and its worker.
#[derive(Debug)]
struct Set {
    guard: Process,
    worker: Process,
}

impl Faulty {
    fn new(faults: &str) -> Self {
        let mut home = Home::new();
        let application = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/it/applications/faults.py"
        );
        home.set(
            "APP_COMMAND",
            &format!("python3 -S {application} {{fd}} {faults}"),
        );
        home.set("APP_STOP_TIMEOUT", "1s");
        home.set("SHUTDOWN_TIMEOUT", "2s");
        Self { home }
    }

    fn started(faults: &str) -> Self {
        let faulty = Self::new(faults);
        faulty.home.run(["start"]).succeeds();
        faulty
    }

    /// The guards of this home, and their workers.
    fn sets(&self) -> Vec<Set> {
        let guards = Process::all().filter(|it| it.environment().contains_key("FULLON_GUARD"));
        let all: Vec<_> = self.application_processes();
        let set = |guard: Process| {
            let worker = all.iter().find(|it| it.parent_pid() == Some(guard.pid()))?;
            let worker = worker.try_clone().unwrap();
            Some(Set { guard, worker })
        };
        guards.filter_map(set).collect()
    }

    fn set(&self) -> Set {
        let mut sets = self.sets();
        assert_eq!(sets.len(), 1, "{sets:?}");
        sets.remove(0)
    }

    /// Workers and their descendants: they run in this home.
    fn application_processes(&self) -> Vec<Process> {
        let is_here = |process: &Process| {
            let directory = fs::read_link(format!("/proc/{}/cwd", process.pid()));
            directory.is_ok_and(|it| it == self.home.path())
        };
        let is_fullon = |process: &Process| {
            executable_of(process.pid()).is_some_and(|it| it.ends_with("fullon"))
        };
        Process::all()
            .filter(|it| is_here(it) && !is_fullon(it) && !it.has_exited())
            .collect()
    }

    #[track_caller]
    fn stop(&self) {
        self.home.run(["stop"]).succeeds();
        self.assert_nothing_is_left();
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let left = self.application_processes();
        let left: Vec<_> = left.iter().map(Process::describe).collect();
        assert!(left.is_empty(), "{left:?}");
        let sockets = self.home.pid_file().with_added_extension("d");
        let sockets: Vec<_> = fs::read_dir(sockets).into_iter().flatten().collect();
        assert!(sockets.is_empty(), "{sockets:?}");
    }

    /// Waits until another worker is ready than before.
    #[track_caller]
    fn wait_for_other_than(&self, worker: &Process) -> Set {
        eventually("another worker runs", || {
            let sets = self.sets();
            sets.len() == 1 && sets[0].worker.pid() != worker.pid() && self.is_healthy()
        });
        self.set()
    }

    fn is_healthy(&self) -> bool {
        self.home.run(["status", "--ready"]).code == 0
    }

    fn log_of_application(&self) -> Vec<String> {
        let log = self.home.log();
        let lines = log.lines().filter(|line| line.contains(" app: "));
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn worker_that_exits_at_start_fails_the_start_with_its_output() {
    let faulty = Faulty::new("exits");
    faulty.home.run(["start"]).exits(1).stderr_contains(&[
        "worker 1 exited with code 3 before it was ready",
        "cannot reach \u{fffd}[31mthe database",
    ]);
    faulty.assert_nothing_is_left();
    assert!(faulty.home.daemon().is_none());
}

#[test]
fn program_that_cannot_be_run_fails_the_start() {
    let mut faulty = Faulty::new("");
    faulty.home.set("APP_COMMAND", "no-such-program {fd}");
    let message =
        "worker 1 cannot be started: APP_COMMAND: no-such-program is in no directory of PATH";
    faulty
        .home
        .run(["start"])
        .exits(1)
        .stderr_contains(&[message]);
    faulty.home.set("APP_COMMAND", "/etc/passwd {fd}");
    let message = "cannot run /etc/passwd: Permission denied";
    faulty
        .home
        .run(["start"])
        .exits(1)
        .stderr_contains(&[message]);
    faulty.assert_nothing_is_left();
}

#[test]
fn worker_that_hangs_at_start_is_killed() {
    let mut faulty = Faulty::new("hangs-at-start leaves-children clears-environment");
    faulty.home.set("APP_START_TIMEOUT", "1s");
    faulty.home.run(["start"]).exits(1).stderr_contains(&[
        "worker 1 was not ready within 1s (APP_START_TIMEOUT)",
        "waiting for the database",
    ]);
    faulty.assert_nothing_is_left();
}

#[test]
fn stop_while_the_application_starts() {
    let faulty = Faulty::new("hangs-at-start leaves-children clears-environment");
    let mut start = faulty.home.fullon(["start"]);
    let start = start.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let start = start.unwrap();
    eventually("the worker has printed a line", || {
        faulty.home.log_file().exists() && !faulty.log_of_application().is_empty()
    });
    faulty.stop();
    let output = start.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn worker_that_hangs_at_stop_is_killed() {
    let faulty = Faulty::started("hangs-at-stop leaves-children clears-environment");
    faulty.stop();
}

#[test]
fn killed_worker_is_replaced_and_its_descendants_end() {
    let faulty = Faulty::started("alone leaves-children clears-environment");
    let set = faulty.set();
    let before = faulty.application_processes();
    set.worker.kill().unwrap();
    let after = faulty.wait_for_other_than(&set.worker);
    assert_ne!(after.guard.pid(), set.guard.pid());
    for process in before {
        assert!(process.has_exited());
    }
    assert!(!faulty.home.path().join("two-sets").exists());
    assert!(
        faulty.home.log().contains("worker 1 was killed by SIGKILL"),
        "{}",
        faulty.home.log()
    );
    faulty.stop();
}

#[test]
fn stopped_worker_is_ended() {
    let faulty = Faulty::started("");
    let set = faulty.set();
    send_signal(set.worker.pid(), Signal::SIGSTOP);
    faulty.stop();
    assert!(set.worker.has_exited());
}

#[test]
fn worker_that_dies_again_and_again_is_a_crash_loop() {
    let faulty = Faulty::started("");
    let marker = faulty.home.path().join("broken");
    // The next workers exit at once.
    fs::write(&marker, "").unwrap();
    let set = faulty.set();
    set.worker.kill().unwrap();
    eventually("five workers have failed", || {
        let log = faulty.home.log();
        log.lines().filter(|it| it.contains("restart_in=")).count() >= 5
    });
    faulty.home.run(["status"]).exits(0);
    // A slot that waits for its next worker stops at once.
    faulty.stop();
}

#[test]
fn output_is_logged_line_by_line() {
    let faulty = Faulty::started("prints");
    let pid = faulty.set().worker.pid();
    eventually("all lines are logged", || {
        faulty.log_of_application().len() >= 3
    });
    let log = faulty.log_of_application();
    let fields = format!("worker=1 pid={pid}");
    assert!(
        log[0].contains("binary \u{fffd}\\u{0}") && log[0].contains(&fields),
        "{}",
        log[0]
    );
    let length = log[1].chars().filter(|c| *c == 'y').count();
    assert_eq!(length, 64 * 1024);
    assert!(log[1].contains("cut=983040"), "{}", &log[1][..100]);
    assert!(log[2].contains("\\u{2028}INFO audit: forged"), "{}", log[2]);
    faulty.stop();
    let log = faulty.log_of_application();
    assert!(log[3].contains(" app: no end"), "{}", log[3]);
}

#[test]
fn worker_without_output_is_served() {
    let faulty = Faulty::started("closes-output");
    assert!(faulty.is_healthy());
    faulty.stop();
}

#[test]
fn flood_of_output_holds_up_nobody_else() {
    let mut faulty = Faulty::new("floods");
    faulty.home.set("LOG_MAX_SIZE", "64KiB");
    faulty.home.run(["start"]).succeeds();
    eventually("the log was rotated", || {
        faulty.home.path().join("fullon.log.1").exists()
    });
    for _ in 0..20 {
        assert!(faulty.is_healthy());
    }
    faulty.stop();
}

#[test]
fn sets_of_one_daemon_end_with_it() {
    let mut faulty = Faulty::new("leaves-children clears-environment");
    faulty.home.set("APP_WORKERS", "3");
    faulty.home.run(["start"]).succeeds();
    assert_eq!(faulty.sets().len(), 3);
    let daemon = faulty.home.daemon().unwrap();
    daemon.kill().unwrap();
    eventually("no process is left", || {
        faulty.application_processes().is_empty()
    });
}

/// The processes that one round kills.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Worker,
    Guard,
    Daemon,
    GuardAndDaemon,
    WorkerAndDaemon,
}

const VICTIMS: [Victim; 5] = [
    Victim::Worker,
    Victim::Guard,
    Victim::Daemon,
    Victim::GuardAndDaemon,
    Victim::WorkerAndDaemon,
];

#[test]
fn kills_at_random_leave_one_set() {
    let seed = scale::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut faulty = Faulty::started("alone leaves-children");
    // Each kill is followed by a start.
    faulty.home.set("APP_START_TIMEOUT", "20s");
    faulty
        .home
        .extend_time_limit(Duration::from_secs(2 * scale::rounds()));
    for round in 0..scale::rounds() {
        let victim = random.one_of(&VICTIMS);
        println!("round {round}: {victim:?}");
        let before = faulty.application_processes();
        let set = faulty.set();
        let daemon = faulty.home.daemon().unwrap();
        let victims: &[&Process] = match victim {
            Victim::Worker => &[&set.worker],
            Victim::Guard => &[&set.guard],
            Victim::Daemon => &[&daemon],
            Victim::GuardAndDaemon => &[&set.guard, &daemon],
            Victim::WorkerAndDaemon => &[&set.worker, &daemon],
        };
        for victim in victims {
            victim.kill().unwrap();
            std::thread::sleep(Duration::from_micros(random.below(3) * random.below(2000)));
        }
        if daemon.has_exited() || victims.len() > 1 || matches!(victim, Victim::Daemon) {
            assert!(daemon.wait_for_exit(Duration::from_secs(5)));
            // This start, or a killed one before it.
            if random.below(3) == 0 {
                let mut start = faulty.home.fullon(["start"]);
                let start = start.stdout(Stdio::null()).stderr(Stdio::null());
                let mut start = ChildGuard(start.spawn().unwrap());
                std::thread::sleep(Duration::from_micros(random.below(200_000)));
                start.0.kill().unwrap();
            }
            eventually("the daemon starts, or runs", || {
                Outcome::run(&mut faulty.home.fullon(["start"])).code == 0
                    || faulty.home.daemon().is_some()
            });
        }
        faulty.wait_for_other_than(&set.worker);
        for process in before {
            assert!(
                process.has_exited(),
                "round {round}: {}",
                process.describe()
            );
        }
        assert!(
            !faulty.home.path().join("two-sets").exists(),
            "round {round}"
        );
    }
    faulty.stop();
}

#[test]
fn kills_during_a_restart_leave_one_set() {
    let seed = scale::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let faulty = Faulty::started("leaves-children");
    faulty
        .home
        .extend_time_limit(Duration::from_secs(3 * scale::rounds()));
    for round in 0..scale::rounds() {
        let mut restart = faulty.home.fullon(["restart"]);
        let restart = restart.stdout(Stdio::null()).stderr(Stdio::null());
        let mut restart = ChildGuard(restart.spawn().unwrap());
        std::thread::sleep(Duration::from_micros(random.below(400_000)));
        let mut candidates: Vec<Process> = Vec::new();
        for set in faulty.sets() {
            // The daemon that it belongs to.
            candidates.extend(set.guard.parent_pid().and_then(Process::open));
            candidates.extend([set.guard, set.worker]);
        }
        if !candidates.is_empty() {
            let index = usize::try_from(random.below(candidates.len() as u64)).unwrap();
            println!("round {round}: {}", candidates[index].describe());
            // It may have exited already.
            let _ = candidates[index].kill();
            assert!(candidates[index].wait_for_exit(Duration::from_secs(5)));
        }
        if random.below(4) == 0 {
            restart.0.kill().unwrap();
        }
        let _ = restart.0.wait();
        eventually("a daemon runs", || {
            faulty.home.daemon().is_some() || faulty.home.run(["start"]).code == 0
        });
        eventually("one set is left", || {
            let daemon = faulty.home.daemon().map(|daemon| daemon.pid());
            let sets = faulty.sets();
            sets.len() == 1
                && sets[0].guard.parent_pid() == daemon
                && faulty.application_processes().len() == 4
                && faulty.is_healthy()
        });
    }
    faulty.stop();
}

//! A new process that fails, hangs or lies changes nothing.

use std::fs;
use std::time::Instant;

use fullon_master_api::instance::{PidFileStatus, inspect_pid_file};

use crate::support::{Home, InstalledProgram, Load, LoadProfile, Outcome, Response, eventually};

/// Speaks the restart protocol like a new process. Test lines are appended.
const FAKE_PROCESS: &str = "\
#!/bin/sh
exec python3 -c \"$(tail -n +3 \"$0\")\"
import array, os, socket, sys, time
daemon = socket.socket(fileno=0)
def hello(protocol=1):
    daemon.sendall(b'{\"hello\":{\"protocol\":%d}}\\n' % protocol)
def take():
    text, descriptors, _, _ = daemon.recvmsg(65536, socket.CMSG_SPACE(4 * 64))
    assert descriptors, text
def ready(pid=os.getpid()):
    daemon.sendall(b'{\"ready\":{\"pid\":%d,\"server\":\"http://127.0.0.1:1\",\"admin\":\"http://127.0.0.1:1\"}}\\n' % pid)
";

/// A daemon under load whose program was replaced.
struct Case {
    home: Home,
    program: InstalledProgram,
    load: Load,
}

impl Case {
    fn new() -> Self {
        let home = Home::new();
        let program = InstalledProgram::install_in(&home);
        program.start(&home);
        let load = Load::start(&home.public_address(), &LoadProfile::default());
        Self {
            home,
            program,
            load,
        }
    }

    fn fake_process(lines: &str) -> Self {
        let case = Self::new();
        case.program.replace(format!("{FAKE_PROCESS}{lines}\n"));
        case
    }

    fn script(lines: &str) -> Self {
        let case = Self::new();
        case.program.replace(format!("#!/bin/sh\n{lines}\n"));
        case
    }

    /// Neither the command nor the API can restart it. Both report the reason, and nothing changes.
    /// Afterwards a good program can take over.
    #[track_caller]
    fn assert_fails(self, code: i32, status: u16, words: &[&str]) {
        self.assert_fails_within("30", code, status, words);
    }

    /// The same for a program that never finishes.
    #[track_caller]
    fn assert_times_out(self) {
        let start = Instant::now();
        self.assert_fails_within("1", 1, 504, &["within 1s"]);
        assert!(
            start.elapsed().as_secs() >= 2,
            "the restart did not wait for the timeout"
        );
    }

    #[track_caller]
    fn assert_fails_within(self, timeout: &str, code: i32, status: u16, words: &[&str]) {
        let home = &self.home;
        let daemon = home.daemon().unwrap();
        self.load.wait_for_more(200);

        let outcome = home.run(["restart", "--timeout", timeout]).exits(code);
        assert_eq!(outcome.stdout, "");
        outcome.stderr_contains(words);
        self.assert_unchanged(daemon.pid());

        let body = format!("{{\"timeout_seconds\":{timeout}}}");
        let answer = home.call_admin_with("POST", "/admin/restart", &body);
        assert_problem_with(&answer, status, words);
        self.assert_unchanged(daemon.pid());

        self.program.restore();
        let _ = fs::remove_file(home.path().join(".env"));
        self.load.wait_for_more(200);
        home.run(["restart"]).succeeds();
        assert!(daemon.wait_for_exit(crate::support::DEADLINE));
        let status = home.call_admin("GET", "/admin/status").json();
        assert_eq!(status["generation"], 2);
        self.load.wait_for_more(200);
        self.load.finish().assert_flawless();
        home.wait_until_only(home.state().pid);
        home.run(["stop"]).succeeds();
        assert!(!home.pid_file().exists());
    }

    #[track_caller]
    fn assert_unchanged(&self, pid: u32) {
        let home = &self.home;
        home.wait_until_only(pid);
        let number = fs::read_to_string(home.pid_file()).unwrap();
        assert_eq!(number.trim_end(), pid.to_string());
        assert!(matches!(
            inspect_pid_file(&home.pid_file()).unwrap(),
            PidFileStatus::Held(_)
        ));
        home.run(["--env-file", "/dev/null", "start"])
            .exits(1)
            .stderr_contains(&["already running"]);
        let status = home.call_admin("GET", "/admin/status").json();
        assert_eq!(
            (&status["pid"], &status["phase"], &status["generation"]),
            (&pid.into(), &"ready".into(), &1.into())
        );
    }
}

#[track_caller]
fn assert_problem_with(answer: &Response, status: u16, words: &[&str]) {
    answer.assert_problem(status, "");
    for word in words {
        answer.assert_problem(status, word);
    }
}

#[test]
fn invalid_settings_are_reported() {
    let case = Case::new();
    let settings = "LOG_LEVEL=verbose\nSHUTDOWN_TIMEOUT=soon\n";
    fs::write(case.home.path().join(".env"), settings).unwrap();
    case.assert_fails(
        2,
        422,
        &["LOG_LEVEL: `verbose`", "SHUTDOWN_TIMEOUT: `soon`"],
    );
}

#[test]
fn missing_program_is_reported() {
    let case = Case::new();
    case.program.remove();
    let path = case.program.path().display().to_string();
    case.assert_fails(1, 500, &[&path, "does not exist"]);
}

#[test]
fn program_for_another_architecture_is_reported() {
    let case = Case::new();
    let mut program = fs::read(case.program.path()).unwrap();
    // RISC-V in `e_machine` (`elf(5)`).
    program[18..20].copy_from_slice(&243_u16.to_le_bytes());
    case.program.replace(program);
    let path = case.program.path().display().to_string();
    case.assert_fails(1, 500, &[&path, "Exec format error"]);
}

#[test]
fn exit_at_once_is_reported_with_stderr() {
    let case = Case::script("echo 'the moon is in the wrong phase' >&2\nexit 3");
    case.assert_fails(
        1,
        500,
        &["the moon is in the wrong phase", "exit status: 3"],
    );
}

#[test]
fn killed_program_is_reported() {
    Case::script("kill -9 $$").assert_fails(1, 500, &["by SIGKILL"]);
}

#[test]
fn huge_output_on_stderr_does_not_block() {
    let lines =
        "head -c 3000000 /dev/zero | tr '\\0' 'x' >&2\necho 'that was too much' >&2\nexit 1";
    Case::script(lines).assert_fails(1, 500, &["that was too much"]);
}

#[test]
fn hanging_program_times_out() {
    Case::script("exec sleep 600").assert_times_out();
}

#[test]
fn hanging_program_that_ignores_signals_times_out() {
    Case::script("trap '' TERM INT HUP\nwhile :; do sleep 0.1; done").assert_times_out();
}

#[test]
fn hang_after_taking_descriptors_times_out() {
    Case::fake_process("hello(); take(); time.sleep(600)").assert_times_out();
}

#[test]
fn exit_after_taking_descriptors_is_reported() {
    let lines = "hello(); take(); sys.stderr.write('lost in the woods\\n'); sys.exit(7)";
    Case::fake_process(lines).assert_fails(1, 500, &["lost in the woods", "exit status: 7"]);
}

#[test]
fn reported_failure_is_shown() {
    let lines = "hello(); take()\n\
        daemon.sendall(b'{\"failed\":{\"message\":\"no wind today\",\"exit_code\":1}}\\n')\n\
        time.sleep(600)";
    Case::fake_process(lines).assert_fails(1, 500, &["no wind today"]);
}

#[test]
fn ready_then_exit_fails() {
    Case::fake_process("hello(); take(); ready()").assert_fails(1, 500, &[]);
}

#[test]
fn ready_before_hello_fails() {
    Case::fake_process("ready(); time.sleep(600)").assert_fails(1, 500, &[]);
}

#[test]
fn ready_without_serving_fails() {
    Case::fake_process("hello(); take(); ready(); time.sleep(600)").assert_fails(1, 500, &[]);
}

#[test]
fn ready_with_pid_of_old_process_fails() {
    let lines = "hello(); take(); ready(os.getppid()); time.sleep(600)";
    Case::fake_process(lines).assert_fails(1, 500, &[]);
}

#[test]
fn unknown_protocol_version_fails() {
    Case::fake_process("hello(2); time.sleep(600)").assert_fails(1, 500, &["--hard"]);
}

#[test]
fn text_instead_of_protocol_is_reported() {
    Case::script("echo 'Welcome!' >&0\nexec sleep 600").assert_fails(1, 500, &["Welcome!"]);
}

#[test]
fn closed_channel_fails() {
    Case::script("exec 0<&-\nexec sleep 600").assert_fails(1, 500, &[]);
}

/// A restart by signal has no caller that the failure could be reported to.
#[test]
fn failure_is_shown_later_by_doctor() {
    let case = Case::script("echo 'never again' >&2\nexit 1");
    let pid = case.home.daemon().unwrap().pid();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGUSR2,
    )
    .unwrap();
    eventually("the failure is logged", || {
        case.home.log().contains("never again")
    });
    case.assert_unchanged(pid);
    let outcome: Outcome = case.home.run(["status"]);
    outcome.succeeds();
    let expected = ["the last restart failed", "never again"];
    case.home.run(["doctor"]).stdout_contains(&expected);
    case.load.finish().assert_flawless();
}

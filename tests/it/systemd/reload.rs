//! Reload replaces the process.

use super::{
    ADMIN, PUBLIC, assert_serves, boot, fullon, processes, start, status, unfinished_request,
    wait_for_new_process,
};
use crate::support::{Connection, Load, LoadProfile, SERVICE, eventually};

#[test]
fn reload_replaces_process_without_lost_request() {
    let Some(machine) = boot("reload_replaces_process_without_lost_request") else {
        return;
    };
    // Keeps access lines out of the journal.
    machine.write_settings("LOG_LEVEL=info,access=off\n");
    start(&machine);
    let mut pids = vec![machine.main_pid()];
    let load = machine.in_its_network(|| Load::start(PUBLIC, &LoadProfile::default()));
    for _ in 0..4 {
        load.wait_for_more(200);
        machine.systemctl(["reload", SERVICE]).succeeds();
        let pid = machine.main_pid();
        assert!(!pids.contains(&pid), "{pid} is new, after {pids:?}");
        pids.push(pid);
    }
    load.wait_for_more(200);
    load.finish().assert_flawless();
    assert_eq!(machine.property("NRestarts"), "0");
    assert_eq!(machine.property("StatusText"), "serving");
    eventually("the old processes have exited", || {
        processes(&machine) == machine.main_pid().to_string()
    });
    assert_serves(&machine);
    machine.systemctl(["stop", SERVICE]).succeeds();
    assert_eq!(machine.property("Result"), "success");

    let journal = machine.journal();
    assert_eq!(journal.matches(" ready version=").count(), 5, "{journal}");
    assert!(journal.contains(" stopped\n"), "{journal}");
    // systemd is the parent of each main process and gets messages from no other.
    for complaint in ["not our child", "reception only permitted"] {
        assert!(!journal.contains(complaint), "{journal}");
    }
}

#[test]
fn reload_takes_new_settings_and_program_or_nothing() {
    let Some(machine) = boot("reload_takes_new_settings_and_program_or_nothing") else {
        return;
    };
    start(&machine);
    let old = machine.main_pid();
    let unchanged = || {
        machine.systemctl(["reload", SERVICE]).exits(1);
        assert_eq!(machine.main_pid(), old);
        assert_eq!(machine.property("ActiveState"), "active");
        assert_serves(&machine);
    };
    machine.write_settings("LOG_LEVEL=info,=,\n");
    unchanged();
    let journal = machine.journal();
    assert!(journal.contains("LOG_LEVEL: "), "{journal}");

    machine.write_settings("LOG_LEVEL=DEBUG\n");
    let program = "usr/local/bin/fullon";
    let replace = |with: &str| {
        let new = format!("/{program}.new");
        machine.run("cp", [with, new.as_str()]).succeeds();
        machine
            .run("mv", [new.as_str(), "/usr/local/bin/fullon"])
            .succeeds();
    };
    machine
        .run("cp", ["/usr/local/bin/fullon", "/usr/local/bin/kept"])
        .succeeds();
    replace("/bin/false");
    unchanged();

    replace("/usr/local/bin/kept");
    machine.systemctl(["reload", SERVICE]).succeeds();
    let new = machine.main_pid();
    assert_ne!(new, old);
    let link = format!("/proc/{new}/exe");
    let running = machine.run("readlink", [link.as_str()]).succeeds();
    assert_eq!(running.stdout.trim_end(), "/usr/local/bin/fullon");
    assert_eq!(status(&machine)["log_level"], "debug");
}

#[test]
fn hanging_new_process_leaves_nothing_behind() {
    let Some(machine) = boot("hanging_new_process_leaves_nothing_behind") else {
        return;
    };
    start(&machine);
    let old = machine.main_pid();
    let authorization = format!("Bearer {}", fullon(&machine, ["token"]).trim());
    // Opening the settings blocks until the lease on them is released (`fcntl(2)`).
    let settings = "/etc/fullon_master_api/.env";
    machine
        .run("ln", ["--symbolic", "/run/leased", settings])
        .succeeds();
    let lease = "import fcntl, os, signal, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
file = open('/run/leased', 'w+')
os.fchmod(file.fileno(), 0o644)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open('/run/is-leased', 'w')
time.sleep(40)";
    machine
        .run("sh", ["-c", "python3 -c \"$0\" >/dev/null 2>&1 &", lease])
        .succeeds();
    eventually("the file is leased", || {
        machine.run("test", ["-e", "/run/is-leased"]).code == 0
    });
    let headers = [("Authorization", authorization.as_str())];
    let body = "{\"timeout_seconds\":2}";
    let mut restart = machine.in_its_network(|| Connection::open(ADMIN));
    restart.send("POST", "/admin/restart", &headers, body);
    let mut pids = String::new();
    eventually("the new process and its shim run", || {
        pids = processes(&machine);
        pids.split(' ').count() == 3
    });
    // It does not notice the end of the old process either.
    let new_pid = pids
        .split(' ')
        .max_by_key(|pid| pid.parse::<u32>().unwrap());
    machine
        .run("sh", ["-c", "kill -STOP $0", new_pid.unwrap()])
        .succeeds();
    restart
        .read_response("POST")
        .assert_problem(504, "within 2s");
    assert_eq!(processes(&machine), old.to_string());
    assert_serves(&machine);

    machine.run("rm", [settings]).succeeds();
    machine.systemctl(["reload", SERVICE]).succeeds();
    assert_ne!(machine.main_pid(), old);
}

#[test]
fn crash_of_new_process_during_drain_is_restarted() {
    let Some(machine) = boot("crash_of_new_process_during_drain_is_restarted") else {
        return;
    };
    machine.write_settings("SHUTDOWN_TIMEOUT=2s\n");
    start(&machine);
    let _request = unfinished_request(&machine);
    let old = machine.main_pid();
    machine.systemctl(["reload", SERVICE]).succeeds();
    let new_pid = machine.main_pid();
    assert_eq!(processes(&machine), format!("{old} {new_pid}"));
    machine
        .systemctl(["kill", "--signal=KILL", "--kill-who=main", SERVICE])
        .succeeds();
    wait_for_new_process(&machine, new_pid);
}

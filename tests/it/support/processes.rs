//! All processes of this machine, from procfs.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use fullon_master_api::sys::Process;

use super::{Home, eventually};

/// The child processes, including zombies.
pub fn child_processes(parent: u32) -> Vec<Process> {
    Process::all()
        .filter(|process| parent_of(process.pid()) == Some(parent))
        .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Whether the process has exited and was not reaped.
pub fn is_zombie(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] == "Z")
}

/// The fields after the name in `/proc/PID/stat` (`proc_pid_stat(5)`).
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

/// The current path of the program that a process runs.
pub fn executable_of(pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The files that a process has open beside stdin, stdout and stderr, as `/proc/PID/fd` names them.
pub fn open_files(pid: u32) -> Vec<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    descriptors
        .filter(|entry| !["0", "1", "2"].map(Into::into).contains(&entry.file_name()))
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .collect()
}

/// All processes whose `HOME` is this directory.
pub fn processes_in_home(home: &Path) -> Vec<Process> {
    let mut variable = b"HOME=".to_vec();
    variable.extend(home.as_os_str().as_bytes());
    Process::all()
        .filter(|process| {
            fs::read(format!("/proc/{}/environ", process.pid()))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|pair| pair == variable))
        })
        .collect()
}

impl Home {
    /// Waits until no process of this home runs.
    #[track_caller]
    pub fn wait_until_empty(&self) {
        eventually("nothing runs in this home", || {
            processes_in_home(self.path()).is_empty()
        });
    }

    /// Waits until the daemon is the only process of this home.
    #[track_caller]
    pub fn wait_until_only(&self, daemon: u32) {
        eventually("the daemon alone runs in this home", || {
            let all = processes_in_home(self.path());
            all.len() == 1 && all[0].pid() == daemon && child_processes(daemon).is_empty()
        });
    }
}

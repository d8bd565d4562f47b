//! The directory of the workers' sockets, beside the PID file, and the sweep at a fresh start.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mark::{Mark, pid_file_hash};
use super::remains::kill_remains;
use crate::config::workers_directory;
use crate::sys::Process;

/// How long guards whose daemon was killed may take to end their workers.
const GUARD_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest path of a Unix socket, in bytes (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// `PID_FILE.d`, which only this user can read.
#[derive(Debug, Clone)]
pub struct WorkersDirectory {
    path: PathBuf,
    /// Names the PID file in marks.
    pub(super) pid_file: String,
}

/// The path of a socket, and what keeps it valid.
#[derive(Debug, Clone)]
pub struct SocketPath {
    file: PathBuf,
    /// Set if the path is too long for a Unix socket.
    directory: Option<Arc<File>>,
}

impl WorkersDirectory {
    /// Creates the directory, unless it exists.
    ///
    /// # Errors
    ///
    /// The system refused, or another user has taken its name.
    pub fn create(pid_file: &Path) -> io::Result<Self> {
        let directory = Self {
            path: workers_directory(pid_file),
            pid_file: pid_file_hash(pid_file),
        };
        directory.ensure().map_err(|error| {
            let path = directory.path.display();
            io::Error::new(error.kind(), format!("{path} cannot be used: {error}"))
        })?;
        Ok(directory)
    }

    /// Ends the workers that a killed daemon has left, and removes their sockets. The caller holds
    /// the lock of the PID file. Workers of a replaced daemon that still drains stay.
    pub fn sweep(pid_file: &Path) {
        let path = workers_directory(pid_file);
        let Ok(entries) = fs::read_dir(&path) else {
            // There never was a worker.
            return;
        };
        let pid_file = pid_file_hash(pid_file);
        let living = wait_for_guards(&pid_file);
        let is_left = |process: &Process| {
            let mark = Mark::of_worker(process).or_else(|| Mark::of_guard(process));
            mark.is_some_and(|mark| mark.is_of(&pid_file) && !living.contains(&mark))
        };
        let killed = kill_remains(is_left);
        if killed > 0 {
            tracing::warn!(killed, "ended processes that a killed daemon had left");
        }
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_used = living
                .iter()
                .any(|mark| name.to_string_lossy().starts_with(mark.unique()));
            if !is_used {
                // It is in nobody's way.
                let _ = fs::remove_file(entry.path());
            }
        }
        // Not while sockets are in it.
        let _ = fs::remove_dir(path);
    }

    /// A path for the socket of this worker.
    ///
    /// # Errors
    ///
    /// The directory cannot be created or opened.
    pub(super) fn socket(&self, mark: &Mark) -> io::Result<SocketPath> {
        self.ensure()?;
        let file = self.path.join(format!("{}.sock", mark.unique()));
        let is_long = file.as_os_str().len() > MAX_SOCKET_PATH;
        let directory = is_long.then(|| File::open(&self.path)).transpose()?;
        Ok(SocketPath {
            file,
            directory: directory.map(Arc::new),
        })
    }

    /// Removes the directory, unless sockets are in it.
    pub(super) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    fn ensure(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
        let found = fs::symlink_metadata(&self.path)?;
        if !found.is_dir() {
            return Err(io::Error::other("it is not a directory"));
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another user"));
        }
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))
    }
}

impl SocketPath {
    /// The path for this process.
    pub fn own(&self) -> PathBuf {
        self.through("self")
    }

    /// The path for other processes of this user, as long as this process lives.
    pub fn shared(&self) -> PathBuf {
        self.through(&std::process::id().to_string())
    }

    /// The file itself, whose path may be too long for a socket.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn through(&self, process: &str) -> PathBuf {
        match (&self.directory, self.file.file_name()) {
            (Some(directory), Some(name)) => {
                let fd = directory.as_raw_fd();
                Path::new("/proc")
                    .join(format!("{process}/fd/{fd}"))
                    .join(name)
            }
            _ => self.file.clone(),
        }
    }

    pub fn remove(&self) {
        // The worker may not have bound it, or may have removed it.
        let _ = fs::remove_file(&self.file);
    }
}

/// Waits until the guards whose daemon has ended have ended, too. Returns the marks of the others.
fn wait_for_guards(pid_file: &str) -> Vec<Mark> {
    let deadline = Instant::now() + GUARD_TIMEOUT;
    let mut living = Vec::new();
    for guard in Process::all() {
        let Some(mark) = Mark::of_guard(&guard).filter(|mark| mark.is_of(pid_file)) else {
            continue;
        };
        // A guard whose daemon ended has another parent now.
        let has_daemon = || {
            guard
                .parent_pid()
                .is_some_and(|it| Some(it) == mark.daemon())
        };
        if has_daemon() {
            living.push(mark);
        } else {
            // One that does not end is killed.
            let _ = guard.wait_for_exit(deadline.saturating_duration_since(Instant::now()));
        }
    }
    living
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn socket_below_a_long_path_can_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(200));
        fs::create_dir(&long).unwrap();
        let workers = WorkersDirectory::create(&long.join("daemon.pid")).unwrap();
        let mark = Mark::new("hash");
        let socket = workers.socket(&mark).unwrap();
        let listener = UnixListener::bind(socket.own()).unwrap();
        UnixStream::connect(socket.shared()).unwrap();
        drop(listener);
        let expected = long
            .join("daemon.pid.d")
            .join(format!("{}.sock", mark.unique()));
        assert!(expected.exists());
        socket.remove();
        assert!(!expected.exists());
    }

    #[test]
    fn directory_is_private_and_created_again() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("daemon.pid");
        let path = directory.path().join("daemon.pid.d");
        fs::create_dir(&path).unwrap();
        let workers = WorkersDirectory::create(&pid_file).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
        fs::remove_dir(&path).unwrap();
        workers.socket(&Mark::new("hash")).unwrap();
        assert!(path.is_dir());
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/tmp", &path).unwrap();
        let error = WorkersDirectory::create(&pid_file).unwrap_err().to_string();
        assert!(error.ends_with("daemon.pid.d cannot be used: it is not a directory"));
    }

    #[test]
    fn sweep_removes_sockets_and_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("daemon.pid");
        WorkersDirectory::sweep(&pid_file);
        let workers = WorkersDirectory::create(&pid_file).unwrap();
        let socket = workers.socket(&Mark::new("hash")).unwrap();
        drop(UnixListener::bind(socket.own()).unwrap());
        WorkersDirectory::sweep(&pid_file);
        assert!(!directory.path().join("daemon.pid.d").exists());
    }
}

//! Why the system denies access to a file: a directory on the way to it that this user may not
//! enter. The system itself does not say which one.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, User, faccessat, getegid, geteuid, getgroups};
use rustix::fs::CWD;

/// How many symbolic links are followed, as by Linux.
const MAX_LINKS: usize = 40;

/// If a directory denies access to the file at `path`, an error that names the directory and the
/// next step, or else `error` itself. The kind of the error stays the same.
pub fn explain_denial(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    denial(path).map_or(error, |text| {
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    })
}

/// The directory that denies access to the file at `path`, and the next step. `None` if there is no
/// such directory.
pub fn denial(path: &Path) -> Option<String> {
    let directory = closed_directory(path, MAX_LINKS)?;
    let shown = directory.display();
    let denied = format!("this user may not enter the directory {shown}");
    let Ok(metadata) = directory.metadata() else {
        return Some(denied);
    };
    let (class, letter) = class_of_this_user(&metadata);
    let owner = User::from_uid(metadata.uid().into()).ok().flatten();
    let owner = owner.map_or_else(|| format!("uid {}", metadata.uid()), |user| user.name);
    let mode = metadata.mode() & 0o7777;
    Some(format!(
        "{denied} (mode {mode:04o} of {owner}), which needs the execute bit for {class}: run `chmod {letter}+x {shown}` as {owner}"
    ))
}

/// The bits of the mode that count for this user, and their letter for `chmod`.
fn class_of_this_user(directory: &Metadata) -> (&'static str, char) {
    let group = directory.gid();
    let groups = getgroups().unwrap_or_default();
    if directory.uid() == geteuid().as_raw() {
        ("its owner", 'u')
    } else if group == getegid().as_raw() || groups.iter().any(|it| it.as_raw() == group) {
        ("its group", 'g')
    } else {
        ("other users", 'o')
    }
}

/// The first directory on the way to `path` that this user may not enter.
fn closed_directory(path: &Path, links: usize) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let mut directories: Vec<_> = path.ancestors().skip(1).collect();
    directories.reverse();
    for directory in directories {
        match faccessat(CWD, directory, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
            Ok(()) => {}
            Err(Errno::EACCES) => {
                // Behind a link, it may be another directory.
                let link = directory.read_link().ok().filter(|_| links > 0);
                let Some(target) = link else {
                    return Some(directory.to_owned());
                };
                let target = directory.parent().unwrap_or(directory).join(target);
                return closed_directory(&target.join("entry"), links - 1);
            }
            Err(_) => return None,
        }
    }
    None
}

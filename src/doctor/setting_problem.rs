//! How to fix an invalid setting.

use std::io;

use nix::unistd::{AccessFlags, access};

use crate::config::{SettingProblem, Source, Sources, flag_name};

/// Whether the problem is about the `.env` file itself.
pub fn is_about_env_file(problem: &SettingProblem, sources: &Sources) -> bool {
    problem.setting == sources.file().display().to_string()
}

/// The next step for a problem. A running daemon keeps its `.env` file, so only a hard restart can
/// name another one.
pub fn fix_hint(problem: &SettingProblem, sources: &Sources, is_running: bool) -> String {
    if is_about_env_file(problem, sources) {
        if !sources.is_file_trusted() {
            return "chown it to yourself and chmod go-w, remove it, or work in another directory"
                .into();
        }
        return match access(sources.file(), AccessFlags::R_OK).map_err(io::Error::from) {
            Ok(()) => "mend the file: NAME=value lines, and with secrets in it chmod 600".into(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_running => {
                "put it back, or name another: fullon --env-file FILE restart --hard".into()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "give --env-file a file that is there".into()
            }
            Err(_) => "run this as its owner, or let this user read it (chmod, chown)".into(),
        };
    }
    let name = &problem.setting;
    match sources.get(name) {
        Some((_, Source::File(path))) => format!("edit {}", path.display()),
        Some((_, Source::Environment)) => format!("change {name} in the environment"),
        Some((_, Source::Flag)) => format!("change --{}", flag_name(name)),
        Some((_, Source::Default)) | None => format!("set {name}"),
    }
}

//! How to fix an invalid setting.

use std::io;

use nix::unistd::{AccessFlags, access};

use crate::config::{DEFINITIONS, SettingDefinition, SettingProblem, Source, Sources, flag_name};

/// Whether the problem is about the `.env` file itself.
pub fn is_about_env_file(problem: &SettingProblem, sources: &Sources) -> bool {
    problem.setting == sources.file().display().to_string()
}

/// The next step for a problem. A running daemon keeps its `.env` file, so only a hard restart can
/// name another one.
pub fn fix_hint(problem: &SettingProblem, sources: &Sources, is_running: bool) -> String {
    if is_about_env_file(problem, sources) {
        let shown = sources.file().display();
        if !sources.is_file_trusted() {
            return format!(
                "run `sudo chown $USER {shown}` and `chmod go-w {shown}`, or use another directory"
            );
        }
        return match access(sources.file(), AccessFlags::R_OK).map_err(io::Error::from) {
            Ok(()) => {
                format!(
                    "fix the file (NAME=value lines); `chmod 600 {shown}` if it contains secrets"
                )
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_running => {
                "restore the file, or use another one: `fullon --env-file FILE restart --hard`"
                    .into()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                "pass an existing file to --env-file".into()
            }
            Err(_) => {
                "run this as the file's owner, or give this user read access (chmod, chown)".into()
            }
        };
    }
    let name = &problem.setting;
    let is_file_variable = |it: &SettingDefinition| it.file_variable == Some(name.as_str());
    if DEFINITIONS.iter().any(is_file_variable) {
        return format!("correct the file or {name}");
    }
    match sources.get(name) {
        Some((_, Source::File(path))) => format!("edit {}", path.display()),
        Some((_, Source::Environment)) => format!("change {name} in the environment"),
        Some((_, Source::Flag)) => format!("change --{}", flag_name(name)),
        Some((_, Source::Default)) | None => format!("set {name}"),
    }
}

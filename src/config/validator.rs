//! Parses settings one by one and collects all problems.

use std::path::{Path, PathBuf};

use super::error::SettingProblem;
use super::sources::{Source, Sources};
use super::table::DEFINITIONS;
use crate::identity::identity;

/// The settings to parse, and the problems found so far.
pub(super) struct Validator<'a> {
    pub sources: &'a Sources,
    pub problems: Vec<SettingProblem>,
}

impl<'a> Validator<'a> {
    pub fn new(sources: &'a Sources) -> Self {
        Self {
            sources,
            problems: Vec::new(),
        }
    }

    /// The parsed value. `None` if it is not set, or if it is invalid, which is recorded.
    pub fn value<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, _) = self.sources.get(name)?;
        self.parsed(name, text, parse)
    }

    /// The parsed `text`, which belongs to the setting `name`. `None` if it is invalid, which is
    /// recorded.
    pub fn parsed<T>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = match url_problem(name, text) {
            Some(problem) => Err(problem),
            None => parse(text).map_err(|reason| hide_credentials(name, text, &reason)),
        };
        match parsed {
            Ok(value) => Some(value),
            Err(reason) => {
                self.add_problem(name, reason);
                None
            }
        }
    }

    /// The value of a setting that a URL may have, too. `own` is the value of the setting `name`,
    /// and `in_url` the one of the setting `url`. Both must not be set and differ.
    pub fn one_of<T: PartialEq>(
        &mut self,
        name: &str,
        own: Option<T>,
        url: &str,
        in_url: Option<T>,
    ) -> Option<T> {
        let is_set = |(_, source): (&str, &Source)| *source != Source::Default;
        if in_url.is_some() && self.sources.get(name).is_some_and(is_set) && own != in_url {
            let message = format!("differs from {url}: remove it, or the part of the URL");
            self.add_problem(name, message);
            return None;
        }
        in_url.or(own)
    }

    /// The file of the generated signing key: in the home directory or, for a user who has none,
    /// beside the PID file.
    pub fn key_file(&self, pid_file: Option<&Path>) -> Option<PathBuf> {
        let directory = self.sources.home().or_else(|| pid_file?.parent())?;
        Some(directory.join(identity().key_file()))
    }

    /// Records a problem, with the source of the value if the setting has one.
    pub fn add_problem(&mut self, setting: &str, mut message: String) {
        if let Some((_, source)) = self.sources.get(setting) {
            message = format!("{message} ({source})");
        }
        self.problems.push(SettingProblem {
            setting: setting.into(),
            message,
        });
    }
}

/// The problem with a URL, which may contain a password and would be shown: by `config`, in paths
/// and in messages.
fn url_problem(name: &str, text: &str) -> Option<String> {
    let is_secret = DEFINITIONS.iter().any(|it| it.name == name && it.is_secret);
    // The parser of origins shows no password. A command may contain a URL, such as `fd://{fd}`.
    if is_secret || ["ADMIN_ORIGINS", "APP_COMMAND"].contains(&name) || !text.contains("://") {
        return None;
    }
    let next_step = match name.split_once('_') {
        Some(("DB", _)) => "set DATABASE_URL instead",
        Some(("REDIS", _)) => "set REDIS_URL instead",
        _ => "set it to a value without `://`",
    };
    Some(format!(
        "the value, which may hold a password, is a URL, but this setting takes none: {next_step}"
    ))
}

/// The reason without the value, if that may hold a password.
fn hide_credentials(name: &str, text: &str, reason: &str) -> String {
    if !text.contains('@') || name == "ADMIN_ORIGINS" {
        return reason.to_owned();
    }
    let hidden = "the value, which may hold a password,";
    // A path is resolved before it is shown.
    let relative = text.trim_start_matches(['~', '/', '.']);
    let reason = reason.replace(&format!("`{text}`"), hidden);
    let reason = reason.replace(text, hidden);
    if reason.contains(relative) {
        return format!("{hidden} is not valid");
    }
    reason
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{DEFINITIONS, EnvFileChoice, Flags, Settings};

    /// Settings that accept any text.
    const FREE_TEXT: [&str; 5] = [
        "DB_USER",
        "DB_PASSWORD",
        "DB_NAME",
        "REDIS_USERNAME",
        "REDIS_PASSWORD",
    ];

    fn problem(values: &[(&str, &str)]) -> String {
        let flags: Flags = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let file = EnvFileChoice::Explicit("/dev/null".into());
        let sources = Sources::read(&flags, &file, Path::new("/"), &BTreeMap::new());
        Settings::load(&sources).unwrap_err().to_string()
    }

    /// The mistake of a user who puts the URL of a server where a part of it belongs.
    #[test]
    fn no_url_and_no_user_with_password_is_shown() {
        for definition in &DEFINITIONS {
            let name = definition.name;
            if definition.is_secret {
                continue;
            }
            for value in [
                "postgres://me:hunter2@db.example/x",
                "redis://:hunter2@db.example",
                "tcp://hunter2",
            ] {
                if name == "ADMIN_ORIGINS" && !value.contains('@') {
                    continue;
                }
                let needed = [("DB_NAME", "app"), ("REDIS_HOST", "cache")];
                let needed = needed.into_iter().filter(|(other, _)| *other != name);
                let text = problem(&needed.chain([(name, value)]).collect::<Vec<_>>());
                assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
            }
        }
        for (name, value) in [
            ("PORT", "me:hunter2@db"),
            ("LOG_LEVEL", "me:hunter2@db"),
            ("DB_HOST", "me:hunter2@db:5432"),
            ("DB_SSLROOTCERT", "me:hunter2@db"),
            ("DB_SSLROOTCERT", "~/me:hunter2@db"),
            ("PID_FILE", "me:hunter2@db/"),
        ] {
            let tls = ("DB_SSLMODE", "verify-full");
            let text = problem(&[("DB_NAME", "app"), tls, (name, value)]);
            assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn problem_has_setting_value_and_source() {
        for definition in &DEFINITIONS {
            let (name, value) = (definition.name, "no/such/");
            if FREE_TEXT.contains(&name) {
                continue;
            }
            let needed = [("DB_SSLMODE", "verify-full"), ("REDIS_TLS", "on")];
            let needed = needed.into_iter().filter(|(other, _)| *other != name);
            let values: Vec<_> = needed.chain([(name, value)]).collect();
            let text = problem(&values);
            let shown = match name {
                "DATABASE_URL" | "REDIS_URL" => "is not a URL",
                _ if definition.is_secret => "has 8",
                _ => "`no/such/` is ",
            };
            let expected = format!("\n  {name}: {shown}");
            assert!(text.contains(&expected), "{text}");
            assert!(text.ends_with(" (flag)"), "{text}");
        }
    }
}

//! Parses settings one by one and collects all problems.

use std::path::PathBuf;

use super::error::SettingProblem;
use super::sources::Sources;

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
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                let reason = hide_credentials(name, text, reason);
                self.add_problem(name, reason);
                None
            }
        }
    }

    /// A file in the home directory.
    pub fn home_file(&mut self, name: &str) -> Option<PathBuf> {
        let path = self.sources.home().map(|home| home.join(name));
        if path.is_none() {
            self.add_problem(
                "HOME",
                "is not set: the key file and paths that begin with ~ need a home directory".into(),
            );
        }
        path
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

/// The reason without the value, if that may be a URL with a password.
fn hide_credentials(name: &str, text: &str, reason: String) -> String {
    let may_be_hidden = text.contains('@') || text.contains("://");
    // The parser of origins shows no password.
    if !may_be_hidden || name == "ADMIN_ORIGINS" {
        return reason;
    }
    let hidden = "the value, which may hold a password,";
    let reason = reason.replace(&format!("`{text}`"), hidden);
    match name.strip_suffix("_HOST") {
        Some(prefix @ ("DB" | "REDIS")) => format!(
            "{reason}: set {prefix}_HOST, {prefix}_PORT and {prefix}_PASSWORD instead of a URL"
        ),
        _ => reason,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::{DEFINITIONS, EnvFileChoice, Flags, Settings};

    /// Settings that accept any text.
    const FREE_TEXT: [&str; 4] = ["DB_USER", "DB_PASSWORD", "DB_NAME", "REDIS_PASSWORD"];

    fn problem(values: &[(&str, &str)]) -> String {
        let flags: Flags = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let file = EnvFileChoice::Explicit("/dev/null".into());
        let sources = Sources::read(&flags, &file, Path::new("/"), &BTreeMap::new());
        Settings::load(&sources).unwrap_err().to_string()
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
            let shown = if definition.is_secret {
                "has 8"
            } else {
                "`no/such/` is "
            };
            let expected = format!("\n  {name}: {shown}");
            assert!(text.contains(&expected), "{text}");
            assert!(text.ends_with(" (flag)"), "{text}");
        }
    }
}

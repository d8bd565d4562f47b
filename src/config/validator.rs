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
        let (text, source) = self.sources.get(name)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.add_problem(name, format!("{reason} ({source})"));
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
                "is not set: the home directory is needed for ~ and the key file".into(),
            );
        }
        path
    }

    pub fn add_problem(&mut self, setting: &str, message: String) {
        self.problems.push(SettingProblem {
            setting: setting.into(),
            message,
        });
    }
}

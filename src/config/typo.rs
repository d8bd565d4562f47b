//! Misspelled names in `.env`. The file may hold variables of other programs, so only close matches
//! are reported.

use super::table::DEFINITIONS;

/// In a shorter name, a second changed letter makes another word.
const LONG_NAME_LEN: usize = 8;

/// A name that is not a setting but close to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typo {
    pub name: String,
    /// The closest setting.
    pub setting: &'static str,
}

impl Typo {
    /// The setting that `name` is probably meant to be.
    pub(super) fn detect(name: &str) -> Option<Self> {
        let setting = DEFINITIONS
            .iter()
            .map(|setting| setting.name)
            .filter(|setting| is_similar(name, setting))
            .min_by_key(|setting| strsim::levenshtein(name, setting))?;
        Some(Self {
            name: name.to_owned(),
            setting,
        })
    }
}

fn is_similar(name: &str, setting: &str) -> bool {
    let letters = |name: &str| name.replace(['_', '-'], "").to_ascii_uppercase();
    let max_distance = if setting.len() < LONG_NAME_LEN { 1 } else { 2 };
    letters(name) == letters(setting) || strsim::levenshtein(name, setting) <= max_distance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_detected_and_unrelated_names_ignored() {
        for (typo, setting) in [
            ("LOGLEVEL", "LOG_LEVEL"),
            ("log_level", "LOG_LEVEL"),
            ("DB_PASSWORT", "DB_PASSWORD"),
            ("DB_PASWORT", "DB_PASSWORD"),
            ("ADMINPORT", "ADMIN_PORT"),
            ("PORTS", "PORT"),
            ("REDIS_HSOT", "REDIS_HOST"),
        ] {
            let found = Typo::detect(typo).map(|found| found.setting);
            assert_eq!(found, Some(setting), "{typo}");
        }
        for other in [
            "PATH",
            "HOSTNAME",
            "PGPORT",
            "PGHOST",
            "DB_POOL",
            "DB_URL",
            "REDIS_URL",
            "REDIS_DB",
            "LOG_DIR",
            "READ_TIMEOUT",
            "JWT_ISSUER",
            "SECRET_KEY",
            "DEBUG",
            "TZ",
            "",
            "ÄÖÜ",
        ] {
            assert_eq!(Typo::detect(other), None, "{other}");
        }
    }
}

//! Names in `.env` that are no settings and look like one that was meant. The file may hold what other programs read, so that
//! only those count that are a slip away.

use super::table::DEFINITIONS;

/// In a shorter name, one letter makes another word (`PORT`, `POST`).
const LONG_NAME_LEN: usize = 8;

/// A name that is no setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typo {
    /// What is written.
    pub name: String,
    /// The setting that it is close to.
    pub setting: &'static str,
}

impl Typo {
    /// The setting that was meant, if the name is a slip away from one.
    pub(super) fn detect(name: &str) -> Option<Self> {
        let meant = DEFINITIONS
            .iter()
            .map(|setting| setting.name)
            .filter(|setting| is_similar(name, setting))
            .min_by_key(|setting| distance(name, setting))?;
        let name = name.to_owned();
        Some(Self {
            name,
            setting: meant,
        })
    }
}

fn is_similar(name: &str, setting: &str) -> bool {
    let letters = |name: &str| name.replace(['_', '-'], "").to_ascii_uppercase();
    let most = if setting.len() < LONG_NAME_LEN { 1 } else { 2 };
    letters(name) == letters(setting) || distance(name, setting) <= most
}

/// How many bytes have to be added, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_detected_and_unrelated_names_ignored() {
        for (slip, meant) in [
            ("LOGLEVEL", "LOG_LEVEL"),
            ("log_level", "LOG_LEVEL"),
            ("DB_PASSWORT", "DB_PASSWORD"),
            ("DB_PASWORT", "DB_PASSWORD"),
            ("ADMINPORT", "ADMIN_PORT"),
            ("PORTS", "PORT"),
            ("REDIS_HSOT", "REDIS_HOST"),
        ] {
            let found = Typo::detect(slip).map(|found| found.setting);
            assert_eq!(found, Some(meant), "{slip}");
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
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}

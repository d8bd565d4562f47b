//! Names that look like a setting and are none. Other programs may use the same `.env` and the same
//! environment, so only close matches and names of our families are reported.

use super::error::{SettingWarning, SettingWarningKind};
use super::table::DEFINITIONS;
use super::worker_environment::is_passed_on;

/// In a shorter name, without its family, a second changed letter makes another word.
const LONG_NAME_LEN: usize = 8;

/// Beginnings of names that belong to this program.
const FAMILIES: [&str; 7] = [
    "ADMIN_",
    "AUDIT_",
    "DATABASE_",
    "DB_",
    "JWT_",
    "LOG_",
    "REDIS_",
];

/// Beginning of names that this program shares with applications: `APP_ENV` and `APP_DEBUG` are
/// everybody's.
const SHARED_FAMILY: &str = "APP_";

/// Names that other programs give to a setting.
const OTHER_NAMES: [(&str, &str); 6] = [
    ("DB_DATABASE", "DB_NAME"),
    ("DB_PASS", "DB_PASSWORD"),
    ("DB_USERNAME", "DB_USER"),
    ("JWT_SECRET", "JWT_SECRET_KEY"),
    ("REDIS_PASS", "REDIS_PASSWORD"),
    ("REDIS_SSL", "REDIS_TLS"),
];

/// Whether the name begins like the settings of this program.
pub(super) fn is_in_family(name: &str) -> bool {
    FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether a variable of the environment may be meant as a setting of this program.
pub(super) fn is_checked(name: &str) -> bool {
    is_in_family(name) || name.starts_with(SHARED_FAMILY)
}

/// Warnings about `names`, which come from `source`. `is_set` says whether a setting has a value.
pub(super) fn unknown_name_warnings<'a>(
    names: impl Iterator<Item = &'a str>,
    source: &str,
    is_set: impl Fn(&str) -> bool,
) -> Vec<SettingWarning> {
    let mut warnings = Vec::new();
    let mut others = Vec::new();
    let warning = |subject, message, next_step| SettingWarning {
        kind: SettingWarningKind::UnknownName,
        subject,
        message,
        next_step,
    };
    for name in names.filter(|name| !is_setting(name)) {
        match similar_setting(name).filter(|setting| !is_set(setting)) {
            Some(setting) => warnings.push(warning(
                name.to_owned(),
                format!("is not a setting ({source})"),
                format!("if you mean {setting}, correct the name"),
            )),
            None if is_in_family(name) => others.push(name),
            None => {}
        }
    }
    if !others.is_empty() {
        let message = if others.len() == 1 {
            "is not a setting and has no effect"
        } else {
            "are not settings and have no effect"
        };
        warnings.push(warning(
            others.join(", "),
            format!("{message} ({source})"),
            "`fullon config` lists the settings".into(),
        ));
    }
    warnings
}

fn is_setting(name: &str) -> bool {
    let mut settings = DEFINITIONS.iter();
    settings.any(|setting| setting.variables().any(|variable| variable == name))
        || is_passed_on(name)
}

/// The setting that `name` is probably meant to be.
fn similar_setting(name: &str) -> Option<&'static str> {
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    if let Some((_, setting)) = known {
        return Some(setting);
    }
    DEFINITIONS
        .iter()
        .map(|setting| setting.name)
        .filter(|setting| is_similar(name, setting))
        .min_by_key(|setting| strsim::osa_distance(name, setting))
}

fn is_similar(name: &str, setting: &str) -> bool {
    let letters = |name: &str| name.replace(['_', '-'], "").to_ascii_uppercase();
    let mut families = FAMILIES.iter().chain([&SHARED_FAMILY]);
    let family = families.find(|family| name.starts_with(*family));
    let own_part = family.and_then(|family| setting.strip_prefix(family));
    let max_distance = if own_part.unwrap_or(setting).len() < LONG_NAME_LEN {
        1
    } else {
        2
    };
    letters(name) == letters(setting) || strsim::osa_distance(name, setting) <= max_distance
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Vec<SettingWarning> {
        unknown_name_warnings([name].into_iter(), "environment", |_| false)
    }

    #[test]
    fn typos_are_detected_and_unrelated_names_ignored() {
        for (typo, setting) in [
            ("LOGLEVEL", "LOG_LEVEL"),
            ("log_level", "LOG_LEVEL"),
            ("DB_PASSWORT", "DB_PASSWORD"),
            ("DB_PASWORT", "DB_PASSWORD"),
            ("DB_PASS", "DB_PASSWORD"),
            ("ADMINPORT", "ADMIN_PORT"),
            ("PORTS", "PORT"),
            ("REDIS_HSOT", "REDIS_HOST"),
            ("APP_COMAND", "APP_COMMAND"),
            ("APP_WORKER", "APP_WORKERS"),
            ("app_timeout", "APP_TIMEOUT"),
        ] {
            let expected = format!("if you mean {setting}, correct the name");
            assert_eq!(found(typo)[0].next_step, expected, "{typo}");
        }
        for unknown in ["DB_POOL", "REDIS_POOL", "LOG_DIR", "JWT_ISSUER"] {
            let expected = "is not a setting and has no effect (environment)";
            assert_eq!(found(unknown)[0].message, expected, "{unknown}");
        }
        for other in [
            "PATH",
            "HOSTNAME",
            "PGPORT",
            "PGHOST",
            "READ_TIMEOUT",
            "SECRET_KEY",
            "DEBUG",
            "TZ",
            "",
            "ÄÖÜ",
            "LOG_LEVEL",
            "DB_PASSWORD_FILE",
            "APP_ENV",
            "APP_DEBUG",
            "APP_NAME",
            "APP_PORT",
            "APP_TIMEZONE",
            "APP_WORKER_CLASS",
            "APP_ENV_LOG_LEVL",
        ] {
            assert_eq!(found(other), [], "{other}");
        }
    }

    #[test]
    fn unknown_names_are_one_warning() {
        let names = ["DB_POOL", "REDIS_POOL", "TZ", "LOG_KEPP"];
        let found = unknown_name_warnings(names.into_iter(), "/x/.env", |_| true);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].subject, "DB_POOL, REDIS_POOL, LOG_KEPP");
    }
}

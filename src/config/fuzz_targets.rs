//! Fuzz targets of the `.env` file and of settings.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a broken promise has to panic"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;

use super::env_file::parse_env_file;
use super::{DEFINITIONS, EnvFileChoice, Flags, InvalidSettings, MASK, Settings, Sources};

/// An `.env` file.
pub fn env_file(bytes: &[u8]) {
    const HOME: &str = "/home/me";
    /// The limit for expanded references.
    const MAX_ADDED: usize = 1024 * 1024;
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let environment = |name: &str| (name == "HOME").then(|| HOME.to_owned());
    let (values, errors) = parse_env_file(text, environment);

    assert!(errors.is_sorted_by(|a, b| a.line < b.line));
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines = 1..=text.lines().count();
    assert!(errors.iter().all(|error| lines.contains(&error.line)));
    let mut written = String::new();
    let mut length = 0;
    for (name, value) in &values {
        length += value.len();
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        // A name in quotes has no quote in it.
        let quote = if name.contains('\'') { "" } else { "'" };
        writeln!(written, "{quote}{name}{quote}='{value}'").unwrap();
    }
    assert!(length <= text.len() + MAX_ADDED);
    let (read, errors) = parse_env_file(&written, environment);
    assert_eq!((read, errors.len()), (values, 0));
}

/// Settings, one `NAME=TEXT` a line.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let flags: Flags = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    // Problems of secrets do not quote them. Only whether a signing key is weak, and the parts of a
    // URL, depend on their text.
    let mut hidden = flags.clone();
    for definition in DEFINITIONS.iter().filter(|definition| definition.is_secret) {
        if let Some(value) = hidden.get_mut(definition.name)
            && !["JWT_SECRET_KEY", "DATABASE_URL", "REDIS_URL"].contains(&definition.name)
        {
            *value = "x".repeat(value.len());
        }
    }
    let (loaded, hidden) = (load(&flags), load(&hidden));
    match (loaded, hidden) {
        (Ok(settings), Ok(hidden)) => {
            assert_eq!(settings.entries(), hidden.entries());
            assert!(settings.admin.ip().is_loopback());
            assert!(settings.shutdown_timeout.as_secs() <= 3600);
            let size = settings.log.max_size;
            assert!(size == ByteSize(0) || size >= ByteSize::kib(64));
            for (entry, definition) in settings.entries().iter().zip(&DEFINITIONS) {
                let value = entry.value.as_deref();
                assert!(!definition.is_secret || value.is_none_or(|value| value == MASK));
            }
        }
        (Err(problems), Err(hidden)) => assert_eq!(problems.to_string(), hidden.to_string()),
        (loaded, _) => panic!("validity depends on the characters of a secret: {loaded:?}"),
    }
}

fn load(flags: &Flags) -> Result<Settings, InvalidSettings> {
    let file = EnvFileChoice::Explicit("/dev/null".into());
    Settings::load(&Sources::read(
        flags,
        &file,
        Path::new("/"),
        &BTreeMap::new(),
    ))
}

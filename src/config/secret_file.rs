//! Secrets in files of their own: `DB_PASSWORD_FILE=/run/secrets/db` instead of `DB_PASSWORD`.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::env_file::{Content, exposed_file, read};
use super::error::SettingWarning;

/// No secret is larger.
const MAX_LEN: u64 = 64 * 1024;

/// A secret, and a warning if all users can read its file.
pub(super) type SecretInFile = (String, Option<SettingWarning>);

/// Reads the file that the setting names by `text`, which is `path`. A line break at the end of the
/// file does not belong to the secret.
///
/// The file may belong to anybody, because the setting names it, but not all users may write it.
pub(super) fn read_secret(text: &str, path: &Path) -> Result<SecretInFile, String> {
    // Anything else could be the secret itself, by mistake.
    let is_path = ["/", "~/", "./"].iter().any(|it| text.starts_with(it));
    let shown = if is_path && !text.contains('@') {
        path.display().to_string()
    } else {
        "the file, which is not shown because the value may be a secret,".into()
    };
    let is_large = |it: Metadata| it.is_file() && it.len() > MAX_LEN;
    if path.metadata().is_ok_and(is_large) {
        return Err(format!("{shown} is larger than 64 KiB"));
    }
    let content = read(path, true);
    match content.map_err(|error| format!("{shown} cannot be read: {error}"))? {
        // The reason has the path.
        Content::Untrusted(_) if !is_path => Err(format!("{shown} can be written by all users")),
        Content::Untrusted(reason) => Err(format!("{shown} {reason}")),
        Content::Text(text, metadata) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let secret = line.strip_suffix('\r').unwrap_or(line);
            if secret.is_empty() {
                return Err(format!("{shown} is empty"));
            }
            let warning = exposed_file(path, metadata.mode(), "contains a secret and");
            Ok((secret.to_owned(), warning))
        }
    }
}

//! Paths in settings.

use std::path::{Path, PathBuf};

/// Resolves `~` and relative paths.
pub fn expand_path(text: &str, home: Option<&Path>, directory: &Path) -> Result<PathBuf, String> {
    if text.contains("://") {
        return Err("is a URL, but a path is needed".into());
    }
    match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(home
            .ok_or("begins with ~, but HOME is not set: set HOME, or use an absolute path")?
            .join(rest.trim_start_matches('/'))),
        _ => Ok(directory.join(text)),
    }
}

//! Resource limits that this process changes for itself, and restores for programs that it runs.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// The environment variable that holds the original limits, for the processes that replace this one.
pub const ORIGINAL_LIMITS: &str = "FULLON_ORIGINAL_LIMITS";

static ORIGINAL: OnceLock<SoftLimits> = OnceLock::new();

/// The soft limits that this program changes. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoftLimits {
    /// Open descriptors (`RLIMIT_NOFILE`).
    files: Option<u64>,
    /// The size of a core dump, in bytes (`RLIMIT_CORE`).
    core: Option<u64>,
}

/// The limits as they were before this program first changed them, be it in another process that
/// this one replaces.
pub fn original_limits() -> SoftLimits {
    *ORIGINAL.get_or_init(|| {
        let inherited = std::env::var(ORIGINAL_LIMITS).ok();
        let inherited = inherited.and_then(|text| SoftLimits::parse(&text));
        inherited.unwrap_or_else(|| SoftLimits {
            files: getrlimit(Resource::Nofile).current,
            core: getrlimit(Resource::Core).current,
        })
    })
}

/// Disables core dumps: the memory holds keys, and so does the environment that systemd or a shell
/// set.
pub fn disable_core_dumps() {
    original_limits();
    // With 0 the kernel still pipes a dump to a program (core(5)); with 1 it does not.
    set(Resource::Core, Some(1));
}

impl SoftLimits {
    /// Sets the limits of this process.
    pub fn apply(self) {
        set(Resource::Nofile, self.files);
        set(Resource::Core, self.core);
    }

    /// The text in the environment variable.
    pub fn to_text(self) -> String {
        let text = |limit: Option<u64>| limit.map_or_else(|| "-".to_owned(), |it| it.to_string());
        format!("{} {}", text(self.files), text(self.core))
    }

    fn parse(text: &str) -> Option<Self> {
        let (files, core) = text.split_once(' ')?;
        let parse = |text: &str| match text {
            "-" => Some(None),
            number => number.parse().ok().map(Some),
        };
        Some(Self {
            files: parse(files)?,
            core: parse(core)?,
        })
    }
}

/// Sets a soft limit. The hard limit bounds it.
fn set(resource: Resource, current: Option<u64>) {
    let limit = getrlimit(resource);
    let current = match (current, limit.maximum) {
        (Some(current), Some(maximum)) => Some(current.min(maximum)),
        (current, maximum) => current.or(maximum),
    };
    // The soft limit may always be set up to the hard limit.
    let _ = setrlimit(resource, Rlimit { current, ..limit });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_limits_is_parsed() {
        for (files, core) in [(Some(1024), Some(0)), (None, Some(7)), (Some(1), None)] {
            let limits = SoftLimits { files, core };
            assert_eq!(SoftLimits::parse(&limits.to_text()), Some(limits));
        }
        for text in ["", "1", "1 x", "1 2 3", "-1 2"] {
            assert_eq!(SoftLimits::parse(text), None, "{text}");
        }
    }
}

//! File descriptors: each client is one, and the system gives so many and no more.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;
use crate::config::Limits;
use crate::server::MAX_REFUSALS;

/// For what is opened now and then (the log when it is rotated or read, `.env`, a successor's pipes, our own probes), and for those
/// who are told that there is no room, on each of both ports.
const RESERVED_FDS: u64 = 32 + 2 * (MAX_REFUSALS as u64 + 1);
/// Connections to either port that there have to be room for.
const MIN_CONNECTIONS: u64 = 4;

/// Takes as many as the system lets us have. The soft limit of 1024 is for programs that use `select(2)`.
pub fn raise_fd_limit() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // It stays as it was then.
    let _ = setrlimit(Resource::Nofile, all);
}

/// How many connections to the public and the admin port there may be: what the settings say, as far as there are
/// descriptors. What is the admin port's cannot be taken by clients of the other.
pub fn connection_limits(limits: &Limits) -> Result<[usize; 2], StartError> {
    let Some(all) = getrlimit(Resource::Nofile).current else {
        return Ok([limits.max_connections, limits.admin_max_connections].map(to_usize));
    };
    let open = fs::read_dir("/proc/self/fd").map_or(RESERVED_FDS, |open| open.count() as u64);
    let left = all.saturating_sub(open + RESERVED_FDS);
    let (public, admin) = split_budget(
        left,
        limits.max_connections.into(),
        limits.admin_max_connections.into(),
    )
    .ok_or(StartError::FdLimitTooLow {
        all,
        needed: open + RESERVED_FDS + 3 * MIN_CONNECTIONS,
    })?;
    Ok([public, admin].map(to_usize))
}

/// One to the public port is one descriptor; one to the admin port may also hold a file of the log.
fn split_budget(left: u64, public: u64, admin: u64) -> Option<(u64, u64)> {
    if left < 3 * MIN_CONNECTIONS {
        return None;
    }
    let admin = admin.min((left / 4).max(MIN_CONNECTIONS));
    Some((public.min(left - 2 * admin), admin))
}

fn to_usize(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_budget_is_split_between_ports() {
        assert_eq!(
            split_budget(1_000_000, 10_000, 10_000),
            Some((10_000, 10_000))
        );
        assert_eq!(split_budget(4000, 10_000, 10_000), Some((2000, 1000)));
        assert_eq!(split_budget(4000, 10_000, 10), Some((3980, 10)));
        assert_eq!(split_budget(12, 10_000, 10_000), Some((4, 4)));
        assert_eq!(split_budget(11, 10_000, 10_000), None);
    }
}

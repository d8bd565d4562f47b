//! File descriptors: each client is one, and the system gives so many and no more.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::StartError;
use crate::config::Limits;
use crate::server::REFUSALS;

/// For what is opened now and then (the log when it is rotated or read, `.env`, a successor's pipes, our own probes), and for those
/// who are told that there is no room, on each of both ports.
const SPARE: u64 = 32 + 2 * (REFUSALS as u64 + 1);
/// Connections to either port that there have to be room for.
const LEAST: u64 = 4;

/// Takes as many as the system lets us have. The soft limit of 1024 is for programs that use `select(2)`.
pub fn allow_all() {
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
pub fn share_out(limits: &Limits) -> Result<[usize; 2], StartError> {
    let Some(all) = getrlimit(Resource::Nofile).current else {
        return Ok([limits.max_connections, limits.admin_max_connections].map(count));
    };
    let open = fs::read_dir("/proc/self/fd").map_or(SPARE, |open| open.count() as u64);
    let left = all.saturating_sub(open + SPARE);
    let (public, admin) = split(
        left,
        limits.max_connections.into(),
        limits.admin_max_connections.into(),
    )
    .ok_or(StartError::Descriptors {
        all,
        needed: open + SPARE + 3 * LEAST,
    })?;
    Ok([public, admin].map(count))
}

/// One to the public port is one descriptor; one to the admin port may also hold a file of the log.
fn split(left: u64, public: u64, admin: u64) -> Option<(u64, u64)> {
    if left < 3 * LEAST {
        return None;
    }
    let admin = admin.min((left / 4).max(LEAST));
    Some((public.min(left - 2 * admin), admin))
}

fn count(number: impl TryInto<usize>) -> usize {
    number.try_into().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_its_share() {
        assert_eq!(split(1_000_000, 10_000, 10_000), Some((10_000, 10_000)));
        assert_eq!(split(4000, 10_000, 10_000), Some((2000, 1000)));
        assert_eq!(split(4000, 10_000, 10), Some((3980, 10)));
        assert_eq!(split(12, 10_000, 10_000), Some((4, 4)));
        assert_eq!(split(11, 10_000, 10_000), None);
    }
}

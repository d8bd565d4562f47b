//! The budget of file descriptors: how many connections each port may have.

use std::sync::Arc;

use crate::config::Limits;
use crate::daemon::error::StartError;
use crate::server::{ConnectionPool, ConnectionPools, MAX_REFUSALS};
use crate::sys::{fd_limit, open_fd_count};

/// Descriptors for files that are opened now and then (the log when it is rotated or read, `.env`,
/// a new process's pipes, our own self-checks), and, on both ports, for clients that are refused
/// because the server is full.
const RESERVED_FDS: u64 = 32 + 2 * (MAX_REFUSALS as u64 + 1);
/// The least number of connections per port.
const MIN_CONNECTIONS: u64 = 4;

/// The connection pools of both ports. Their sizes are the limits in the settings, as far as there
/// are descriptors. Clients of the public port cannot use up those of the admin port.
/// `has_application` tells that a connection to the public port also takes one to a worker.
pub fn connection_pools(
    limits: &Limits,
    has_application: bool,
) -> Result<ConnectionPools, StartError> {
    let fds_of_public = if has_application { 2 } else { 1 };
    let limit = fd_limit().unwrap_or(u64::MAX);
    let open = open_fd_count().unwrap_or(RESERVED_FDS);
    let (public, admin) = split_budget(
        limit.saturating_sub(open + RESERVED_FDS),
        (limits.max_connections.into(), fds_of_public),
        limits.admin_max_connections.into(),
    )
    .ok_or(StartError::FdLimitTooLow {
        limit,
        needed: open + RESERVED_FDS + (2 + fds_of_public) * MIN_CONNECTIONS,
    })?;
    let pool = |max| {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Arc::new(ConnectionPool::new(limits.clone(), max))
    };
    Ok(ConnectionPools {
        public: pool(public),
        admin: pool(admin),
    })
}

/// Divides the free descriptors. `public` are the connections to the public port, and the
/// descriptors that each takes. A connection to the admin port takes up to two, because it may hold
/// a file of the log.
fn split_budget(free: u64, public: (u64, u64), admin: u64) -> Option<(u64, u64)> {
    let (public, fds_of_public) = public;
    if free < (2 + fds_of_public) * MIN_CONNECTIONS {
        return None;
    }
    let admin = admin.min((free / 4).max(MIN_CONNECTIONS));
    Some((public.min((free - 2 * admin) / fds_of_public), admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_budget_is_split_between_ports() {
        assert_eq!(
            split_budget(1_000_000, (10_000, 1), 10_000),
            Some((10_000, 10_000))
        );
        assert_eq!(split_budget(4000, (10_000, 1), 10_000), Some((2000, 1000)));
        assert_eq!(split_budget(4000, (10_000, 1), 10), Some((3980, 10)));
        assert_eq!(split_budget(12, (10_000, 1), 10_000), Some((4, 4)));
        assert_eq!(split_budget(11, (10_000, 1), 10_000), None);
        // With an application.
        assert_eq!(split_budget(4000, (10_000, 2), 10_000), Some((1000, 1000)));
        assert_eq!(split_budget(16, (10_000, 2), 10_000), Some((4, 4)));
        assert_eq!(split_budget(15, (10_000, 2), 10_000), None);
    }
}

//! Limits on time, size, connections and failed tokens. Other clients are served meanwhile.

mod connections;
mod descriptors;
mod failed_tokens;
mod log_readers;
mod requests;
mod slow_clients;

use crate::support::{Connection, Home};

fn metric(home: &Home, name: &str) -> u64 {
    let text = home.call_admin("GET", "/admin/metrics").body;
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Clients that follow the log.
fn start_followers(home: &Home, bearer: &str, count: usize) -> Vec<Connection> {
    let headers = [("Authorization", bearer)];
    let begin = |_| {
        let mut connection = Connection::open(&home.admin_address());
        connection.send("GET", "/admin/logs/stream?lines=0", &headers, "");
        assert_eq!(connection.read_head().status, 200);
        connection
    };
    (0..count).map(begin).collect()
}

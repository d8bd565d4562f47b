//! Health across restarts of the daemon.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{
    check, count_events, count_probes, home_with_short_intervals, servers_available, start_up,
    state, wait_for_state,
};
use crate::support::{
    Connection, Dependency as _, Load, LoadProfile, Postgres, Redis, SetOnDrop, eventually, request,
};

/// Passes each connection to the function, in a thread. Returns the port.
fn start_proxy(forward: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(forward));
    port
}

/// Forwards each piece after a delay.
fn delaying_proxy(port: u16, delay: Duration) -> u16 {
    start_proxy(move |client| forward_both_ways(client, port, delay))
}

fn forward_both_ways(client: TcpStream, port: u16, delay: Duration) {
    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let pass = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                thread::sleep(delay);
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
    };
    pass(client.try_clone().unwrap(), server.try_clone().unwrap());
    pass(server, client);
}

#[test]
fn health_stays_up_across_restarts() {
    if !servers_available() {
        return;
    }
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let mut home = home_with_short_intervals();
    home.depends_on(&redis);
    home.depends_on(&postgres);
    let slow = delaying_proxy(redis.port(), Duration::from_millis(200));
    home.set("REDIS_PORT", &slow.to_string());
    home.run(["start"]).succeeds();
    let host = home.public_address();
    // A new daemon does not know the state yet.
    assert_eq!(state(&home, "redis"), "unknown");
    assert_eq!(request(&host, "GET", "/health", &[], "").status, 503);
    wait_for_state(&home, "redis", "up");
    eventually("both are up", || state(&home, "postgresql") == "up");
    let load = Load::start(&host, &LoadProfile::default());
    load.wait_for_more(100);
    for _ in 0..3 {
        home.restart();
        load.wait_for_more(100);
        wait_for_state(&home, "redis", "up");
    }
    load.finish().assert_flawless();
}

/// Statuses of `/health`, from fresh and from kept connections.
#[derive(Default)]
struct HealthStatuses(Mutex<Vec<u16>>);

impl HealthStatuses {
    fn poll(&self, host: &str, is_kept: bool, is_over: &AtomicBool) {
        let mut kept = None;
        while !is_over.load(Ordering::Relaxed) {
            let mut connection = kept.take().unwrap_or_else(|| Connection::open(host));
            connection.send("GET", "/health", &[], "");
            let answer = connection.read_response("GET");
            self.0.lock().unwrap().push(answer.status);
            let is_last = answer.header("connection") == Some("close");
            kept = (is_kept && !is_last).then_some(connection);
        }
    }

    fn wait_for_more(&self) {
        let enough = self.0.lock().unwrap().len() + 100;
        eventually("health responds", || self.0.lock().unwrap().len() >= enough);
    }
}

#[test]
fn health_stays_down_across_restarts() {
    if !servers_available() {
        return;
    }
    let mut redis = Redis::start();
    let home = start_up(&redis);
    redis.stop();
    wait_for_state(&home, "redis", "down");
    let before = check(&home, "redis").unwrap();
    let host = home.public_address();
    let (answers, over) = (HealthStatuses::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let end = SetOnDrop(&over);
        for is_kept in [false, true] {
            let (answers, over, host) = (&answers, &over, &host);
            scope.spawn(move || answers.poll(host, is_kept, over));
        }
        answers.wait_for_more();
        for _ in 0..3 {
            home.restart();
            answers.wait_for_more();
            eventually("the new process probes by itself", || {
                count_probes(&home, "redis", "error") > 1.0
            });
            assert_eq!(check(&home, "redis").unwrap(), before);
        }
        drop(end);
    });
    let statuses = answers.0.lock().unwrap();
    let unexpected: Vec<_> = statuses.iter().filter(|status| **status != 503).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert_eq!(count_events(&home, "redis", "down"), 1);
    redis.start();
    wait_for_state(&home, "redis", "up");
}

/// A proxy that drops one connection when the flag is set, and then clears the flag.
fn dropping_proxy(port: u16) -> (u16, Arc<AtomicBool>) {
    let drop_next = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&drop_next);
    let own_port = start_proxy(move |client| {
        if !flag.swap(false, Ordering::Relaxed) {
            forward_both_ways(client, port, Duration::ZERO);
        }
    });
    (own_port, drop_next)
}

#[test]
fn first_lost_probe_of_new_process_is_no_outage() {
    if !servers_available() {
        return;
    }
    let redis = Redis::start();
    let mut home = home_with_short_intervals();
    home.depends_on(&redis);
    let (port, drop_next) = dropping_proxy(redis.port());
    home.set("REDIS_PORT", &port.to_string());
    home.run(["start"]).succeeds();
    wait_for_state(&home, "redis", "up");
    let load = Load::start(&home.public_address(), &LoadProfile::default());
    load.wait_for_more(100);
    drop_next.store(true, Ordering::Relaxed);
    home.restart();
    eventually("the connection of the new process is lost", || {
        !drop_next.load(Ordering::Relaxed)
    });
    eventually("the failed probe is counted", || {
        count_probes(&home, "redis", "error") >= 1.0
    });
    load.wait_for_more(100);
    load.finish().assert_flawless();
    assert_eq!(count_events(&home, "redis", "down"), 0);
}

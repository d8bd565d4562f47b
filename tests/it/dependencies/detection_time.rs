//! How soon each change of a dependency is noticed, and how `/health` responds meanwhile.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{PREREQUISITES, home_with_short_intervals, wait_for_state};
use crate::support::{
    Connection, PASSWORD, SetOnDrop, dependencies_available, eventually, prerequisite_available,
    start_dependencies,
};

/// A server that only responds. It shows how fast any server on this machine can be.
fn bare_server() -> String {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"status\":\"healthy\"}";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        // The client sends each request in one piece and waits for its response.
        while let Ok(1..) = client.read(&mut buffer) {
            if client.write_all(ANSWER).is_err() {
                break;
            }
        }
    });
    host
}

/// A response to a client that polls `/health`.
struct Sample {
    at: Instant,
    duration: Duration,
    status: u16,
}

/// Polls `/health` and the bare server in turn until it is over. A pause before each request makes
/// both threads sleep.
fn poll(
    health: &str,
    bare_server_address: &str,
    samples: &Mutex<[Vec<Sample>; 2]>,
    is_over: &AtomicBool,
) {
    let mut connections = [health, bare_server_address].map(Connection::open);
    while !is_over.load(Ordering::Relaxed) {
        for (which, connection) in connections.iter_mut().enumerate() {
            thread::sleep(Duration::from_micros(250));
            let at = Instant::now();
            connection.send("GET", "/health", &[], "");
            let status = connection.read_response("GET").status;
            let took = at.elapsed();
            samples.lock().unwrap()[which].push(Sample {
                at,
                duration: took,
                status,
            });
        }
    }
}

/// Stolen time and total time of all processors, in ticks (`proc_stat(5)`).
fn stolen_and_total_ticks() -> [f64; 2] {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let line = text.lines().next().unwrap();
    let columns = line.split_whitespace().skip(1).take(8);
    let columns: Vec<f64> = columns.map(|column| column.parse().unwrap()).collect();
    [columns[7], columns.iter().sum()]
}

/// Time from the change to the changed response, and the median and 99th percentile of response
/// times until two intervals later.
struct Measurement {
    detection_time: Duration,
    health: [Duration; 2],
    bare: [Duration; 2],
    /// Share of processor time that the host took, in percent.
    stolen_percent: f64,
    /// Share of time spent in slow responses, of `/health` and of the bare server.
    slow_share: [f64; 2],
}

impl Measurement {
    fn measure(samples: &Mutex<[Vec<Sample>; 2]>, wanted: u16, change: impl FnOnce()) -> Self {
        let before = stolen_and_total_ticks();
        *samples.lock().unwrap() = Default::default();
        let change_start = Instant::now();
        change();
        let mut noticed = None;
        eventually("the response changes", || {
            let samples = samples.lock().unwrap();
            let first = samples[0]
                .iter()
                .find(|asked| asked.at > change_start && asked.status == wanted);
            noticed = first.map(|asked| asked.at - change_start);
            noticed.is_some()
        });
        let until = Instant::now() + 2 * INTERVAL;
        eventually("two intervals have passed", || Instant::now() > until);
        let elapsed = change_start.elapsed();
        let after = stolen_and_total_ticks();
        let [stolen, all] = [0, 1].map(|which| after[which] - before[which]);
        let samples = samples.lock().unwrap();
        let slow_share = samples.each_ref().map(|asked| {
            let took = asked.iter().map(|asked| asked.duration);
            let long = took.filter(|took| *took > SLOW_RESPONSE);
            long.sum::<Duration>().div_duration_f64(elapsed)
        });
        let [health, bare] = samples.each_ref().map(|asked| {
            let mut took: Vec<_> = asked.iter().map(|asked| asked.duration).collect();
            took.sort_unstable();
            [50, 99].map(|percent| took[took.len() * percent / 100])
        });
        Self {
            detection_time: noticed.unwrap(),
            health,
            bare,
            stolen_percent: stolen * 100.0 / all,
            slow_share,
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(1);
/// A response this slow has waited for something, though on a busy machine that may be a processor.
const SLOW_RESPONSE: Duration = Duration::from_millis(100);
/// How much larger the share of slow responses may be than that of the bare server. A client that
/// waited for each probe would spend a third of its time while a database hangs. Run alone in a
/// release build, 99 % take less than 1 ms if those of the bare server do.
const MAX_SLOW_SHARE: f64 = 0.2;

#[test]
fn changes_are_noticed_in_two_intervals_without_delays() {
    if !prerequisite_available("dependencies", PREREQUISITES, dependencies_available()) {
        return;
    }
    for mut dependency in start_dependencies() {
        let name = dependency.name();
        let mut home = home_with_short_intervals();
        home.depends_on(&*dependency);
        home.run(["start"]).succeeds();
        wait_for_state(&home, name, "up");
        let host = home.public_address();
        let bare_server_address = bare_server();
        let (samples, over) = (Mutex::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let _end = SetOnDrop(&over);
            scope.spawn(|| poll(&host, &bare_server_address, &samples, &over));
            let mut changes = vec![("up", Measurement::measure(&samples, 200, || {}))];
            let mut change = |what, wanted, change: &mut dyn FnMut()| {
                changes.push((what, Measurement::measure(&samples, wanted, change)));
            };
            change("paused", 503, &mut || dependency.pause());
            change("resumed", 200, &mut || dependency.resume());
            change("another password", 503, &mut || {
                dependency.set_password("another");
                dependency.disconnect_clients();
            });
            change("its password again", 200, &mut || {
                dependency.set_password(PASSWORD);
            });
            change("stopped", 503, &mut || dependency.stop());
            change("started", 200, &mut || dependency.start());
            for (what, change) in &changes {
                let [median, slow] = change.health;
                let [bare_median, bare_slow] = change.bare;
                println!(
                    "{name} {what}: noticed after {:.2?}; /health p50 {median:.2?}, p99 {slow:.2?}; bare server p50 {bare_median:.2?}, p99 {bare_slow:.2?}; {:.1} % of processor time stolen",
                    change.detection_time, change.stolen_percent
                );
            }
            for (what, change) in &changes {
                let noticed = change.detection_time;
                assert!(noticed < 2 * INTERVAL, "{name} {what}: {noticed:?}");
                let [share, bare_share] = change.slow_share;
                assert!(
                    share < bare_share + MAX_SLOW_SHARE,
                    "{name} {what}: slow for {share:.2} of the time, bare server {bare_share:.2}"
                );
            }
        });
    }
}

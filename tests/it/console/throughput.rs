//! The console while the log is busy. `make soak` prints what it costs the browser, by the browser's
//! own figures.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Console;
use crate::support::{Connection, browser_available, scale};

const EVENTS_PER_SECOND: u32 = 1000;
/// `MAX_LINES` of `src/console/log.js`.
const MAX_LINES: u64 = 20_000;
/// Memory of the browser for a line that the page keeps, at most.
const BYTES_PER_LINE: u32 = 3_000;

struct Figures {
    /// Busy time of the main thread, in seconds.
    busy_seconds: f64,
    /// Live objects, in bytes.
    heap_bytes: f64,
    elements: f64,
}

fn figures(console: &Console) -> Figures {
    console
        .browser
        .command("HeapProfiler.collectGarbage", json!({}));
    let metrics = console.browser.command("Performance.getMetrics", json!({}));
    let figure = |name: &str| {
        let all = metrics["metrics"].as_array().unwrap();
        let found = all.iter().find(|metric| metric["name"] == name);
        found.unwrap()["value"].as_f64().unwrap()
    };
    Figures {
        busy_seconds: figure("TaskDuration"),
        heap_bytes: figure("JSHeapUsedSize"),
        elements: figure("Nodes"),
    }
}

#[test]
fn open_page_loads_little() {
    if !browser_available("what the console loads") {
        return;
    }
    let console = Console::signed_in();
    console.run("performance.clearResourceTimings(); return 0");
    let loaded = "performance.getEntriesByType('resource').filter(({ initiatorType }) => initiatorType === 'fetch')";
    let polls = format!(
        "return {loaded}.filter(({{ name }}) => name.endsWith('/admin/status')).length > 3"
    );
    console.wait_until("the status was loaded again and again", &polls);
    let sizes = console.run(&format!(
        "return {loaded}.map(each => [each.name, each.transferSize, each.decodedBodySize])"
    ));
    for each in sizes.as_array().unwrap() {
        let name = each[0].as_str().unwrap();
        let [transferred, content] = [&each[1], &each[2]].map(|size| size.as_u64().unwrap());
        println!("{name}: {transferred} bytes for {content}");
        assert!(!name.ends_with("/admin/metrics"), "{sizes}");
        assert!(
            !name.ends_with("/admin/status") || transferred < 2048,
            "{sizes}"
        );
    }
    console.assert_no_errors();
}

#[test]
fn page_keeps_up_with_thousand_events_per_second() {
    if !browser_available("the console's throughput") {
        return;
    }
    let seconds = scale::console_seconds();
    let console = Console::signed_in();
    console.home.extend_time_limit(Duration::from_secs(seconds));
    let first_paint =
        console.run("return performance.getEntriesByName('first-contentful-paint')[0].startTime");
    console.browser.command("Performance.enable", json!({}));
    let public = console.home.public_address();

    let before = figures(&console);
    let start = Instant::now();
    let mut client = Connection::open(&public);
    let mut heaps = Vec::new();
    let mut half_heap = before.heap_bytes;
    for second in 0..seconds {
        for number in 0..EVENTS_PER_SECOND {
            let name = format!("event-{second}-{number}");
            client.send("GET", "/", &[("X-Request-Id", &name)], "");
            assert_eq!(client.read_response("GET").status, 200);
            let due = start
                + Duration::from_secs(second)
                + Duration::from_secs(1) * (number + 1) / EVENTS_PER_SECOND;
            // The rate is what is tried.
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if second + 1 == seconds.div_ceil(2) {
            half_heap = figures(&console).heap_bytes;
        }
        if second % 10 == 9 {
            heaps.push(figures(&console).heap_bytes / 1e6);
        }
    }
    let elapsed = start.elapsed().as_secs_f64();
    console.wait_for_line(&format!("event-{}-{}", seconds - 1, EVENTS_PER_SECOND - 1));
    let after = figures(&console);
    let busy = (after.busy_seconds - before.busy_seconds) / elapsed;
    println!(
        "first contentful paint {first_paint} ms; {:.0} events/s for {elapsed:.0} s: main thread {:.1} % busy, heap {:.1} to {:.1} MB (each 10 s: {heaps:.1?}), {} nodes",
        f64::from(EVENTS_PER_SECOND) * f64::from(u32::try_from(seconds).unwrap()) / elapsed,
        busy * 100.0,
        before.heap_bytes / 1e6,
        after.heap_bytes / 1e6,
        after.elements
    );
    // The page may grow until it is full.
    let lines = |seconds: u64| (seconds * u64::from(EVENTS_PER_SECOND)).min(MAX_LINES);
    let new_lines = u32::try_from(lines(seconds) - lines(seconds.div_ceil(2))).unwrap();
    let growth = f64::from(new_lines) * f64::from(BYTES_PER_LINE);
    assert!(
        after.heap_bytes < half_heap * 1.2 + 2e6 + growth,
        "{half_heap} to {} bytes (each 10 s: {heaps:.1?} MB)",
        after.heap_bytes
    );
    assert!(after.elements < 20_000.0);
    let line_count = console.run("return $('log-count').textContent");
    let Value::String(line_count) = line_count else {
        panic!()
    };
    assert!(line_count.contains("lines"), "{line_count}");
    console.assert_no_errors();
}

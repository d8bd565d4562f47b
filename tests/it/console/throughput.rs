//! The console while the log is busy. `make soak` prints what it costs the browser, by the browser's
//! own figures.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Console;
use crate::support::{Connection, browser_available, scale};

const EVENTS_PER_SECOND: u32 = 1000;
/// The shortest run, in seconds, whose figures are conclusive.
const MIN_SECONDS: u64 = 30;

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
    if seconds >= MIN_SECONDS {
        let [half, end] = [heaps[heaps.len() / 2], *heaps.last().unwrap()];
        assert!(end < half * 1.2 + 2.0, "{heaps:?}");
    }
    assert!(after.elements < 20_000.0);
    let line_count = console.run("return $('log-count').textContent");
    let Value::String(line_count) = line_count else {
        panic!()
    };
    assert!(line_count.contains("lines"), "{line_count}");
    console.assert_no_errors();
}

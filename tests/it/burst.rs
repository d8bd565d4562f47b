//! More events at once than anything can write.

use std::time::Duration;

use bytesize::ByteSize;
use fullon_master_api::config::{LogFormat, LogSettings, LogTarget};
use fullon_master_api::logs::{LogFile, install};

const THREADS: usize = 8;
const EVENTS: usize = 100_000 / THREADS;

/// The one test that logs in this process.
#[test]
fn a_hundred_thousand_events_of_many_threads_are_all_there_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let settings = LogSettings {
        filter: "off,burst=info".into(),
        format: LogFormat::Text,
        target: LogTarget::File(path.clone()),
        max_size: ByteSize::kib(256),
        keep: 1_000,
    };
    let log = install(
        &settings,
        Some(LogFile::open(&path, &settings).unwrap()),
        None,
    )
    .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for event in 0..EVENTS {
                    tracing::info!(target: "burst", thread, event);
                }
            });
        }
    });
    log.settle(Duration::from_secs(30));
    assert_eq!(log.health().unwrap().failure(), None);

    let files = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(files > 20, "{files}");
    let mut next = [0; THREADS];
    for number in (0..files).rev() {
        let name = match number {
            0 => path.clone(),
            number => directory.path().join(format!("log.{number}")),
        };
        for line in std::fs::read_to_string(name).unwrap().lines() {
            let (_, fields) = line.split_once(" burst: thread=").unwrap();
            let (thread, event) = fields.split_once(" event=").unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(event.parse::<usize>().unwrap(), *next, "{line}");
            *next += 1;
        }
    }
    assert_eq!(next, [EVENTS; THREADS]);
}

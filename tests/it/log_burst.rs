//! More events at once than can be written.

use std::time::Duration;

use bytesize::ByteSize;
use fullon_master_api::config::{LogFormat, LogSettings, LogTarget};
use fullon_master_api::logs::{LogFile, install};

const THREADS: usize = 8;
const PANIC: &str = "as the burst test wants it";
const EVENTS: usize = 100_000 / THREADS;

/// The only test that logs in this process.
#[test]
fn burst_is_logged_completely_and_panic_is_written_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let settings = LogSettings {
        filter: "off,burst=info,panic=error".into(),
        format: LogFormat::Text,
        target: LogTarget::File(path.clone()),
        max_size: ByteSize::kib(256),
        keep: 1_000,
        mode: None,
    };
    // The panic hook finds the panic in the file already.
    let (report, reported) = std::sync::mpsc::channel();
    let (standard, file) = (std::panic::take_hook(), path.clone());
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() == Some(PANIC) {
            let _ = report.send(std::fs::read_to_string(&file).unwrap_or_default());
        }
        standard(panic);
    }));
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
    log.flush(Duration::from_secs(30));
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
            // Other tests of this process may panic meanwhile.
            let Some((_, fields)) = line.split_once(" burst: thread=") else {
                continue;
            };
            let (thread, event) = fields.split_once(" event=").unwrap();
            let next = &mut next[thread.parse::<usize>().unwrap()];
            assert_eq!(event.parse::<usize>().unwrap(), *next, "{line}");
            *next += 1;
        }
    }
    assert_eq!(next, [EVENTS; THREADS]);

    std::thread::spawn(|| std::panic::panic_any(PANIC))
        .join()
        .unwrap_err();
    let found = reported.recv().unwrap();
    assert!(found.contains(&format!("ERROR panic: {PANIC}")), "{found}");
}

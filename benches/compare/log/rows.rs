//! The rows and columns of the log table.

use crate::baseline::{Better, Measured};
use crate::figures::Figures;
use crate::rivals::FULLON;
use crate::table::Target;

/// GNU tail: the baseline for reading a file.
pub const TAIL: &str = "tail";
pub const SUPERVISORD: &str = "supervisord";
pub const PM2: &str = "pm2";
/// `tracing_subscriber::fmt` with a file in a mutex.
pub const PLAIN_FILE: &str = "plain file";
/// `tracing_appender::non_blocking` with its defaults and a file.
pub const NON_BLOCKING: &str = "non_blocking";

/// The columns.
pub const CONTENDERS: [&str; 6] = [FULLON, TAIL, SUPERVISORD, PM2, PLAIN_FILE, NON_BLOCKING];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogRow {
    /// A request to `/health`: the least that a request can take.
    RoundTrip,
    /// The last 50 lines of a file of 1 GiB, without the round trip or the program start.
    Last50,
    /// The same with the round trip or the program start.
    Total50,
    /// The same for a file of 10 GiB.
    Last50Of10Gib,
    Total50Of10Gib,
    /// The same as JSON, for which each line is parsed.
    Json50,
    PageMemory,
    LongPage,
    Million,
    MillionRate,
    MillionMemory,
    OneP50,
    OneP99,
    Last1000P50,
    Last1000P99,
    Memory1000,
    Last2000P50,
    Last2000P99,
    Memory2000,
    Last5000P50,
    Last5000P99,
    Memory5000,
    StalledMemory,
    /// Latency at a follower that reads, beside the stalled ones.
    StalledP50,
    StalledP99,
    EventCost,
    EventRate,
    /// Number of files: the log and its rotated files.
    EventFiles,
}

impl LogRow {
    pub const ALL: [Self; 28] = [
        Self::RoundTrip,
        Self::Last50,
        Self::Total50,
        Self::Last50Of10Gib,
        Self::Total50Of10Gib,
        Self::Json50,
        Self::PageMemory,
        Self::LongPage,
        Self::Million,
        Self::MillionRate,
        Self::MillionMemory,
        Self::OneP50,
        Self::OneP99,
        Self::Last1000P50,
        Self::Last1000P99,
        Self::Memory1000,
        Self::Last2000P50,
        Self::Last2000P99,
        Self::Memory2000,
        Self::Last5000P50,
        Self::Last5000P99,
        Self::Memory5000,
        Self::StalledMemory,
        Self::StalledP50,
        Self::StalledP99,
        Self::EventCost,
        Self::EventRate,
        Self::EventFiles,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::RoundTrip => "an answer to /health, ms",
            Self::Last50 => "last 50 lines of 1 GiB, net, ms",
            Self::Total50 | Self::Total50Of10Gib => "the same with request or program start, ms",
            Self::Last50Of10Gib => "last 50 lines of 10 GiB, net, ms",
            Self::Json50 => "the same as JSON, ms",
            Self::PageMemory => "memory grown by 200 such requests, MiB",
            Self::LongPage => "last 10,000 lines as JSON, ms",
            Self::Million => "last 1,000,000 lines as text, ms",
            Self::MillionRate => "the same, MB/s",
            Self::MillionMemory => "peak of memory meanwhile, MiB",
            Self::OneP50 => "event to one follower, p50 ms",
            Self::OneP99 => "event to one follower, p99 ms",
            Self::Last1000P50 => "event to the last of 1000, p50 ms",
            Self::Last1000P99 => "event to the last of 1000, p99 ms",
            Self::Memory1000 => "memory a follower of 1000, KiB",
            Self::Last2000P50 => "event to the last of 2000, p50 ms",
            Self::Last2000P99 => "event to the last of 2000, p99 ms",
            Self::Memory2000 => "memory a follower of 2000, KiB",
            Self::Last5000P50 => "event to the last of 5000, p50 ms",
            Self::Last5000P99 => "event to the last of 5000, p99 ms",
            Self::Memory5000 => "memory a follower of 5000, KiB",
            Self::StalledMemory => "memory for 20 that never read 300 MB, MiB",
            Self::StalledP50 => "event to one that reads meanwhile, p50 ms",
            Self::StalledP99 => "event to one that reads meanwhile, p99 ms",
            Self::EventCost => "an event where it is logged, ns",
            Self::EventRate => "events a second of 4 threads, rotated",
            Self::EventFiles => "files they are in",
        }
    }

    pub fn target(self) -> Option<Target> {
        match self {
            Self::Last50 | Self::Last50Of10Gib => Some(Target::RatioAtMost(1.5)),
            Self::PageMemory => Some(Target::AtMost(4.0)),
            Self::OneP50 => Some(Target::AtMost(1.0)),
            Self::OneP99 => Some(Target::AtMost(5.0)),
            Self::Last1000P99 => Some(Target::AtMost(100.0)),
            Self::Memory1000 | Self::StalledMemory => Some(Target::AtMost(16.0)),
            _ => None,
        }
    }

    /// Digits after the decimal point.
    pub fn decimals(self) -> usize {
        match self {
            Self::EventCost | Self::EventRate | Self::EventFiles | Self::MillionRate => 0,
            Self::RoundTrip
            | Self::Last50
            | Self::Total50
            | Self::Last50Of10Gib
            | Self::Total50Of10Gib
            | Self::Json50
            | Self::LongPage
            | Self::OneP50
            | Self::OneP99 => 3,
            _ => 1,
        }
    }

    /// The contender that fullon is compared with: the first column that was measured.
    pub fn baseline(self, figures: &Figures<Self>) -> Option<(&'static str, f64)> {
        if self == Self::EventFiles {
            return None;
        }
        CONTENDERS
            .into_iter()
            .filter(|name| *name != FULLON)
            .find_map(|name| Some((name, figures.median(self, name)?)))
    }
}

/// Fullon's figures, for a comparison with another version.
pub fn measured(figures: &Figures<LogRow>) -> Vec<Measured> {
    let rows = LogRow::ALL.into_iter();
    let measured = |row: LogRow| {
        let better = match row {
            LogRow::MillionRate | LogRow::EventRate => Better::Higher,
            _ => Better::Lower,
        };
        Some(Measured {
            row: format!("{row:?}"),
            label: row.label(),
            figure: figures.median(row, FULLON)?,
            better,
        })
    };
    rows.filter_map(measured).collect()
}

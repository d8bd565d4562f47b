//! What the rows of the table about the log mean.

use crate::figures::Figures;
use crate::rivals::FULLON;

/// GNU tail: the bound for whoever reads a file.
pub const TAIL: &str = "tail";
pub const SUPERVISORD: &str = "supervisord";
pub const PM2: &str = "pm2";
/// `tracing_subscriber::fmt` with a file behind a mutex.
pub const PLAIN_FILE: &str = "plain file";
/// `tracing_appender::non_blocking`, as it comes, with a file behind it.
pub const NON_BLOCKING: &str = "non_blocking";

/// The columns.
pub const CONTENDERS: [&str; 6] = [FULLON, TAIL, SUPERVISORD, PM2, PLAIN_FILE, NON_BLOCKING];

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// The way there and back: the least that a request can take.
    Floor,
    /// The last 50 lines of a file of 1 GiB, without a program's start or a request's way.
    Last50,
    /// With it.
    Whole50,
    /// The same of 10 GiB.
    Last50OfMore,
    Whole50OfMore,
    /// As JSON, which takes every line apart.
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
    NeverReadMemory,
    /// A follower that reads, beside those that do not.
    NeverReadP50,
    NeverReadP99,
    EventCost,
    EventRate,
    /// The log and its rotated files.
    EventFiles,
}

/// What fullon should reach.
pub enum Target {
    AtMost(f64),
    /// Of the bound's figure.
    Times(f64),
}

impl Row {
    pub const ALL: [Self; 28] = [
        Self::Floor,
        Self::Last50,
        Self::Whole50,
        Self::Last50OfMore,
        Self::Whole50OfMore,
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
        Self::NeverReadMemory,
        Self::NeverReadP50,
        Self::NeverReadP99,
        Self::EventCost,
        Self::EventRate,
        Self::EventFiles,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Self::Floor => "an answer to /health, ms",
            Self::Last50 => "last 50 lines of 1 GiB, net, ms",
            Self::Whole50 | Self::Whole50OfMore => "the same with request or program start, ms",
            Self::Last50OfMore => "last 50 lines of 10 GiB, net, ms",
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
            Self::NeverReadMemory => "memory for 20 that never read 300 MB, MiB",
            Self::NeverReadP50 => "event to one that reads meanwhile, p50 ms",
            Self::NeverReadP99 => "event to one that reads meanwhile, p99 ms",
            Self::EventCost => "an event where it is logged, ns",
            Self::EventRate => "events a second of 4 threads, rotated",
            Self::EventFiles => "files they are in",
        }
    }

    pub fn target(self) -> Option<Target> {
        match self {
            Self::Last50 | Self::Last50OfMore => Some(Target::Times(1.5)),
            Self::PageMemory => Some(Target::AtMost(4.0)),
            Self::OneP50 => Some(Target::AtMost(1.0)),
            Self::OneP99 => Some(Target::AtMost(5.0)),
            Self::Last1000P99 => Some(Target::AtMost(100.0)),
            Self::Memory1000 | Self::NeverReadMemory => Some(Target::AtMost(16.0)),
            _ => None,
        }
    }

    /// Digits behind the point.
    pub fn decimals(self) -> usize {
        match self {
            Self::EventCost | Self::EventRate | Self::EventFiles | Self::MillionRate => 0,
            Self::Floor
            | Self::Last50
            | Self::Whole50
            | Self::Last50OfMore
            | Self::Whole50OfMore
            | Self::Json50
            | Self::LongPage
            | Self::OneP50
            | Self::OneP99 => 3,
            _ => 1,
        }
    }

    /// Whom fullon is compared with: the first of those that were measured.
    pub fn bound(self, figures: &Figures<Self>) -> Option<(&'static str, f64)> {
        if self == Self::EventFiles {
            return None;
        }
        CONTENDERS
            .into_iter()
            .filter(|name| *name != FULLON)
            .find_map(|name| Some((name, figures.median(self, name)?)))
    }
}

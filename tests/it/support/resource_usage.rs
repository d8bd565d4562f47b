//! Memory, descriptors and threads of a process, from procfs.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fmt, fs};

use super::Home;

/// A shorter run has few samples, and the daemon still grows to its size.
const LONG: Duration = Duration::from_mins(2);
/// Growth of memory in a short run that is no leak yet, in KiB.
const STARTUP_GROWTH: u64 = 16 * 1024;
/// Growth of another figure in a short run that is no leak yet. A leak for each request or session
/// would be larger.
const FEW: u64 = 16;

#[derive(Debug, Clone, Copy)]
pub struct ResourceUsage {
    /// Resident memory in KiB. The proportional share would depend on other processes of the same
    /// program.
    pub memory: u64,
    /// Socket descriptors.
    pub sockets: u64,
    /// File descriptors of the log, including current readers.
    pub files: u64,
    /// All other descriptors.
    pub others: u64,
    pub threads: u64,
}

impl ResourceUsage {
    /// `None` if the process has exited.
    pub fn read(pid: u32) -> Option<Self> {
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
        let number = |text: String, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let opened: Vec<_> = descriptors
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        let count = |prefix: &str| {
            let is_one =
                |path: &&PathBuf| path.as_os_str().as_bytes().starts_with(prefix.as_bytes());
            opened.iter().filter(is_one).count() as u64
        };
        let (sockets, files) = (count("socket:"), count("/") - count("/dev/"));
        Some(Self {
            memory: number(file("smaps_rollup")?, "Rss:")?,
            sockets,
            files,
            others: opened.len() as u64 - sockets - files,
            threads: number(file("status")?, "Threads:")?,
        })
    }
}

/// Samples of the resource usage over time.
pub struct ResourceSamples {
    what: &'static str,
    started_at: Instant,
    length: Duration,
    /// Samples with the time since the start.
    all: Vec<(Duration, ResourceUsage)>,
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

impl ResourceSamples {
    /// Starts sampling for this time.
    pub fn start(what: &'static str, length: Duration) -> Self {
        Self {
            what,
            started_at: Instant::now(),
            length,
            all: Vec::new(),
        }
    }

    pub fn is_complete(&self) -> bool {
        self.started_at.elapsed() >= self.length
    }

    pub fn sample(&mut self, home: &Home) {
        let usage = ResourceUsage::read(home.daemon().unwrap().pid()).unwrap();
        self.all.push((self.started_at.elapsed(), usage));
    }

    fn between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &ResourceUsage> {
        let is_between = move |at: &Duration| (from..to).contains(at);
        let all = self.all.iter();
        all.filter(move |(at, _)| is_between(at))
            .map(|(_, usage)| usage)
    }

    /// The median of a figure between two times.
    fn median_between(
        &self,
        from: Duration,
        to: Duration,
        figure: fn(&ResourceUsage) -> u64,
    ) -> Option<u64> {
        let figures: Vec<_> = self.between(from, to).map(figure).collect();
        (!figures.is_empty()).then(|| median(figures))
    }

    /// Asserts that the last twelfth of the samples has no more than the second fifth.
    pub fn assert_no_growth(&self) {
        let count = self.all.len();
        let figures = |from: usize, figure: fn(&ResourceUsage) -> u64, to: usize| {
            let samples = self.all.iter().take(to.max(from + 1)).skip(from);
            let figures: Vec<_> = samples.map(|(_, usage)| figure(usage)).collect();
            figures
        };
        let beginning = |figure| figures(count / 5, figure, count * 2 / 5);
        let end = |figure| figures(count - count.div_ceil(12), figure, count);
        let both = |figure| (median(beginning(figure)), median(end(figure)));
        let what = self.what;
        let is_short = self.length < LONG;
        let allowed = if is_short { STARTUP_GROWTH } else { 0 };
        let (none, two) = if is_short { (FEW, FEW) } else { (0, 2) };
        let (before, after) = both(|usage| usage.memory);
        assert!(
            after * 10 <= before * 11 + allowed * 10,
            "{what}: memory {before} to {after} KiB"
        );
        let (before, after) = both(|usage| usage.threads);
        assert!(after <= before + two, "{what}: threads {before} to {after}");
        let (before, after) = both(|usage| usage.others);
        assert!(
            after <= before + none,
            "{what}: other descriptors {before} to {after}"
        );
        // The minimum, because current requests add sockets, and slow followers add rotated files.
        let least = |figure: fn(&ResourceUsage) -> u64| {
            let least = |figures: Vec<u64>| figures.into_iter().min().unwrap();
            (least(beginning(figure)), least(end(figure)))
        };
        let (before, after) = least(|usage| usage.sockets);
        assert!(after <= before + two, "{what}: sockets {before} to {after}");
        let (before, after) = least(|usage| usage.files);
        assert!(after <= before + two, "{what}: files {before} to {after}");
    }
}

/// Formats a table with a row for each twelfth of the time.
impl fmt::Display for ResourceSamples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(
            f,
            "{:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8}",
            "from s", "samples", "RSS KiB", "sockets", "files", "others", "threads"
        )?;
        let step = self.length / 12;
        for number in 0..12 {
            let (from, to) = (step * number, step * (number + 1));
            let count = self.between(from, to).count();
            let middle = |figure: fn(&ResourceUsage) -> u64| {
                let figure = self.median_between(from, to, figure);
                figure.map_or("-".to_owned(), |figure| figure.to_string())
            };
            writeln!(
                f,
                "{:>8} {count:>8} {:>10} {:>8} {:>8} {:>8} {:>8}",
                from.as_secs(),
                middle(|usage| usage.memory),
                middle(|usage| usage.sockets),
                middle(|usage| usage.files),
                middle(|usage| usage.others),
                middle(|usage| usage.threads),
            )?;
        }
        Ok(())
    }
}

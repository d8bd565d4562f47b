//! Log files that are too large to be read from the beginning.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use crate::interrupt;

pub const GIB: u64 = 1 << 30;
/// Disk space that is always left free.
const RESERVE: u64 = 4 * GIB;
/// On a disk, because `/tmp` may be in memory.
const PARENT_DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");
const LINES_PER_SECOND: u32 = 8192;
const MICROS_BETWEEN: u32 = 1_000_000 / LINES_PER_SECOND;
/// Length of `2026-11-23T09:54:24` at the start of a line.
const TIMESTAMP_LENGTH: usize = 19;

/// A directory for large files. It is removed on drop.
pub struct LargeLogs(TempDir);

impl LargeLogs {
    pub fn new() -> Result<Self> {
        let place = Path::new(PARENT_DIRECTORY);
        std::fs::create_dir_all(place)?;
        Ok(Self(TempDir::with_prefix_in("bench-log-", place)?))
    }

    /// Creates a directory in it for a log of at most `needed` bytes.
    pub fn create_directory(&self, needed: u64) -> Result<TempDir> {
        self.ensure_free(needed)?;
        Ok(TempDir::new_in(self.0.path())?)
    }

    /// Writes a log of at least `size` bytes, and waits until it is on the disk.
    pub fn write_log(&self, name: &str, size: u64) -> Result<PathBuf> {
        self.ensure_free(size)?;
        let path = self.0.path().join(name);
        let mut file = File::create(&path)?;
        let mut block = lines_of_one_second();
        let length = block.len() as u64;
        let blocks = size.div_ceil(length);
        let now = Timestamp::now();
        for number in 0..blocks {
            interrupt::check()?;
            let age = SignedDuration::from_secs(i64::try_from(blocks - number)?);
            let second = (now - age).to_string();
            let second = second
                .as_bytes()
                .get(..TIMESTAMP_LENGTH)
                .context("a short time")?;
            let line = block.len() / LINES_PER_SECOND as usize;
            for line in block.chunks_exact_mut(line) {
                line[..TIMESTAMP_LENGTH].copy_from_slice(second);
            }
            file.write_all(&block)?;
        }
        // Otherwise it would be written during a measurement.
        file.sync_all()?;
        Ok(path)
    }

    fn ensure_free(&self, needed: u64) -> Result<()> {
        let disk = statvfs(self.0.path())?;
        let free = disk.blocks_available() * disk.fragment_size();
        ensure!(
            free >= needed + RESERVE,
            "NOT ENOUGH DISK: {} GiB are free, {} GiB are needed, and {} GiB stay free",
            free / GIB,
            needed.div_ceil(GIB),
            RESERVE / GIB
        );
        Ok(())
    }
}

/// The lines of one second as the daemon writes them, all of the same length.
pub fn lines_of_one_second() -> Vec<u8> {
    let lines = (0..LINES_PER_SECOND).map(|number| {
        let micros = number * MICROS_BETWEEN;
        format!(
            "2026-01-01T00:00:00.{micros:06}Z  INFO access: server=\"public\" method=GET path=\"/\" status=200 duration_us=35 peer=127.0.0.1:46548 request_id=\"6bf5f4a9-{number:08x}\"\n"
        )
    });
    lines.collect::<String>().into_bytes()
}

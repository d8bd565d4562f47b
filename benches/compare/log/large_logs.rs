//! Log files of a size that nobody reads from the beginning.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

use crate::interrupt;

pub const GIB: u64 = 1 << 30;
/// What is left free of the disk, whatever is measured.
const RESERVE: u64 = 4 * GIB;
/// On the disk, where `/tmp` may be memory.
const PLACE: &str = env!("CARGO_TARGET_TMPDIR");
/// Lines of one second.
const LINES: u32 = 8192;
const MICROS_BETWEEN: u32 = 1_000_000 / LINES;
/// Of `2026-11-23T09:54:24`, where a line begins.
const SECOND: usize = 19;

/// A directory for large files. Dropped, it is removed.
pub struct BigLogs(TempDir);

impl BigLogs {
    pub fn new() -> Result<Self> {
        let place = Path::new(PLACE);
        std::fs::create_dir_all(place)?;
        Ok(Self(TempDir::with_prefix_in("bench-log-", place)?))
    }

    /// A directory within, for a log that grows.
    pub fn directory(&self, needed: u64) -> Result<TempDir> {
        self.ensure_free(needed)?;
        Ok(TempDir::new_in(self.0.path())?)
    }

    /// Writes a log of at least this size, and waits until it is on the disk.
    pub fn make(&self, name: &str, size: u64) -> Result<PathBuf> {
        self.ensure_free(size)?;
        let path = self.0.path().join(name);
        let mut file = File::create(&path)?;
        let mut block = block();
        let length = block.len() as u64;
        let blocks = size.div_ceil(length);
        let now = Timestamp::now();
        for number in 0..blocks {
            interrupt::check()?;
            let age = SignedDuration::from_secs(i64::try_from(blocks - number)?);
            let second = (now - age).to_string();
            let second = second.as_bytes().get(..SECOND).context("a short time")?;
            let line = block.len() / LINES as usize;
            for line in block.chunks_exact_mut(line) {
                line[..SECOND].copy_from_slice(second);
            }
            file.write_all(&block)?;
        }
        // Else it would be written while something is measured.
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

/// The lines of one second, all of one length, as the daemon writes them.
pub fn block() -> Vec<u8> {
    let lines = (0..LINES).map(|number| {
        let micros = number * MICROS_BETWEEN;
        format!(
            "2026-01-01T00:00:00.{micros:06}Z  INFO access: server=\"public\" method=GET path=\"/\" status=200 duration_us=35 peer=127.0.0.1:46548 request_id=\"6bf5f4a9-{number:08x}\"\n"
        )
    });
    lines.collect::<String>().into_bytes()
}

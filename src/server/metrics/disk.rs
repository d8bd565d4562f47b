//! Free space on the disk of the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::sys::DiskSpace;

const TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the free space on the log's disk. A network file system that hangs blocks one thread
/// and no scrape.
#[derive(Debug, Default)]
pub struct LogDisk(Arc<Mutex<()>>);

impl LogDisk {
    /// Bytes that this user may still write, or `None` if the file system does not respond in time.
    pub async fn free_bytes(&self, log: &Path) -> Option<u64> {
        let log = log.to_owned();
        let free = async {
            let permit = Arc::clone(&self.0).lock_owned().await;
            let free = spawn_blocking(move || {
                let _permit = permit;
                DiskSpace::at(log.parent()?).map(|space| space.available)
            });
            free.await.ok().flatten()
        };
        tokio::time::timeout(TIMEOUT, free).await.ok()?
    }
}

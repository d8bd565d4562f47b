//! The daemon from the moment it serves: waits to be asked to stop, and drains.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::signals::{Asked, Signals};
use super::{Ended, notify_systemd};
use crate::api::Phase;
use crate::health::Health;
use crate::logs::InstalledLog;
use crate::server::Shutdown;
use crate::server::admin::StopOrder;

/// How long what was cut off may take to notice.
const FORCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Who asked to stop, and how long requests in flight may take.
struct Stop {
    by: String,
    timeout: Duration,
    is_signal: bool,
}

/// A daemon that serves.
pub struct Life {
    pub signals: Signals,
    pub log: InstalledLog,
    pub health: Arc<Health>,
    pub shutdown: Shutdown,
    pub servers: TaskTracker,
}

impl Life {
    /// Waits for a stop, and drains.
    pub async fn until_stopped(
        mut self,
        orders: &mut mpsc::Receiver<StopOrder>,
        default_timeout: Duration,
    ) -> Ended {
        let stop = self.wait_for_stop(orders, default_timeout).await;
        let Stop { by, timeout, .. } = &stop;
        self.health.enter(Phase::Draining);
        notify_systemd(&[
            sd_notify::NotifyState::Stopping,
            sd_notify::NotifyState::Status("draining"),
        ]);
        tracing::info!(by, ?timeout, "stopping");
        // So that followers see it before their streams end.
        self.log.settle(Duration::from_secs(1));
        self.shutdown.begin();
        let servers = self.servers.clone();
        let ended = tokio::select! {
            () = servers.wait() => Ended::Gracefully,
            () = tokio::time::sleep(*timeout) => {
                tracing::warn!("the deadline is over: cutting off what is still in flight");
                Ended::Gracefully
            }
            signal = self.second_signal(stop.is_signal) => {
                tracing::warn!(signal, "a second signal: cutting off what is still in flight");
                Ended::Interrupted
            }
        };
        self.shutdown.force();
        if tokio::time::timeout(FORCE_TIMEOUT, servers.wait())
            .await
            .is_err()
        {
            tracing::error!("a request handler blocks its thread: leaving without it");
        }
        tracing::info!("stopped");
        self.log.settle(Duration::from_secs(5));
        ended
    }

    async fn wait_for_stop(
        &mut self,
        orders: &mut mpsc::Receiver<StopOrder>,
        default_timeout: Duration,
    ) -> Stop {
        loop {
            tokio::select! {
                Some(order) = orders.recv() => return Stop {
                    by: order.subject,
                    timeout: order.timeout,
                    is_signal: false,
                },
                asked = self.signals.next() => match asked {
                    Asked::Stop(signal) => return Stop {
                        by: signal.into(),
                        timeout: default_timeout,
                        is_signal: true,
                    },
                    Asked::Reopen => self.reopen_log(),
                },
            }
        }
    }

    /// The second signal that asks to stop. After an order over REST the first one says nothing new.
    async fn second_signal(&mut self, mut had_one: bool) -> &'static str {
        loop {
            match self.signals.next().await {
                Asked::Stop(signal) if had_one => return signal,
                Asked::Stop(signal) => {
                    tracing::info!(signal, "stopping already");
                    had_one = true;
                }
                Asked::Reopen => self.reopen_log(),
            }
        }
    }

    fn reopen_log(&self) {
        tracing::info!("SIGHUP: the log file is opened anew if another one has its name");
        self.log.reopen();
    }
}

//! A slot: the place of one worker. It starts the worker, and another one when that has died.

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::directory::WorkersDirectory;
use super::order::{Command, Report};
use super::output::LastLines;
use super::policy::{RestartPolicy, STABLE_AFTER};
use super::ready::ReadyProbe;
use super::report::{WorkerReport, WorkerState};
use super::spawn::GuardedWorker;
use crate::config::{AppSettings, Placeholder};
use crate::proxy::{Balancer, Upstream, UpstreamAddress};
use crate::sys::{Process, usage_below};

/// How long a guard may take beyond the stop timeout.
const GUARD_GRACE: Duration = Duration::from_secs(5);

/// The state that all slots share.
#[derive(Debug)]
pub struct Shared {
    pub settings: Mutex<AppSettings>,
    pub directory: WorkersDirectory,
    pub balancer: Arc<Balancer>,
    /// A slot has changed.
    pub changed: watch::Sender<()>,
}

impl Shared {
    pub fn settings(&self) -> MutexGuard<'_, AppSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether and how a slot ends. A later one is more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    No,
    /// SIGTERM once only streams are left.
    Drain,
    /// SIGTERM, then SIGKILL.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// The place of one worker.
#[derive(Debug)]
pub struct Slot {
    pub number: u16,
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    status: Mutex<Status>,
    pub last_lines: Arc<LastLines>,
}

#[derive(Debug)]
struct Status {
    state: WorkerState,
    pid: Option<u32>,
    guard: Option<u32>,
    started: Option<Timestamp>,
    /// How often a worker was started.
    starts: u64,
    last_exit: Option<String>,
    /// Why the last worker failed.
    failure: Option<String>,
    upstream: Option<Arc<Upstream>>,
    policy: RestartPolicy,
}

/// The progress of one worker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Its process does not run the program yet.
    Spawned,
    Starting,
    Ready,
    Draining,
    Ending,
}

impl Slot {
    pub fn new(number: u16, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            number,
            shared,
            stop: watch::Sender::new(Stop::No),
            status: Mutex::new(Status {
                state: WorkerState::Starting,
                pid: None,
                guard: None,
                started: None,
                starts: 0,
                last_exit: None,
                failure: None,
                upstream: None,
                policy: RestartPolicy::default(),
            }),
            last_lines: Arc::default(),
        })
    }

    /// Ends the worker. A less urgent wish than before changes nothing.
    pub fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|current| {
            let is_more_urgent = stop > *current;
            *current = stop.max(*current);
            is_more_urgent
        });
    }

    pub fn is_ready(&self) -> bool {
        self.lock().upstream.is_some()
    }

    pub fn is_crash_loop(&self) -> bool {
        self.lock().policy.is_crash_loop()
    }

    /// Why the last worker failed.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Runs workers, one after another, until the slot is stopped.
    pub async fn run(self: Arc<Self>) {
        let mut stop = self.stop.subscribe();
        while *stop.borrow() == Stop::No {
            let Some(failure) = self.run_worker(&mut stop).await else {
                break;
            };
            let delay = self.count_failure(&failure);
            tokio::select! {
                () = sleep(delay) => {}
                () = stopped(&mut stop) => {}
            }
        }
        self.update(|status| status.state = WorkerState::Stopping);
    }

    fn count_failure(&self, failure: &str) -> Duration {
        let slot = self.number;
        let delay = self.update(|status| {
            status.failure = Some(failure.to_owned());
            let delay = status.policy.failed();
            status.state = WorkerState::BackingOff;
            delay
        });
        tracing::error!(worker = slot, restart_in = ?delay, "worker {slot} {failure}");
        delay
    }

    /// Runs one worker until it has ended. Returns why, unless the slot is stopped.
    async fn run_worker(&self, stop: &mut watch::Receiver<Stop>) -> Option<String> {
        let settings = self.shared.settings().clone();
        self.update(|status| {
            status.state = WorkerState::Starting;
            status.started = Some(Timestamp::now());
            status.starts += 1;
        });
        let spawned = GuardedWorker::spawn(settings.clone(), self.shared.directory.clone()).await;
        let mut worker = match spawned {
            Ok(worker) => worker,
            Err(error) => return Some(format!("cannot be started: {error}")),
        };
        self.update(|status| status.guard = Some(worker.guard().pid()));
        let failure = self.watch(&mut worker, &settings, stop).await;
        self.leave_rotation();
        worker.end().await;
        self.update(|status| {
            status.pid = None;
            status.guard = None;
            status.started = None;
        });
        failure.filter(|_| *stop.borrow() == Stop::No)
    }

    /// Watches a worker until its guard has ended. Returns why it failed.
    async fn watch(
        &self,
        worker: &mut GuardedWorker,
        settings: &AppSettings,
        stop: &mut watch::Receiver<Stop>,
    ) -> Option<String> {
        let mut run = WorkerRun {
            slot: self,
            progress: Progress::Spawned,
            timer: Some(Instant::now() + settings.start_timeout),
            failure: None,
        };
        let probe = ReadyProbe::default();
        let guard = worker.guard().try_clone().ok();
        let address = Arc::clone(&worker.address);
        let mut ready = pin!(async {
            match &guard {
                Some(guard) => {
                    let path = settings.ready_path.as_deref();
                    probe.wait(&address, path, guard).await;
                }
                None => pending().await,
            }
        });
        // A wish to stop may have come while the worker was started.
        stop.mark_changed();
        loop {
            let timer = run.timer;
            let upstream = self.lock().upstream.clone();
            tokio::select! {
                report = worker.next_report() => match report {
                    Some(report) => run.handle(report, worker),
                    None => break,
                },
                () = &mut ready, if run.progress == Progress::Starting => {
                    self.join_rotation(&address.upstream);
                    run.progress = Progress::Ready;
                    run.timer = Some(Instant::now() + STABLE_AFTER);
                }
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    run.on_timer(worker, settings, &probe);
                }
                _ = stop.changed() => {
                    let wish = *stop.borrow_and_update();
                    let timeout = self.shared.settings().stop_timeout;
                    run.stop(wish, timeout, worker);
                }
                () = drained(upstream.as_deref()), if run.progress == Progress::Draining => {
                    let timeout = self.shared.settings().stop_timeout;
                    run.stop(Stop::Terminate, timeout, worker);
                }
            }
        }
        let killed = || "ended: its guard process was killed".to_owned();
        Some(run.failure.unwrap_or_else(killed))
    }

    fn join_rotation(&self, address: &UpstreamAddress) {
        let upstream = self.shared.balancer.add(address.clone());
        self.update(|status| {
            status.upstream = Some(upstream);
            status.state = WorkerState::Ready;
        });
        let slot = self.number;
        tracing::info!(
            worker = slot,
            pid = self.lock().pid,
            "worker {slot} is ready"
        );
    }

    /// The worker receives no further requests.
    fn leave_rotation(&self) {
        if let Some(upstream) = self.update(|status| status.upstream.take()) {
            self.shared.balancer.remove(&upstream);
        }
    }

    pub fn report(&self) -> WorkerReport {
        let status = self.lock();
        let (memory, cpu) = status
            .guard
            .and_then(Process::open)
            .map(|guard| usage_below(&guard))
            .unwrap_or_default();
        WorkerReport {
            slot: self.number,
            pid: status.pid,
            state: if status.policy.is_crash_loop() {
                WorkerState::CrashLoop
            } else {
                status.state
            },
            started: status.started,
            restarts: status.starts.saturating_sub(1),
            last_exit: status.last_exit.clone(),
            memory,
            cpu,
            in_flight: status.upstream.as_ref().map_or(0, |it| it.in_flight()),
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut Status) -> T) -> T {
        let result = change(&mut self.lock());
        self.shared.changed.send_replace(());
        result
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns once the slot has to end.
async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // The slot holds the sender.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

/// Returns once the worker has no request but streams.
async fn drained(upstream: Option<&Upstream>) {
    if let Some(upstream) = upstream {
        upstream.only_streams().await;
    }
}

/// One worker, from its start to its end.
struct WorkerRun<'a> {
    slot: &'a Slot,
    progress: Progress,
    timer: Option<Instant>,
    failure: Option<String>,
}

impl WorkerRun<'_> {
    fn handle(&mut self, report: Report, worker: &mut GuardedWorker) {
        let slot = self.slot;
        match report {
            Report::Started { pid } => {
                slot.update(|status| status.pid = Some(pid));
                let lines = Arc::clone(&slot.last_lines);
                if let Err(error) = worker.read_output(slot.number, pid, lines) {
                    self.failure = Some(format!("cannot be run: {error}"));
                    self.kill(worker);
                } else if self.progress == Progress::Spawned {
                    self.progress = Progress::Starting;
                }
            }
            Report::Failed { reason } => {
                self.failure
                    .get_or_insert(format!("cannot be started: {reason}"));
                self.end();
            }
            Report::Exited(exit) => {
                // Before anything else: its address is a dead one.
                slot.leave_rotation();
                let is_early = self.progress == Progress::Starting;
                let early = if is_early { " before it was ready" } else { "" };
                let failure = self.failure.get_or_insert(format!("{exit}{early}"));
                slot.update(|status| status.last_exit = Some(failure.clone()));
                self.end();
            }
        }
    }

    fn on_timer(&mut self, worker: &GuardedWorker, settings: &AppSettings, probe: &ReadyProbe) {
        match self.progress {
            Progress::Spawned | Progress::Starting => {
                let timeout = settings.start_timeout;
                let hint = match settings.command.placeholder() {
                    Placeholder::Environment => {
                        "; APP_COMMAND has no {fd}, {socket} or {port}, so the program must listen on the port in PORT"
                    }
                    _ => "",
                };
                self.failure = Some(format!(
                    "was not ready within {timeout:?} (APP_START_TIMEOUT): {}{hint}",
                    probe.last_error()
                ));
                self.kill(worker);
            }
            Progress::Ready => {
                self.slot.update(|status| status.policy.stable());
                self.timer = None;
            }
            Progress::Draining => self.timer = None,
            Progress::Ending => {
                tracing::error!(
                    worker = self.slot.number,
                    "the guard of worker {} did not end it in time; both are killed",
                    self.slot.number
                );
                // It may have exited just now.
                let _ = worker.guard().kill();
                self.timer = None;
            }
        }
    }

    fn stop(&mut self, wish: Stop, timeout: Duration, worker: &GuardedWorker) {
        match wish {
            Stop::No => return,
            Stop::Drain if self.progress == Progress::Ready => {
                let upstream = self.slot.lock().upstream.clone();
                if let Some(upstream) = upstream {
                    self.slot.shared.balancer.remove(&upstream);
                }
                self.progress = Progress::Draining;
                self.timer = None;
            }
            Stop::Drain if self.progress == Progress::Draining => {}
            Stop::Drain | Stop::Terminate => {
                self.slot.leave_rotation();
                worker.send(Command::Terminate { timeout });
                self.progress = Progress::Ending;
                self.timer = Some(Instant::now() + timeout + GUARD_GRACE);
            }
            Stop::Kill => self.kill(worker),
        }
        let stopping = WorkerState::Stopping;
        self.slot.update(|status| status.state = stopping);
    }

    fn kill(&mut self, worker: &GuardedWorker) {
        self.slot.leave_rotation();
        worker.send(Command::Kill);
        self.end();
    }

    /// The guard has to end soon.
    fn end(&mut self) {
        self.progress = Progress::Ending;
        self.timer = Some(Instant::now() + GUARD_GRACE);
    }
}

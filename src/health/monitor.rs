//! The monitored dependencies, each with a task that probes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::check::{Check, CheckState};
use super::dependency::{Dependency, DependencyMetrics, ProbeEpoch, StateChange};
use super::error::ProbeError;
use super::prober::{self, ProbeTarget};
use crate::config::{DependencySettings, ProbeSchedule};

/// All monitored dependencies.
#[derive(Debug)]
pub struct DependencyMonitor {
    monitored: Mutex<Vec<Monitored>>,
    /// Updated on each change, so that readers need not lock.
    all_up: AtomicBool,
}

#[derive(Debug)]
struct Monitored {
    dependency: Arc<Dependency>,
    target: ProbeTarget,
    schedule: ProbeSchedule,
    /// Whether it is considered up before its first probe.
    presume_up: bool,
    /// `None` once probing has stopped.
    task: Option<AbortOnDropHandle<()>>,
}

impl Monitored {
    fn is_probing(&self) -> bool {
        let task = self.task.as_ref();
        task.is_some_and(|task| !task.is_finished())
    }
}

impl DependencyMonitor {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            monitored: Mutex::default(),
            all_up: AtomicBool::new(true),
        })
    }

    /// Whether all dependencies are up. Does not block.
    pub fn all_up(&self) -> bool {
        self.all_up.load(Ordering::Acquire)
    }

    /// Reconciles the tasks with `settings`; unchanged dependencies keep running. With changed
    /// settings, a dependency keeps its state until the first probe. `known` seeds a new
    /// dependency. Must be called within a tokio runtime.
    pub fn reconcile(
        self: &Arc<Self>,
        settings: &DependencySettings,
        known: &[(Check, u64)],
        presume_up: bool,
    ) {
        let postgres = settings.database.clone().map(ProbeTarget::Postgres);
        let redis = settings.redis.clone().map(ProbeTarget::Redis);
        let wanted = [("postgresql", postgres), ("redis", redis)];
        let schedule = settings.probe_schedule;
        let mut monitored = self.lock();
        let mut before = std::mem::take(&mut *monitored);
        for (name, target) in wanted {
            let existing = before
                .iter()
                .position(|item| item.dependency.name() == name)
                .map(|at| before.remove(at));
            let Some(target) = target else {
                // A result of its last probe may still arrive.
                if let Some(item) = existing {
                    item.dependency.start_epoch(false);
                }
                continue;
            };
            monitored.push(match existing {
                Some(item)
                    if item.target == target && item.schedule == schedule && item.is_probing() =>
                {
                    item
                }
                Some(item) => {
                    let presume_up = item.presume_up;
                    let dependency = Arc::clone(&item.dependency);
                    let epoch = dependency.start_epoch(item.target == target);
                    drop(item);
                    self.spawn_prober(dependency, epoch, target, schedule, presume_up)
                }
                None => {
                    let known = known.iter().find(|(check, _)| check.name == name);
                    let dependency = known.map_or_else(
                        || Dependency::new(name),
                        |(check, _)| Dependency::restored(name, check),
                    );
                    let same_settings = known.is_some_and(|(_, digest)| *digest == target.digest());
                    let epoch = dependency.start_epoch(same_settings);
                    self.spawn_prober(Arc::new(dependency), epoch, target, schedule, presume_up)
                }
            });
        }
        self.update_all_up(&monitored);
    }

    /// Stops all probes and keeps the states.
    pub fn stop(&self) {
        for item in self.lock().iter_mut() {
            item.dependency.start_epoch(true);
            item.task = None;
        }
    }

    /// The state of each dependency, and a digest of its settings.
    pub fn known_checks(&self) -> Vec<(Check, u64)> {
        self.collect(|item| (item.dependency.check(), item.target.digest()))
    }

    pub fn checks(&self) -> Vec<Check> {
        self.collect(|item| item.dependency.check())
    }

    pub fn metrics(&self) -> Vec<DependencyMetrics> {
        self.collect(|item| item.dependency.metrics())
    }

    fn collect<T>(&self, read: impl Fn(&Monitored) -> T) -> Vec<T> {
        self.lock().iter().map(read).collect()
    }

    fn spawn_prober(
        self: &Arc<Self>,
        dependency: Arc<Dependency>,
        epoch: ProbeEpoch,
        target: ProbeTarget,
        schedule: ProbeSchedule,
        presume_up: bool,
    ) -> Monitored {
        let (monitor, probed) = (Arc::clone(self), Arc::clone(&dependency));
        let report = move |result: Result<_, &ProbeError>| monitor.record(&probed, epoch, result);
        let task = tokio::spawn(prober::run(target.clone(), schedule, report));
        Monitored {
            dependency,
            target,
            schedule,
            presume_up,
            task: Some(AbortOnDropHandle::new(task)),
        }
    }

    fn record(
        &self,
        dependency: &Dependency,
        epoch: ProbeEpoch,
        result: Result<Duration, &ProbeError>,
    ) {
        let Some(change) = dependency.record(epoch, result) else {
            return;
        };
        self.update_all_up(&self.lock());
        let dependency = dependency.name();
        match change {
            StateChange::Up {
                down_for: Some(down_for),
            } => tracing::info!(target: "health", dependency, ?down_for, "up again"),
            StateChange::Up { down_for: None } => {
                tracing::info!(target: "health", dependency, "up");
            }
            StateChange::Down { reason } => {
                tracing::warn!(target: "health", dependency, reason, "down");
            }
        }
    }

    fn update_all_up(&self, monitored: &[Monitored]) {
        let is_up = |item: &Monitored| match item.dependency.state() {
            CheckState::Up => true,
            CheckState::Down => false,
            CheckState::Unknown => item.presume_up,
        };
        let all_up = monitored.iter().all(is_up);
        self.all_up.store(all_up, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Monitored>> {
        self.monitored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

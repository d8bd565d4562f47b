//! The dependencies that are watched: a task for each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::dependency::{Dependency, DependencyMetrics, ProbeEpoch, StateChange};
use super::failure::ProbeError;
use super::prober::{self, ProbeTarget};
use crate::api::{Check, CheckState};
use crate::config::{DependencySettings, ProbeSchedule};

/// All of them. Whether all are up is known without asking.
#[derive(Debug)]
pub struct DependencyMonitor {
    watches: Mutex<Vec<MonitoredDependency>>,
    all_up: AtomicBool,
}

#[derive(Debug)]
struct MonitoredDependency {
    dependency: Arc<Dependency>,
    target: ProbeTarget,
    schedule: ProbeSchedule,
    /// Whether it counts as up before it was asked.
    is_presumed_up: bool,
    /// Gone once nobody is asked any more.
    task: Option<AbortOnDropHandle<()>>,
}

impl MonitoredDependency {
    /// Whether its task still runs.
    fn is_probing(&self) -> bool {
        let task = self.task.as_ref();
        task.is_some_and(|task| !task.is_finished())
    }
}

impl DependencyMonitor {
    /// None.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            watches: Mutex::default(),
            all_up: AtomicBool::new(true),
        })
    }

    /// Whether requests can be served as they should. Waits for nothing.
    pub fn all_up(&self) -> bool {
        self.all_up.load(Ordering::Acquire)
    }

    /// Watches those that the settings name, and none else. One whose settings are as before is left alone; of one whose
    /// settings are others, what was known stays until its first answer. Must be called within a tokio runtime.
    pub fn reconcile(
        self: &Arc<Self>,
        settings: &DependencySettings,
        known: &[(Check, u64)],
        are_presumed_up: bool,
    ) {
        let postgres = settings.database.clone().map(ProbeTarget::Postgres);
        let redis = settings.redis.clone().map(ProbeTarget::Redis);
        let wanted = [("postgresql", postgres), ("redis", redis)];
        let mut each = self.watches();
        let mut before = std::mem::take(&mut *each);
        for (name, target) in wanted {
            let watched = before
                .iter()
                .position(|watch| watch.dependency.name() == name)
                .map(|at| before.remove(at));
            let Some(target) = target else {
                // Its last word may be on its way.
                if let Some(watch) = watched {
                    watch.dependency.start_epoch(false);
                }
                continue;
            };
            each.push(match watched {
                Some(watch)
                    if watch.target == target
                        && watch.schedule == settings.probe_schedule
                        && watch.is_probing() =>
                {
                    watch
                }
                Some(watch) => {
                    let is_presumed_up = watch.is_presumed_up;
                    let dependency = Arc::clone(&watch.dependency);
                    let turn = dependency.start_epoch(watch.target == target);
                    drop(watch);
                    self.spawn_prober(
                        dependency,
                        turn,
                        target,
                        settings.probe_schedule,
                        is_presumed_up,
                    )
                }
                None => {
                    let known = known.iter().find(|(check, _)| check.name == name);
                    let dependency = known.map_or_else(
                        || Dependency::new(name),
                        |(check, _)| Dependency::restored(name, check),
                    );
                    let is_same = known.is_some_and(|(_, digest)| *digest == target.digest());
                    let turn = dependency.start_epoch(is_same);
                    let dependency = Arc::new(dependency);
                    self.spawn_prober(
                        dependency,
                        turn,
                        target,
                        settings.probe_schedule,
                        are_presumed_up,
                    )
                }
            });
        }
        self.update_all_up(&each);
    }

    /// Asks nobody any more. What was known stays.
    pub fn stop(&self) {
        for watch in self.watches().iter_mut() {
            watch.dependency.start_epoch(true);
            watch.task = None;
        }
    }

    /// What is known of each, and a digest of the settings by which it is.
    pub fn known_checks(&self) -> Vec<(Check, u64)> {
        let each = self.watches();
        let known = each
            .iter()
            .map(|watch| (watch.dependency.check(), watch.target.digest()));
        known.collect()
    }

    pub fn checks(&self) -> Vec<Check> {
        let each = self.watches();
        each.iter().map(|watch| watch.dependency.check()).collect()
    }

    pub fn metrics(&self) -> Vec<DependencyMetrics> {
        let each = self.watches();
        let figures = each.iter().map(|watch| watch.dependency.metrics());
        figures.collect()
    }

    fn spawn_prober(
        self: &Arc<Self>,
        dependency: Arc<Dependency>,
        turn: ProbeEpoch,
        target: ProbeTarget,
        pace: ProbeSchedule,
        is_presumed_up: bool,
    ) -> MonitoredDependency {
        let (all, its) = (Arc::clone(self), Arc::clone(&dependency));
        let tell = move |outcome: Result<_, &ProbeError>| all.record(&its, turn, outcome);
        let task = tokio::spawn(prober::run(target.clone(), pace, tell));
        MonitoredDependency {
            dependency,
            target,
            schedule: pace,
            is_presumed_up,
            task: Some(AbortOnDropHandle::new(task)),
        }
    }

    fn record(
        &self,
        dependency: &Dependency,
        turn: ProbeEpoch,
        outcome: Result<Duration, &ProbeError>,
    ) {
        let change = dependency.record(turn, outcome);
        if change == StateChange::None {
            return;
        }
        self.update_all_up(&self.watches());
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
            StateChange::None => {}
        }
    }

    fn update_all_up(&self, each: &[MonitoredDependency]) {
        let is_up = |watch: &MonitoredDependency| match watch.dependency.state() {
            CheckState::Up => true,
            CheckState::Down => false,
            CheckState::Unknown => watch.is_presumed_up,
        };
        self.all_up.store(each.iter().all(is_up), Ordering::Release);
    }

    fn watches(&self) -> MutexGuard<'_, Vec<MonitoredDependency>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

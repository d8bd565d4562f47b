//! The application of the daemon: its workers, and the balancer that sends requests to them.

use std::path::Path;
use std::sync::Arc;

use super::error::StartError;
use crate::config::AppSettings;
use crate::health::{ApplicationHealth, Check, CheckState};
use crate::proxy::Balancer;
use crate::workers::{Workers, WorkersDirectory};

/// The name of its health check.
const CHECK: &str = "app";

/// The workers of the application.
#[derive(Debug)]
pub struct Application {
    pub workers: Arc<Workers>,
    pub balancer: Arc<Balancer>,
}

impl Application {
    /// Starts the workers. Must be called within a tokio runtime.
    pub fn start(settings: &AppSettings, pid_file: &Path) -> Result<Arc<Self>, StartError> {
        let directory = WorkersDirectory::create(pid_file).map_err(StartError::Workers)?;
        let balancer = Arc::new(Balancer::default());
        let workers = Workers::start(settings.clone(), directory, Arc::clone(&balancer));
        Ok(Arc::new(Self {
            workers: workers.map_err(StartError::Workers)?,
            balancer,
        }))
    }

    /// Returns once all workers are ready.
    pub async fn ready(&self) -> Result<(), StartError> {
        let ready = self.workers.ready().await;
        ready.map_err(|failure| StartError::Application(failure.to_string()))
    }
}

impl ApplicationHealth for Application {
    fn is_ready(&self) -> bool {
        self.balancer.has_ready()
    }

    fn check(&self) -> Check {
        let is_ready = self.is_ready();
        Check {
            name: CHECK.into(),
            state: if is_ready {
                CheckState::Up
            } else {
                CheckState::Down
            },
            since: None,
            latency: None,
            last_error: (!is_ready).then(|| self.workers.failure()),
        }
    }
}

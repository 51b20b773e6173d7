//! What runs beside the requests, and ends with the engine.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of the engine.
#[derive(Clone, Debug, Default)]
pub struct Background {
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Background {
    /// Runs `job` every `period` until the engine stops, and a last time then.
    pub fn every<F, Job>(&self, period: Duration, job: F)
    where
        F: Fn() -> Job + Send + 'static,
        Job: Future<Output = ()> + Send,
    {
        let stopping = self.stopping.clone();
        self.tracker.spawn(async move {
            while stopping
                .run_until_cancelled(tokio::time::sleep(period))
                .await
                .is_some()
            {
                job().await;
            }
            job().await;
        });
    }

    /// Runs `task`, which has to end by itself soon after [`Background::stopping`] says so.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Is cancelled when the engine stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Tells all tasks to end and waits until they have.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

//! The tasks of one keeper: none belongs to a caller, and shutting down waits for them.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

#[derive(Clone, Default)]
pub(crate) struct Tasks {
    running: Arc<watch::Sender<usize>>,
    #[cfg(test)]
    handles: Arc<std::sync::Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Tasks {
    /// Runs `task` whatever becomes of whoever asked for it.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.running.send_modify(|running| *running += 1);
        let over = Over(Arc::clone(&self.running));
        let handle = tokio::spawn(async move {
            let _over = over;
            task.await
        });
        #[cfg(test)]
        {
            let mut handles = super::lock(&self.handles);
            handles.retain(|handle| !handle.is_finished());
            handles.push(handle.abort_handle());
        }
        handle
    }

    /// Waits until none is running.
    pub(crate) async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender is ours: it does not go away.
        let _ = running.wait_for(|running| *running == 0).await;
    }

    #[cfg(test)]
    pub(crate) fn kill(&self) {
        for handle in super::lock(&self.handles).drain(..) {
            handle.abort();
        }
    }
}

struct Over(Arc<watch::Sender<usize>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

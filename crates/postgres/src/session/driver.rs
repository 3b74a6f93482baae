//! Who drives a connection: the bytes between its socket and its client move only while somebody polls it.
//!
//! As a rule a task of the runtime does. A thread that reads a long stream takes the connection over:
//! every hand-over of a few kilobytes from the task's thread to the reader's costs a wake-up otherwise,
//! which is more than decoding them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that somebody else than the runtime drives.
pub(crate) struct Connection {
    /// Nothing when it has ended.
    running: Option<Running>,
    driven: Arc<AtomicU64>,
}

/// A connection in a task of the runtime.
pub(super) struct Driver {
    task: JoinHandle<Option<Running>>,
    handover: Option<oneshot::Sender<()>>,
}

impl Driver {
    /// Drives a connection, which ends when its client is gone or the server is.
    pub(super) fn spawn(connection: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::of(Box::pin(connection))
    }

    fn of(mut connection: Running) -> Self {
        let (handover, wanted) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = &mut connection => None,
                // When the other end is dropped, nobody will ask any more.
                Ok(()) = wanted => Some(connection),
            }
        });
        Self {
            task,
            handover: Some(handover),
        }
    }

    /// Takes the connection out of its task.
    pub(super) async fn take(&mut self) -> Connection {
        let asked = self.handover.take().is_some_and(|ask| ask.send(()).is_ok());
        Connection {
            running: match asked {
                true => (&mut self.task).await.ok().flatten(),
                false => None,
            },
            driven: Arc::default(),
        }
    }

    /// Drives a connection that was taken in a task again.
    pub(super) fn give_back(&mut self, connection: Connection) {
        if let Some(running) = connection.running {
            *self = Self::of(running);
        }
    }

    /// Ends the connection.
    pub(super) fn abort(&self) {
        self.task.abort();
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&mut self) {
        // Of a task that was waited for already there is nothing to wait for.
        if self.handover.is_some() {
            let _ = (&mut self.task).await;
        }
    }
}

impl Connection {
    /// Nanoseconds that driving it has taken so far.
    pub(crate) fn driven(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.driven)
    }

    /// Does `work`, and drives the connection meanwhile.
    pub(crate) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            // What arrives here wakes the work.
            if let Some(running) = &mut self.running {
                let since = Instant::now();
                if running.as_mut().poll(context).is_ready() {
                    self.running = None;
                }
                let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                self.driven.fetch_add(nanos, Ordering::Relaxed);
            }
            Poll::Pending
        })
        .await
    }
}

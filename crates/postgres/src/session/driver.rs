//! Who drives a connection: the bytes between its socket and its client move only while somebody polls it.
//!
//! As a rule a task of the runtime does. A thread that reads a long stream takes the connection over:
//! every hand-over of a few kilobytes from the task's thread to the reader's costs a wake-up otherwise,
//! which is more than decoding them.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that somebody else than the runtime drives; nothing when it has ended.
pub(crate) struct Connection(Option<Running>);

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
        Connection(match asked {
            true => (&mut self.task).await.ok().flatten(),
            false => None,
        })
    }

    /// Drives a connection that was taken in a task again.
    pub(super) fn give_back(&mut self, connection: Connection) {
        if let Some(running) = connection.0 {
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
    /// Does `work`, and drives the connection meanwhile.
    pub(crate) async fn alongside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            // What arrives here wakes the work.
            if let Some(running) = &mut self.0
                && running.as_mut().poll(context).is_ready()
            {
                self.0 = None;
            }
            Poll::Pending
        })
        .await
    }
}

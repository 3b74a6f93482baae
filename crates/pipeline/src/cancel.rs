//! Cooperative cancellation.

use tokio::sync::watch;

use crate::Failure;

/// A flag that is raised once and that tasks look at between units of work.
#[derive(Clone, Debug)]
pub struct Cancel {
    sender: watch::Sender<bool>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self {
            sender: watch::Sender::new(false),
        }
    }
}

impl Cancel {
    /// Asks everybody to stop.
    pub fn raise(&self) {
        self.sender.send_replace(true);
    }

    /// Whether everybody was asked to stop.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        *self.sender.borrow()
    }

    /// Fails with [`crate::FailureKind::Interrupted`] once the flag is raised.
    ///
    /// # Errors
    /// When the flag is raised.
    pub fn check(&self) -> Result<(), Failure> {
        if self.is_raised() {
            Err(Failure::interrupted())
        } else {
            Ok(())
        }
    }

    /// Returns when the flag is raised.
    pub async fn raised(&self) {
        let mut receiver = self.sender.subscribe();
        // The sender lives in `self`, so waiting cannot fail before the flag is raised.
        let _ = receiver.wait_for(|raised| *raised).await;
    }
}

//! The way back: the undo of the rows, executed before it is committed.

use arkstream_pipeline::{Failure, Standing, Target};
use arkstream_postgres::{Session, cutover, failure_of};

use super::{ModelsTarget, numbering};

impl ModelsTarget {
    /// What is live, once a switch or an undo that the server still works on has ended.
    pub(super) async fn look(&self, session: &Session) -> Result<Standing, Failure> {
        let limit = self.options.lock_timeout;
        Ok(
            match cutover::is_live(session, &self.undo_schema, limit).await? {
                true => Standing::New,
                false => Standing::Old,
            },
        )
    }

    /// Executes the undo in a transaction that stays open. Returns what it overwrites.
    pub(super) async fn prepare_way_back(&mut self, force: bool) -> Result<Vec<String>, Failure> {
        let session = self.connect("undo").await?;
        session.make_commits_durable().await?;
        let limit = self.options.lock_timeout;
        let done = cutover::prepare_undo(&session, &self.undo_schema, limit, force).await?;
        let Some(undone) = done else {
            return Ok(Vec::new());
        };
        if !undone.changed.is_empty() && !force {
            session.rollback().await;
            return Ok(undone.changed);
        }
        if let Err(failure) = numbering::drop_created(session.client(), &self.undo_schema).await {
            session.rollback().await;
            return Err(failure);
        }
        self.undoing = Some(session);
        Ok(undone.changed)
    }

    /// Commits the undo, and executes it before where that was not done yet.
    pub(super) async fn go_back(&mut self) -> Result<(), Failure> {
        if self.undoing.is_none() {
            self.release().await;
            self.prepare_way_back(true).await?;
        }
        if let Some(session) = self.undoing.take() {
            session
                .client()
                .batch_execute("COMMIT")
                .await
                .map_err(|error| failure_of("commit the undo of the rows", &error))?;
        }
        // Also when the undo was committed by a process that was killed before it told anybody.
        let session = self.connect("notice").await?;
        match cutover::is_kept(session.client(), &self.undo_schema).await? {
            true => numbering::signal(session.client()).await,
            false => Ok(()),
        }
    }
}

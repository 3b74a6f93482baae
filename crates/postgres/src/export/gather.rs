//! The messages of a COPY stream, several at once.
//!
//! PostgreSQL sends one message a row. What is done for each of them (a look whether somebody stopped
//! the export, a hash, a decoder's entry, a look at the budget) would cost more than the row itself where
//! rows are small. Where a piece ends follows from the lengths of the messages alone, never from how
//! they arrived: what is made of a stream is the same in every run.
//!
//! Peak memory: one piece of [`PIECE`] bytes, or one message that is larger, and the message behind it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arkstream_pipeline::{Stage, Stats};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};

/// Bytes of a piece. Hashes are fastest from some 16 KiB.
const PIECE: usize = 64 << 10;

/// A message of this size is passed on by itself, without a copy.
const LARGE: usize = 16 << 10;

/// Gathers the messages of `S` into pieces.
pub(super) struct Gather<'a, S> {
    messages: S,
    stats: &'a Stats,
    /// Nanoseconds spent on reading from the socket, which is not waiting.
    reading: &'a AtomicU64,
    /// Since when there is nothing to take, and what `reading` was then.
    waiting: Option<(Instant, u64)>,
    gathered: BytesMut,
    /// A message that did not fit into the piece before it.
    next: Option<Bytes>,
    ended: bool,
}

impl<'a, S, E> Gather<'a, S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    pub(super) fn new(messages: S, stats: &'a Stats, reading: &'a AtomicU64) -> Self {
        Self {
            messages,
            stats,
            reading,
            waiting: None,
            gathered: BytesMut::new(),
            next: None,
            ended: false,
        }
    }

    /// The piece without what follows it.
    fn take(&mut self) -> Option<Bytes> {
        (!self.gathered.is_empty()).then(|| self.gathered.split().freeze())
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, E>>> {
        loop {
            let message = match self.next.take() {
                Some(message) => message,
                None if self.ended => return Poll::Ready(self.take().map(Ok)),
                None => match ready!(self.messages.poll_next_unpin(context)) {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => {
                        self.ended = true;
                        self.gathered.clear();
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        self.ended = true;
                        continue;
                    }
                },
            };
            let large = message.len() >= LARGE;
            if self.gathered.is_empty() && large {
                return Poll::Ready(Some(Ok(message)));
            }
            if large || self.gathered.len() + message.len() > PIECE {
                self.next = Some(message);
                return Poll::Ready(self.take().map(Ok));
            }
            if self.gathered.is_empty() {
                // What the last piece took is free again by now.
                self.gathered.reserve(PIECE);
            }
            self.gathered.extend_from_slice(&message);
        }
    }
}

impl<S, E> Stream for Gather<'_, S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, E>;

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, E>>> {
        let this = self.get_mut();
        let began = Instant::now();
        let waited = this
            .waiting
            .take()
            .map_or(Duration::ZERO, |(since, reading)| {
                let read = this.reading.load(Ordering::Relaxed) - reading;
                since.elapsed().saturating_sub(Duration::from_nanos(read))
            });
        let piece = this.poll_piece(context);
        let bytes = match &piece {
            Poll::Ready(Some(Ok(bytes))) => bytes.len() as u64,
            Poll::Ready(_) => 0,
            Poll::Pending => {
                this.waiting = Some((Instant::now(), this.reading.load(Ordering::Relaxed)));
                0
            }
        };
        this.stats
            .add(Stage::Receive, began.elapsed(), waited, bytes);
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(
        messages: Vec<Result<Bytes, &'static str>>,
    ) -> Vec<Result<Bytes, &'static str>> {
        let stats = Stats::default();
        let reading = AtomicU64::new(0);
        let messages = futures::stream::iter(messages);
        Gather::new(messages, &stats, &reading).collect().await
    }

    #[tokio::test]
    async fn the_bytes_stay_and_pieces_end_between_messages() {
        let lengths = [
            1, 30_000, 5, 15_000, 15_000, 15_000, 70_000, 16_384, 3, 200_000, 9,
        ];
        let messages: Vec<Bytes> = (0u8..)
            .zip(lengths)
            .map(|(fill, length)| vec![fill; length].into())
            .collect();
        let whole: Vec<u8> = messages.iter().flatten().copied().collect();
        let found = pieces(messages.into_iter().map(Ok).collect()).await;
        let found: Vec<Bytes> = found.into_iter().map(Result::unwrap).collect();
        let sizes: Vec<usize> = found.iter().map(Bytes::len).collect();
        assert_eq!(
            sizes,
            [1, 30_000, 45_005, 70_000, 16_384, 3, 200_000, 9],
            "large ones by themselves"
        );
        assert!(found.concat() == whole);
        let small = vec![Ok(Bytes::from_static(&[7; 1000])); 200];
        let sizes: Vec<usize> = pieces(small)
            .await
            .into_iter()
            .map(|piece| piece.unwrap().len())
            .collect();
        assert_eq!(sizes, [65_000, 65_000, 65_000, 5_000]);
    }

    #[tokio::test]
    async fn an_error_comes_through_and_ends_it() {
        let messages = vec![
            Ok(Bytes::from_static(b"row")),
            Err("broken"),
            Ok(Bytes::new()),
        ];
        assert_eq!(pieces(messages).await, [Err("broken")]);
    }
}

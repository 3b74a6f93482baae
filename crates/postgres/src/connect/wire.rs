//! The bytes between the server and `tokio-postgres`: the socket, TLS, and the cut of large messages
//! ([`Pieces`]).
//!
//! The cut belongs above TLS, which `tokio-postgres` begins itself. So the stream it is given only
//! hands over the answer to its request for TLS, one byte that is no message, and gives the socket back
//! when TLS begins on it.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::pieces::Pieces;

/// Contents of a `CopyData` message as the client sees it. It holds a few of them.
const LARGEST: usize = 256 << 10;

/// Bytes that are read from the socket at once.
const READ: usize = 64 << 10;

/// More than the headers that are added to so many bytes.
const HEADERS: usize = 16;

/// A socket of either kind.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl Socket for TcpStream {}
#[cfg(unix)]
impl Socket for tokio::net::UnixStream {}

/// What `tokio-postgres` reads from and writes to.
pub(crate) struct Wire<S> {
    inner: S,
    pieces: Pieces,
    /// Always [`READ`] bytes, so that no read pays for making it ready.
    buffer: Box<[u8]>,
    /// What was read into it and not passed on yet.
    unread: Range<usize>,
    /// Whether the answer to a request for TLS comes first.
    answer: bool,
}

impl<S> Wire<S> {
    /// `asks`: whether TLS is asked for.
    pub(crate) fn new(inner: S, asks: bool) -> Self {
        Self {
            inner,
            pieces: Pieces::new(LARGEST),
            buffer: vec![0; READ].into_boxed_slice(),
            unread: 0..0,
            answer: asks,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.answer {
            // Not a byte more: what follows may be TLS.
            let mut one = [0];
            let mut byte = ReadBuf::new(&mut one);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut byte))?;
            out.put_slice(byte.filled());
            this.answer = byte.filled().is_empty();
            return Poll::Ready(Ok(()));
        }
        loop {
            let came = this.buffer.get(this.unread.clone()).unwrap_or_default();
            // Only what can be filled is made ready to be written to.
            let room = out.remaining().min(came.len() + HEADERS);
            let (taken, written) = this.pieces.pass(came, out.initialize_unfilled_to(room));
            this.unread.start += taken;
            out.advance(written);
            if written > 0 {
                return Poll::Ready(Ok(()));
            }
            let plain = this.pieces.plain().min(out.remaining()).min(LARGEST);
            if plain >= READ {
                let mut direct = ReadBuf::new(out.initialize_unfilled_to(plain));
                ready!(Pin::new(&mut this.inner).poll_read(context, &mut direct))?;
                let read = direct.filled().len();
                out.advance(read);
                this.pieces.passed(read);
                return Poll::Ready(Ok(()));
            }
            let mut more = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut more))?;
            this.unread = 0..more.filled().len();
            if this.unread.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Wire<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Begins TLS beneath the cut of messages.
pub(crate) struct Beneath<T>(T);

/// What begins TLS on a socket, for that host.
pub(crate) fn tls_for<S: Socket>(
    connector: &MakeRustlsConnect,
    host: &str,
) -> Beneath<impl TlsConnect<S, Stream: Send, Error: Send, Future: Send> + Send + use<S>> {
    let made = MakeTlsConnect::<S>::make_tls_connect(&mut connector.clone(), host);
    Beneath(made.unwrap_or_else(|never| match never {}))
}

impl<S, T> TlsConnect<Wire<S>> for Beneath<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
{
    type Stream = Wire<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: Wire<S>) -> Self::Future {
        let beginning = self.0.connect(stream.inner);
        Box::pin(async move { beginning.await.map(|stream| Wire::new(stream, false)) })
    }
}

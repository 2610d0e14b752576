//! A TCP stream that notices when the other side stops taking data, and counts what comes from there.
//!
//! Main type: [`Link`]. Invariant: a write that makes no progress for the stall bound fails. The SSH library sends no
//! keepalive while it waits for the socket to take bytes, so a black hole would otherwise hold an upload for as long
//! as TCP itself retries (minutes).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A stream with a bound on how long a write may stall.
pub(super) struct Link<S> {
    stream: S,
    bound: Duration,
    stall: Pin<Box<Sleep>>,
    stalled: bool,
    heard: Arc<AtomicU64>,
}

impl<S> Link<S> {
    /// Wraps `stream`; a write that stalls for `bound` fails with [`io::ErrorKind::TimedOut`], and `heard` grows with
    /// every read that brings bytes.
    pub(super) fn new(stream: S, bound: Duration, heard: Arc<AtomicU64>) -> Self {
        Self {
            stream,
            bound,
            stall: Box::pin(tokio::time::sleep(bound)),
            stalled: false,
            heard,
        }
    }

    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stalled = false;
            return poll;
        }
        if !self.stalled {
            self.stalled = true;
            self.stall.as_mut().reset(Instant::now() + self.bound);
        }
        match self.stall.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, buffer);
        if matches!(poll, Poll::Ready(Ok(()))) && buffer.filled().len() > before {
            self.heard.fetch_add(1, Ordering::SeqCst);
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Link<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, poll)
    }
}

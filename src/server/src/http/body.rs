//! A request's body whose sender must not pause for long.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

/// Fails when nothing arrives for `pause`. It costs a timer only once it has to wait.
pub(super) struct TimedBody {
    inner: Incoming,
    pause: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, pause: Duration) -> Self {
        Self {
            inner,
            pause,
            waiting: None,
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) {
            this.waiting = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let pause = this.pause;
        let sleep = || Box::pin(tokio::time::sleep(pause));
        ready!(
            this.waiting
                .get_or_insert_with(sleep)
                .as_mut()
                .poll(context)
        );
        let error = io::Error::new(io::ErrorKind::TimedOut, "the body paused for too long");
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

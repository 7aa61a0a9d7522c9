//! The body of a request, which has to come in time, unless it is a stream. Until all of it has, its connection counts as idle, and gives way to others.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use millstream_net::Busy;
use tokio::time::{Sleep, sleep};

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body that fails if it takes too long to come.
pub struct TimelyBody<B = Incoming> {
    body: B,
    /// None where what reads the body sees to that.
    deadline: Option<Pin<Box<Sleep>>>,
    busy: Arc<Busy>,
}

impl<B: HttpBody> TimelyBody<B> {
    /// The body of the request that the connection is busy with once all of it is there.
    pub fn new(body: B, busy: Arc<Busy>) -> Self {
        if body.is_end_stream() {
            busy.has_come();
        }
        Self { body, deadline: Some(Box::pin(sleep(BODY_TIMEOUT))), busy }
    }

    /// A stream, which need not end.
    pub fn of_stream(body: B, busy: Arc<Busy>) -> Self {
        Self { deadline: None, ..Self::new(body, busy) }
    }
}

impl<B> HttpBody for TimelyBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if self.body.is_end_stream() || matches!(polled, Poll::Ready(None)) {
            self.busy.has_come();
        } else if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            let late = format!("the body was not there after {} seconds", BODY_TIMEOUT.as_secs());
            return Poll::Ready(Some(Err(late.into())));
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::body::Body;
    use futures::stream;
    use http_body_util::BodyExt as _;
    use millstream_net::Activity;

    use super::*;

    const PIECE: &[u8] = b"rows";

    fn busy() -> (Arc<Activity>, Arc<Busy>) {
        let activity = Activity::alone(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let busy = Arc::new(activity.request_begins());
        (activity, busy)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_busy_once_all_of_the_body_is_there() {
        let (activity, busy) = busy();
        let mut body = TimelyBody::new(Body::from_stream(stream::iter([PIECE, PIECE].map(Ok::<_, BoxError>))), busy);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), PIECE);
        assert!(!activity.is_busy());
        assert_eq!(body.collect().await.unwrap().to_bytes(), PIECE);
        assert!(!activity.is_busy(), "it was answered");
        let (activity, busy) = self::busy();
        let whole = TimelyBody::new(Body::empty(), busy);
        assert!(activity.is_busy());
        drop(whole);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_goes_on_for_as_long_as_it_likes() {
        let (activity, busy) = busy();
        let drops = stream::unfold(0, async |number| {
            sleep(BODY_TIMEOUT).await;
            (number < 5).then_some((Ok::<_, BoxError>(PIECE), number + 1))
        });
        let all = TimelyBody::of_stream(Body::from_stream(Box::pin(drops)), busy).collect().await.unwrap();
        assert_eq!((all.to_bytes(), activity.is_busy()), (PIECE.repeat(5).into(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_time_however_often_a_little_comes() {
        let (activity, busy) = busy();
        let drops = stream::unfold((), async |()| {
            sleep(BODY_TIMEOUT / 10).await;
            Some((Ok::<_, BoxError>(PIECE), ()))
        });
        let begin = tokio::time::Instant::now();
        let error = TimelyBody::new(Body::from_stream(Box::pin(drops)), busy).collect().await.unwrap_err();
        assert_eq!(error.to_string(), "the body was not there after 60 seconds");
        assert!(begin.elapsed() <= BODY_TIMEOUT + BODY_TIMEOUT / 10);
        assert!(!activity.is_busy());
    }
}

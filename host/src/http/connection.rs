//! One connection: hyper, its timers, and the two ends that hyper does not see.
//!
//! | limit | value |
//! |---|---|
//! | a request head, and the idle time before it | `Config::head_timeout` |
//! | headers of a request | 100 lines, `limits.requestHead` in all; beyond it 431 |
//! | a response's body | the function's deadline, also when the client reads slowly or not at all |
//! | the last bytes of a response, once all are known | the longer of that deadline and `Config::head_timeout` |
//! | a request body that nobody reads | [`super::received`] |
//! | a client that leaves before its request body was read | noticed within [`PEER_CHECK`] |
//! | a client that sends on and does not read, while the guest waits for it to read | [`super::flow`], noticed within [`PEER_CHECK`] |
//! | a client that sends on after a connection's last response | [`LINGER`], so that it can read the response |
//!
//! A client that leaves behind a pipelined request is noticed only at the deadline.

use super::Stop;
use super::exchange::Exchange;
use super::response_body::ResponseBody;
use super::service::Service;
use super::socket::Socket;
use super::timer::{Patience, PatientTimer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

/// How often an unread request's client is checked for having left (P4 allows a second).
const PEER_CHECK: Duration = Duration::from_millis(250);
/// How long a closing connection goes on reading: bytes that nobody reads would turn the close into a reset, which can
/// take the last response away from a client that still sends (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// Serves `socket` until the client leaves, a limit ends it, or `stop` says so.
pub async fn drive(socket: Socket, service: Arc<Service>, stop: Stop) {
    let exchange = Arc::new(Exchange::new(service.setup.config.head_timeout));
    let respond = service_fn(|request| {
        let (service, exchange) = (Arc::clone(&service), Arc::clone(&exchange));
        async move { Ok::<http::Response<ResponseBody>, Infallible>(service.respond(request, exchange).await) }
    });
    let head_limit = usize::try_from(service.setup.config.request_head).expect("256 KiB at the most");
    let mut connection = pin!(
        http1::Builder::new()
            .timer(PatientTimer)
            .header_read_timeout(service.setup.config.head_timeout)
            .max_header_size(head_limit)
            .serve_connection(TokioIo::new(socket.clone()), respond)
    );
    let mut stopping = pin!(stop.gently.cancelled());
    let mut cut_off = pin!(stop.now.cancelled());
    let mut asked_to_stop = false;
    let mut overdue = Patience::until(std::time::Instant::now() + service.setup.config.head_timeout);
    let mut check: Option<Interval> = None;
    // Since when the client has taken no byte of the response, and after which write.
    let mut blocked: Option<(Instant, u64)> = None;

    let finished = poll_fn(|cx| {
        // Looked at before hyper runs, and on the clock itself: a guest that streams to a willing client can use up the
        // task's whole budget, with which no timer fires.
        if exchange.deadline().is_some_and(|deadline| Instant::now() >= deadline)
            || cut_off.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(false);
        }
        if !asked_to_stop && stopping.as_mut().poll(cx).is_ready() {
            asked_to_stop = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(result.is_ok());
        }
        exchange.rest.poll_discard(cx);
        // hyper polls a body only when the client takes bytes, so the clock stands out here.
        if let Some(deadline) = exchange.deadline() {
            overdue.move_to(deadline.into_std());
            if Pin::new(&mut overdue).poll(cx).is_ready() {
                return Poll::Ready(false);
            }
        }
        if exchange.has_request_body() {
            let check = check.get_or_insert_with(|| {
                let mut check = interval(PEER_CHECK);
                check.set_missed_tick_behavior(MissedTickBehavior::Delay);
                check
            });
            while check.poll_tick(cx).is_ready() {
                if socket.is_peer_gone() {
                    return Poll::Ready(false);
                }
            }
            blocked = match (socket.blocked(), blocked) {
                ((false, _), _) => None,
                ((true, write), Some((since, last))) if write == last => Some((since, last)),
                ((true, write), _) => Some((Instant::now(), write)),
            };
            // Nobody wakes the connection of a client that does nothing but the check above.
            if let Some(flow) = exchange.flow()
                && let Err(full) = flow.poll_ahead(cx, blocked.map(|(since, _)| since.elapsed()), &service.room)
            {
                exchange.stall(full);
                return Poll::Ready(false);
            }
        }
        Poll::Pending
    });
    if finished.await {
        if !asked_to_stop {
            // Whether the client leaves within the time or not, the connection is over.
            let _ = timeout(LINGER, socket.discard_input()).await;
        }
    } else if exchange.ends_with_connection() {
        socket.reset_on_close();
    }
}

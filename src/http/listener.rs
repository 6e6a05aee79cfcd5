//! The accept loop: connections with limits in number and time, each served as HTTP/1.1.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt as _};

use super::connections::{ConnectionAdmission, ConnectionLimits, ConnectionPlace, ConnectionTable, OverflowConnection};

/// Time for the head of a request on a connection without a place.
const OVERFLOW_HEADER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time after which a connection without a place is closed.
const OVERFLOW_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest wait after an accept that failed for want of something, which doubles each time.
const ACCEPT_BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Mark of a request on a connection without a place: it is refused unless it is a probe.
#[derive(Clone, Copy, Debug)]
pub struct OverCapacity;

/// Serve the connections of `listener` with `service` until `closing` is cancelled and all of them have ended: idle ones at
/// once, the others after the answer in progress. A WebSocket is not waited for.
pub async fn serve_connections<S>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
    closing: CancellationToken,
) where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let table = ConnectionTable::new(limits);
    let tasks = TaskTracker::new();
    let mut backoff = ACCEPT_BACKOFF.0;
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                backoff = ACCEPT_BACKOFF.0;
                let _ = stream.set_nodelay(true);
                let (service, closing) = (service.clone(), closing.clone());
                match table.admit(peer.ip()) {
                    ConnectionAdmission::Placed(place) => {
                        let limit = table.limits().header_timeout;
                        tasks.spawn(serve_placed(
                            PlacedStream { stream, _place: place },
                            peer,
                            service,
                            limit,
                            closing,
                        ));
                    }
                    ConnectionAdmission::Overflow(place) => {
                        tasks.spawn(serve_overflow(stream, peer, service, place, closing));
                    }
                }
            }
            // The client was gone before its turn came.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                // No more open files, or no memory: the connection stays in the kernel's queue meanwhile.
                if backoff == ACCEPT_BACKOFF.0 {
                    tracing::error!(%error, "no connection can be accepted; trying again");
                }
                tokio::select! {
                    () = closing.cancelled() => break,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = (backoff * 2).min(ACCEPT_BACKOFF.1);
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn received(request: hyper::Request<Incoming>, peer: SocketAddr) -> Request {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

async fn serve_placed<S>(
    stream: PlacedStream,
    peer: SocketAddr,
    service: S,
    header_timeout: Duration,
    closing: CancellationToken,
) where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let service = service_fn(move |request| service.clone().oneshot(received(request, peer)));
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(header_timeout);
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service).with_upgrades());
    tokio::select! {
        // An error is the client's: it went away, was late, or did not speak HTTP.
        _ = connection.as_mut() => return,
        () = closing.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn serve_overflow<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    place: OverflowConnection,
    closing: CancellationToken,
) where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let service = service_fn(move |request| {
        let mut request = received(request, peer);
        request.extensions_mut().insert(OverCapacity);
        service.clone().oneshot(request)
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(OVERFLOW_HEADER_TIMEOUT).keep_alive(false);
    tokio::select! {
        _ = protocol.serve_connection(TokioIo::new(stream), service) => {}
        () = tokio::time::sleep(OVERFLOW_TIMEOUT) => {}
        () = place.displaced.cancelled() => {}
        () = closing.cancelled() => {}
    }
}

/// A connection that keeps its place for as long as it is open, also as a WebSocket.
struct PlacedStream {
    stream: TcpStream,
    _place: ConnectionPlace,
}

impl AsyncRead for PlacedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PlacedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }
}

//! The server of an instance: HTTP/1.1 on a port of 127.0.0.1, until it is told to end; calls under way are answered first.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// An answer with its whole body.
pub(crate) type WholeResponse = Response<Full<Bytes>>;

/// Connections at most. The service's proxy keeps a few; others on this host must not use up the descriptors.
const MAX_CONNECTIONS: usize = 512;
/// Time for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// Serve `answer` until `closing`, and then end when all calls under way are answered.
pub(crate) async fn serve_calls<F, A>(listener: TcpListener, answer: A, closing: CancellationToken)
where
    F: Future<Output = WholeResponse> + Send + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
{
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: some become free.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        let (answer, closing) = (answer.clone(), closing.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection = server.serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

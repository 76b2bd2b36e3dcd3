//! Connections: how many, how slow, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::PATIENCE;

/// Connections at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 512;

/// How long a client may take to send the head of a request.
const MAX_HEAD: Duration = Duration::from_secs(5);

/// Wait after an error that concerns no single connection, such as too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `end` resolves, then lets open requests finish for a while.
pub async fn serve(listener: TcpListener, router: Router, end: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("no connection was accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let connection = connect(stream, address, router.clone());
        let watched = graceful.watcher();
        tokio::spawn(async move {
            connection(watched).await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(PATIENCE, graceful.shutdown()).await;
}

type Done = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn connect(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
) -> impl FnOnce(hyper_util::server::graceful::Watcher) -> Done {
    // Small messages go at once: sliders are being moved.
    let _ = stream.set_nodelay(true);
    move |watcher| {
        Box::pin(async move {
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(address));
                let router = router.clone();
                async move {
                    Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
                }
            });
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(MAX_HEAD);
            builder.http2().timer(TokioTimer::new()).keep_alive_interval(MAX_HEAD);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!("{address}: {error}");
            }
        })
    }
}

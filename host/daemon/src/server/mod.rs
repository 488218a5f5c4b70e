//! HTTP and TLS.

mod console;
mod http;
mod tls;
mod transfer;
mod usage;

pub use tls::{Identity, identity};

use crate::app::App;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// Connections at a time. Fewer than threads for their requests, so that none waits for one.
const MOST_CONNECTIONS: usize = 400;
/// How long a client may take for its TLS greeting, and for a request's head.
const GREETING: Duration = Duration::from_secs(20);

/// Serves connections from a listener until the process ends; with TLS if there is an acceptor.
pub async fn serve(app: Arc<App>, listener: TcpListener, tls: Option<TlsAcceptor>, places: Arc<Semaphore>) {
    loop {
        // Its own places: a flood of connections waits in the kernel's queue.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                eprintln!("radond: cannot take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (app, tls) = (app.clone(), tls.clone());
        tokio::spawn(async move {
            // What goes wrong with one connection is that client's business.
            let _ = connection(app, stream, tls).await;
            drop(place);
        });
    }
}

/// Places for connections.
pub fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MOST_CONNECTIONS))
}

async fn connection(app: Arc<App>, stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match tls {
        None => requests(app, stream).await,
        Some(tls) => {
            let greeted = tokio::time::timeout(GREETING, tls.accept(stream)).await;
            requests(app, greeted.map_err(|_| io::ErrorKind::TimedOut)??).await
        }
    }
}

async fn requests(
    app: Arc<App>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let service = service_fn(move |request| http::answer(app.clone(), request));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(GREETING);
    server.serve_connection(TokioIo::new(stream), service).with_upgrades().await.map_err(io::Error::other)
}

//! The server: accepts connections, and limits their number, their requests and how long they may take to read.
//!
//! Passes the requests of connections to the routes. Everything has a limit: how many connect, how long a request may
//! take to come, how long an answer may wait for whoever asked to read it.
//!
//! A connection above the limit is still answered with 503, up to a second limit; beyond that it is closed at once.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

use super::answer::Refusal;
use super::device::Device;
use super::routes;
use super::security::{Guard, Peer};
use super::served_stream::ServedCameras;
use super::settings::HttpSettings;
use super::state::SharedState;
use crate::threads::{let_others_go_first, named};

/// How nice the thread is, of 19.
const NICE: i32 = 10;
/// The most connections that are served.
const MOST_CONNECTIONS: usize = 64;
/// The most beyond them that are told that there are too many.
const MOST_TURNED_AWAY: usize = 16;
/// How long the beginning of a request may take to come, and how long a connection may be idle.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// How long whoever asked may not read a byte of the answer.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// How much of an answer waits in this program, and how much in the system: a viewer who is slow is to see what is new.
const BUFFER_BYTES: usize = 64 << 10;
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Connections that wait to be let in.
const BACKLOG: u32 = 64;
/// How long answers that are under way may take when the server stops.
const GRACE: Duration = Duration::from_millis(300);
/// From one look at which cameras there are to the next.
const LOOK: Duration = Duration::from_millis(200);
/// Before the next connection is let in where one could not be: there are too many open files, say.
const REST: Duration = Duration::from_millis(100);
/// Threads for what takes its time: reading files, waiting for a change.
const HELPERS: usize = 6;

/// A server at work, for as long as this lives.
pub struct Server {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// When the address isn't to be had, the token can't be read or is none, or the system gives no thread.
    pub fn start(settings: &HttpSettings, cameras: ServedCameras, board_root: &Path) -> anyhow::Result<Self> {
        let guard = Guard::new(settings)?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(HELPERS)
            .thread_name("http-helper")
            .build()
            .context("cannot start the server for HTTP")?;
        let listener = listen(&runtime, settings.listen)
            .with_context(|| format!("cannot listen on {} for HTTP", settings.listen))?;
        let address = listener.local_addr().unwrap_or(settings.listen);
        if let Some(folder) = settings.missing_folder() {
            tracing::warn!("there is no folder {} yet to switch among vocabularies of", folder.display());
        }
        let (stop, stopped) = watch::channel(());
        let shared = SharedState::new(settings, guard, board_root, stopped);
        let device = Arc::new(Device::new(cameras, shared, routes::router));
        {
            // From here on, however late the thread gets a core.
            let _in_runtime = runtime.enter();
            device.look();
        }
        let work = move || {
            let_others_go_first(NICE);
            runtime.block_on(serve(listener, device));
            // What still asks the stream for something is not waited for.
            runtime.shutdown_background();
        };
        let thread = named("http").spawn(work).context("cannot start the server for HTTP")?;
        tracing::info!("the live page is at http://{address}/");
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl HttpSettings {
    /// Whether it could be served by these, and where that would be; nothing is listened on.
    ///
    /// # Errors
    /// When the token can't be read or is none, or there is no such folder.
    pub fn check(&self) -> anyhow::Result<String> {
        drop(Guard::new(self)?);
        if let Some(folder) = self.missing_folder() {
            let shown = folder.display();
            anyhow::bail!("the folder of vocabularies {shown} is not there: make it, or leave it out");
        }
        Ok(format!("http://{}/", self.listen))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the server for HTTP panicked; this is a bug in wordsight");
        }
    }
}

fn listen(runtime: &Runtime, address: SocketAddr) -> io::Result<TcpListener> {
    let _in_runtime = runtime.enter();
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The one before may have been at the same address a moment ago.
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets connections in until the server stops.
async fn serve(listener: TcpListener, device: Arc<Device>) {
    let state = Arc::clone(device.shared());
    let mut looks = tokio::time::interval(LOOK);
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let others = Arc::new(Semaphore::new(MOST_TURNED_AWAY));
    let (router, full) = (routes::of_device(Arc::clone(&device)), full());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.stopped() => break,
            // A camera that is new is followed whether or not somebody asks.
            _ = looks.tick() => {
                device.look();
                continue;
            }
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("cannot let a connection in: {error}");
                sleep(REST).await;
                continue;
            }
        };
        let place = Arc::clone(&places).try_acquire_owned().map(|place| (place, &router));
        let place = place.or_else(|_| Arc::clone(&others).try_acquire_owned().map(|place| (place, &full)));
        let Ok((place, router)) = place else { continue };
        let (router, state) = (router.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            converse(stream, peer, router, &state).await;
            drop(place);
        });
    }
    drop(listener);
    device.stop();
    drop(timeout(GRACE, places.acquire_many(MOST_CONNECTIONS as u32)).await);
}

/// What answers those for whom there is no place.
fn full() -> Router {
    Router::new().fallback(async || {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many are connected; try again later")
            .with(header::CONNECTION, "close")
    })
}

/// Answers the requests of one connection, one after the other.
async fn converse(stream: TcpStream, peer: SocketAddr, router: Router, state: &SharedState) {
    // Pictures are written whole, and what is small is to go at once.
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(WriteTimeout::new(stream, READS_WITHIN));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = state.stopped() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!("the connection of {peer} ends: {error}");
    }
}

/// A stream that fails when the other side doesn't read for too long.
struct WriteTimeout<S> {
    stream: S,
    longest: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> WriteTimeout<S> {
    fn new(stream: S, longest: Duration) -> Self {
        Self { stream, longest, waiting: None }
    }

    /// What a write came to, or an error if one has come to nothing for too long.
    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let longest = self.longest;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(longest)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side doesn't read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(shut, context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn whoever_does_not_read_is_given_up_and_whoever_reads_slowly_is_not() {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(16);
            let mut near = WriteTimeout::new(near, Duration::from_millis(50));
            near.write_all(&[0; 16]).await.unwrap();
            let error = near.write_all(&[0; 16]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(far);

            // A machine that is busy for longer than the timeout makes one try fail, and not all.
            let mut tries = Vec::new();
            while tries.len() < 5 && !tries.contains(&true) {
                tries.push(writes_to_slow_reader().await.is_ok());
            }
            assert!(tries.contains(&true), "no try of 5 went well");
        });
    }

    /// To a reader that takes twice the timeout in all, and a fifth of it for each part.
    async fn writes_to_slow_reader() -> io::Result<()> {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = WriteTimeout::new(near, Duration::from_millis(200));
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 16];
            for _ in 0..10 {
                sleep(Duration::from_millis(40)).await;
                tokio::io::AsyncReadExt::read_exact(&mut far, &mut bytes).await?;
            }
            io::Result::Ok(())
        });
        near.write_all(&[0; 160]).await?;
        drop(near);
        reading.await.unwrap()
    }
}

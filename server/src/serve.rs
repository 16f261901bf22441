use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use runtime::engine::{EngineHandle, EngineState};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::routes::service;
use crate::{Config, State, Worker};

/// Bytes of a request's head, far more than a client of this API sends.
const MAX_HEAD: usize = 32 * 1024;
/// What the last events of cancelled jobs may take to reach their readers.
const GRACE: Duration = Duration::from_secs(1);

/// Why the server gave up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No connection could be accepted for about a minute.
    #[error("cannot accept connections: {0}; is the limit of open files too low?")]
    Accept(#[source] io::Error),
}

/// Answers HTTP requests on `listener`, at first only that the model is being loaded, and puts them to `worker` once
/// it is sent. If its sender is dropped instead, there is nothing to serve, and the server returns.
///
/// After `shutdown` is done it refuses new jobs, lets running ones finish for [`Config::drain_timeout`], and returns
/// when the engine has ended and the answers are out, or that time and one second more have passed. Connections that
/// are still open then are closed. Where the engine fails, it returns within a second: a supervisor has to start the
/// process anew.
///
/// # Errors
/// [`ServeError::Accept`].
pub async fn run(
    listener: TcpListener,
    worker: oneshot::Receiver<Worker>,
    mut config: Config,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let drain_timeout = config.drain_timeout;
    let state = Arc::new(State {
        worker: OnceLock::new(),
        keys: Keys::new(&std::mem::take(&mut config.api_keys)),
        config,
        metrics: Metrics::new(),
        shutdown: Notify::new(),
        started: Instant::now(),
    });
    let mut server =
        Server { state: state.clone(), connections: JoinSet::new(), graceful: GracefulShutdown::new() };

    let mut shutdown = pin!(async {
        tokio::select! {
            () = shutdown => {}
            () = state.shutdown.notified() => {}
        }
    });
    let loaded = async {
        tokio::select! {
            worker = worker => worker.ok(),
            () = &mut shutdown => None,
        }
    };
    let Some(worker) = server.accept(&listener, loaded).await? else {
        drop(listener);
        let _ = tokio::time::timeout(GRACE, server.graceful.shutdown()).await;
        return Ok(());
    };
    let engine = worker.engine.clone();
    state.worker.get_or_init(|| Arc::new(worker));

    let stop = async {
        tokio::select! {
            () = &mut shutdown => drain_timeout,
            // There is nothing left to wait for.
            () = reaches(&engine, &[EngineState::Failed]) => Duration::ZERO,
        }
    };
    let drain_timeout = server.accept(&listener, stop).await?;
    info!(
        event = "shutdown",
        worker_id = state.config.worker_id,
        drain_timeout_sec = drain_timeout.as_secs()
    );
    engine.shutdown(drain_timeout);
    let drain = async {
        // Until the last job has ended, clients are told to go elsewhere, and probes that it drains.
        server.accept(&listener, reaches(&engine, &[EngineState::Stopped, EngineState::Failed])).await?;
        drop(listener);
        server.graceful.shutdown().await;
        Ok(())
    };
    tokio::time::timeout(drain_timeout.saturating_add(GRACE), drain).await.unwrap_or(Ok(()))
}

struct Server {
    state: Arc<State>,
    /// Dropped with the server, which closes them.
    connections: JoinSet<()>,
    graceful: GracefulShutdown,
}

impl Server {
    /// Serves until `stop` is done, and gives its answer.
    async fn accept<T>(
        &mut self,
        listener: &TcpListener,
        stop: impl Future<Output = T>,
    ) -> Result<T, ServeError> {
        let service = service(self.state.clone());
        let mut http = http1::Builder::new();
        // The timeout also ends connections that are kept open without a request.
        http.timer(TokioTimer::new())
            .header_read_timeout(self.state.config.read_timeout)
            .max_buf_size(MAX_HEAD);
        let room = self.state.config.max_connections;
        let mut stop = pin!(stop);
        let mut failures = 0;
        loop {
            tokio::select! {
                // In this order: a worker that is there already is there for the first request.
                biased;
                answer = &mut stop => return Ok(answer),
                Some(_) = self.connections.join_next() => {}
                accepted = listener.accept(), if self.connections.len() < room => match accepted {
                    Ok((stream, _)) => {
                        failures = 0;
                        // A token is a small packet that must not wait for the next; without the option it is late.
                        let _ = stream.set_nodelay(true);
                        let connection = http.serve_connection(TokioIo::new(stream), service.clone());
                        let connection = self.graceful.watch(connection);
                        // Its errors are a client's: a broken head, a connection cut.
                        self.connections.spawn(async move { drop(connection.await) });
                    }
                    // Most often this process is out of file descriptors, which running streams give back.
                    Err(error) if failures < 60 => {
                        failures += 1;
                        warn!(event = "error", message = %error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    Err(error) => return Err(ServeError::Accept(error)),
                },
            }
        }
    }
}

/// Waits until the engine is in one of the states.
pub(crate) async fn reaches(engine: &EngineHandle, states: &[EngineState]) {
    while !states.contains(&engine.status().state) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

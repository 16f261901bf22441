use std::sync::Arc;

use warp::Reply;
use warp::http::{HeaderMap, StatusCode};

use crate::State;
use crate::error::ApiError;
use crate::wire::ShutdownBody;

/// `POST /shutdown`: what SIGTERM does, where it was enabled. The body is not read.
pub(crate) async fn shutdown(state: Arc<State>, headers: HeaderMap) -> Result<impl Reply, ApiError> {
    state.keys.check(&headers)?;
    if !state.config.allow_shutdown {
        return Err(ApiError::ShutdownDisabled);
    }
    state.shutdown.notify_one();
    let answer = warp::reply::json(&ShutdownBody { status: "draining" });
    Ok(warp::reply::with_status(answer, StatusCode::ACCEPTED))
}

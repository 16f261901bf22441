use std::sync::Arc;

use runtime::engine::JobKey;
use tokio_stream::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::{Buf, Reply};

use crate::State;
use crate::error::ApiError;
use crate::wire::CancelBody;
use crate::{body, validate};

/// `POST /cancel`: 202 for every well-formed id, known or not, so that cancelling twice is no error. Ids are the client's own:
/// nobody cancels what another key submitted.
pub(crate) async fn cancel(
    state: Arc<State>,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Result<impl Reply, ApiError> {
    let client = state.keys.check(&headers)?;
    let body = body::read(body, state.config.body_limit, state.config.read_timeout).await?;
    let job_id = validate::cancel(&body).map_err(ApiError::Invalid)?;
    if let Some(worker) = state.worker.get() {
        worker.engine.cancel(&JobKey { client, id: job_id.clone() });
    }
    let answer = warp::reply::json(&CancelBody { status: "cancelling", job_id });
    Ok(warp::reply::with_status(answer, StatusCode::ACCEPTED))
}

use std::pin::pin;
use std::time::Duration;

use tokio_stream::{Stream, StreamExt};
use warp::Buf;

use crate::error::ApiError;

/// Reads a whole body of at most `limit` bytes, which must arrive within `patience`.
pub(crate) async fn read(
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    limit: usize,
    patience: Duration,
) -> Result<Vec<u8>, ApiError> {
    let mut body = pin!(body);
    let read = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = body.next().await {
            let mut chunk = chunk.map_err(|_| ApiError::BodyBroken)?;
            if chunk.remaining() > limit - bytes.len() {
                return Err(ApiError::BodyTooLarge { limit });
            }
            while chunk.has_remaining() {
                let part = chunk.chunk();
                bytes.extend_from_slice(part);
                chunk.advance(part.len());
            }
        }
        Ok(bytes)
    };
    tokio::time::timeout(patience, read).await.unwrap_or(Err(ApiError::BodyTimeout(patience)))
}

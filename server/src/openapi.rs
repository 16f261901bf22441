use warp::Reply;
use warp::http::header::CONTENT_TYPE;

/// The API in words for programs, OpenAPI 3.1.
const DOCUMENT: &str = include_str!("../openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> impl Reply {
    warp::reply::with_header(DOCUMENT, CONTENT_TYPE, "application/json")
}

//! An HTTP client whose answers are read as they come.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::LoadFault;
use super::args::BaseUrl;

/// What is read of a body that is no stream.
const MOST: usize = 1 << 20;
/// What a question beside the load may take.
const TO_ANSWER: Duration = Duration::from_secs(10);

/// Connections to one server, kept and used again.
#[derive(Clone)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: BaseUrl,
    key: Option<HeaderValue>,
}

/// Why there was no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientFault {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("{0}")]
    Transport(String),
}

impl Client {
    pub(super) fn new(url: BaseUrl, key: Option<&str>) -> Result<Client, LoadFault> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        let http = legacy::Client::builder(TokioExecutor::new()).build(https.wrap_connector(tcp));
        let key = key.map(|key| HeaderValue::from_str(&format!("Bearer {key}"))).transpose();
        Ok(Client { http, url, key: key.map_err(|_| LoadFault::BadKey)? })
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Response<Incoming>, ClientFault> {
        self.send(Method::POST, path, Bytes::from(body.to_string())).await
    }

    /// The JSON that a path answers with.
    pub(super) async fn get(&self, path: &str) -> Result<Value, LoadFault> {
        let asked = async {
            let response =
                self.send(Method::GET, path, Bytes::new()).await.map_err(|fault| fault.to_string())?;
            let status = response.status();
            let body = Client::body(response).await.map_err(|fault| fault.to_string())?;
            if !status.is_success() {
                return Err(format!("the answer was {status}"));
            }
            serde_json::from_slice(&body).map_err(|_| "the answer is no JSON".to_owned())
        };
        let answer = tokio::time::timeout(TO_ANSWER, asked).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {} s", TO_ANSWER.as_secs())));
        answer.map_err(|problem| LoadFault::Asked { url: format!("{}{path}", self.url), problem })
    }

    /// A whole body, if it is not too long.
    pub(super) async fn body(response: Response<Incoming>) -> Result<Bytes, ClientFault> {
        let body = Limited::new(response.into_body(), MOST).collect().await;
        Ok(body.map_err(|error| ClientFault::Transport(error.to_string()))?.to_bytes())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientFault> {
        let uri: Uri = format!("{}{path}", self.url).parse().expect("a URL and a path");
        let mut request = Request::builder().method(method).uri(uri);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, key);
        }
        let request = request.body(Full::new(body)).expect("these headers are good");
        self.http.request(request).await.map_err(|error| {
            let told = root(&error);
            if error.is_connect() { ClientFault::Connect(told) } else { ClientFault::Transport(told) }
        })
    }
}

/// What lies under an error, which itself says little.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

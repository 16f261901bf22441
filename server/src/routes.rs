use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use tokio_stream::Stream;
use warp::filters::path::FullPath;
use warp::http::HeaderMap;
use warp::reply::Response;
use warp::{Buf, Filter, Rejection, Reply};

use crate::apply_template::apply_template;
use crate::cancel::cancel;
use crate::correlation::CorrelationId;
use crate::detokenize::detokenize;
use crate::error::ApiError;
use crate::execute::execute;
use crate::health::{health, ready};
use crate::metrics::metrics;
use crate::openapi::openapi;
use crate::shutdown::shutdown;
use crate::tokenize::tokenize;
use crate::{State, openai};

/// Before a model's name.
const MODELS: &str = "/v1/models/";

/// A path that the worker answers to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Route {
    Execute,
    Cancel,
    Completions,
    ChatCompletions,
    Models,
    Model,
    Tokenize,
    Detokenize,
    ApplyTemplate,
    Health,
    Ready,
    Metrics,
    Shutdown,
    OpenApi,
}

impl Route {
    pub(crate) const ALL: [Route; 14] = [
        Route::Execute,
        Route::Cancel,
        Route::Completions,
        Route::ChatCompletions,
        Route::Models,
        Route::Model,
        Route::Tokenize,
        Route::Detokenize,
        Route::ApplyTemplate,
        Route::Health,
        Route::Ready,
        Route::Metrics,
        Route::Shutdown,
        Route::OpenApi,
    ];

    pub(crate) fn path(self) -> &'static str {
        match self {
            Route::Execute => "/execute",
            Route::Cancel => "/cancel",
            Route::Completions => "/v1/completions",
            Route::ChatCompletions => "/v1/chat/completions",
            Route::Models => "/v1/models",
            Route::Model => "/v1/models/{model}",
            Route::Tokenize => "/tokenize",
            Route::Detokenize => "/detokenize",
            Route::ApplyTemplate => "/apply-template",
            Route::Health => "/health",
            Route::Ready => "/ready",
            Route::Metrics => "/metrics",
            Route::Shutdown => "/shutdown",
            Route::OpenApi => "/openapi.json",
        }
    }

    /// The methods, as the header `Allow` names them.
    pub(crate) fn allow(self) -> &'static str {
        match self {
            Route::Execute
            | Route::Cancel
            | Route::Completions
            | Route::ChatCompletions
            | Route::Tokenize
            | Route::Detokenize
            | Route::ApplyTemplate
            | Route::Shutdown => "POST",
            Route::Models | Route::Model | Route::Health | Route::Ready | Route::Metrics | Route::OpenApi => {
                "GET, HEAD"
            }
        }
    }

    fn is_at(self, path: &str) -> bool {
        match self {
            // A model's name may have slashes.
            Route::Model => path.strip_prefix(MODELS).is_some_and(|name| !name.is_empty()),
            _ => self.path() == path,
        }
    }

    fn find(path: &str, method: &Method) -> Result<Route, ApiError> {
        let route = Route::ALL.into_iter().find(|route| route.is_at(path)).ok_or(ApiError::NotFound)?;
        let allow = route.allow();
        if allow.split(", ").any(|allowed| allowed == method.as_str()) {
            Ok(route)
        } else {
            Err(ApiError::MethodNotAllowed { allow })
        }
    }
}

/// All that the worker answers to. Every answer carries its correlation id.
pub(crate) fn service(
    state: Arc<State>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let routes = TowerToHyperService::new(warp::service(routes(state)));
    service_fn(move |mut request: Request<Incoming>| {
        let correlation = CorrelationId::of(request.headers());
        request.extensions_mut().insert(correlation.clone());
        let answer = routes.call(request);
        async move {
            let mut response = answer.await?;
            correlation.write_to(response.headers_mut());
            Ok(response)
        }
    })
}

fn routes(state: Arc<State>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    warp::any()
        .map(move || state.clone())
        .and(warp::method())
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(warp::ext::get::<CorrelationId>())
        .and(warp::body::stream())
        .then(answer)
}

async fn answer(
    state: Arc<State>,
    method: Method,
    path: FullPath,
    headers: HeaderMap,
    correlation: CorrelationId,
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
) -> Response {
    let route = match Route::find(path.as_str(), &method) {
        Ok(route) => route,
        Err(error) if path.as_str().starts_with("/v1/") => return openai::error(error),
        Err(error) => return error.into_response(),
    };
    match route {
        Route::Execute => execute(state, headers, correlation, body).await.into_response(),
        Route::Cancel => cancel(state, headers, body).await.into_response(),
        Route::Completions => openai::completions(state, headers, correlation, body).await.into_response(),
        Route::ChatCompletions => openai::chat(state, headers, correlation, body).await.into_response(),
        Route::Models => openai::models(state, headers).await,
        Route::Model => {
            let name = path.as_str().strip_prefix(MODELS).unwrap_or_default();
            openai::model(state, headers, name).await
        }
        Route::Tokenize => tokenize(state, headers, body).await.into_response(),
        Route::Detokenize => detokenize(state, headers, body).await.into_response(),
        Route::ApplyTemplate => apply_template(state, headers, body).await.into_response(),
        Route::Health => health(state).await.into_response(),
        Route::Ready => ready(state).await.into_response(),
        Route::Metrics => metrics(state, headers).await.into_response(),
        Route::Shutdown => shutdown(state, headers).await.into_response(),
        Route::OpenApi => openapi().await.into_response(),
    }
}

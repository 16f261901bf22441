use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use warp::reject::{Reject, Rejection};
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::State;
use crate::cancel::cancel;
use crate::correlation::CorrelationId;
use crate::error::ApiError;
use crate::execute::execute;
use crate::health::{health, ready};

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

fn routes(state: Arc<State>) -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone {
    let state = warp::any().map(move || state.clone());
    let post = || only("POST", |method| method == Method::POST);
    let get = || only("GET, HEAD", |method| method == Method::GET || method == Method::HEAD);

    let execute = warp::path!("execute")
        .and(post())
        .and(state.clone())
        .and(warp::ext::get::<CorrelationId>())
        .and(warp::body::stream())
        .then(execute);
    let cancel = warp::path!("cancel").and(post()).and(state.clone()).and(warp::body::stream()).then(cancel);
    let health = warp::path!("health").and(get()).and(state.clone()).then(health);
    let ready = warp::path!("ready").and(get()).and(state).then(ready);
    execute.or(cancel).or(health).or(ready).recover(explain)
}

/// Lets the methods of a path pass; `allow` names them to others.
fn only(
    allow: &'static str,
    accepts: fn(&Method) -> bool,
) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::method()
        .and_then(move |method: Method| {
            let allowed = accepts(&method).then_some(());
            std::future::ready(allowed.ok_or_else(|| warp::reject::custom(WrongMethod { allow })))
        })
        .untuple_one()
}

#[derive(Debug)]
struct WrongMethod {
    allow: &'static str,
}

impl Reject for WrongMethod {}

async fn explain(rejection: Rejection) -> Result<ApiError, Infallible> {
    Ok(match rejection.find() {
        Some(&WrongMethod { allow }) => ApiError::MethodNotAllowed { allow },
        None => ApiError::NotFound,
    })
}

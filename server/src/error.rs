use std::time::Duration;

use runtime::request::{JobError, SubmitError};
use warp::Reply;
use warp::http::StatusCode;
use warp::http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use warp::reply::Response;

use crate::wire::{ErrorBody, Fault, FaultsBody};

/// Why a request got no stream, or a stream no `end`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{} faults in the request", .0.len())]
    Invalid(Vec<Fault>),
    #[error("the model is being loaded")]
    ModelLoading,
    #[error(transparent)]
    Refused(SubmitError),
    #[error(transparent)]
    Job(JobError),
    #[error("the body exceeds {limit} bytes")]
    BodyTooLarge { limit: usize },
    #[error("the body did not arrive within {} s", .0.as_secs())]
    BodyTimeout(Duration),
    #[error("the body ended early")]
    BodyBroken,
    #[error("an API key is needed, in the header Authorization: Bearer KEY or in X-API-Key: KEY")]
    Unauthorized,
    #[error("this worker serves the model {served:?} and no other")]
    ModelNotFound { served: String },
    #[error("no such path; GET /openapi.json describes those there are")]
    NotFound,
    #[error("POST /shutdown is disabled; start the worker with --allow-shutdown to enable it")]
    ShutdownDisabled,
    #[error("this path answers to {allow} only")]
    MethodNotAllowed { allow: &'static str },
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            // The text was not empty, but the tokenizer found nothing in it.
            SubmitError::EmptyPrompt => ApiError::Invalid(vec![Fault::new("prompt", "non_empty", error)]),
            _ => ApiError::Refused(error),
        }
    }
}

impl ApiError {
    /// The code on the wire, its HTTP status, and whether the same request may succeed later.
    fn class(&self) -> (&'static str, StatusCode, bool) {
        match self {
            Self::Invalid(_) => ("INVALID_REQUEST", StatusCode::BAD_REQUEST, false),
            Self::ModelLoading => ("MODEL_LOADING", StatusCode::SERVICE_UNAVAILABLE, true),
            Self::Refused(error) => match error {
                SubmitError::QueueFull { .. } => ("QUEUE_FULL", StatusCode::TOO_MANY_REQUESTS, true),
                SubmitError::DuplicateJob(_) => ("DUPLICATE_JOB", StatusCode::CONFLICT, false),
                SubmitError::ContextOverflow { .. } => ("CONTEXT_OVERFLOW", StatusCode::BAD_REQUEST, false),
                SubmitError::InsufficientMemory { .. } => {
                    ("INSUFFICIENT_VRAM", StatusCode::SERVICE_UNAVAILABLE, true)
                }
                SubmitError::NotResident => {
                    ("VRAM_RESIDENCY_FAILED", StatusCode::INTERNAL_SERVER_ERROR, false)
                }
                SubmitError::Draining => ("DRAINING", StatusCode::SERVICE_UNAVAILABLE, true),
                // The tokenizer makes the ids, so a wrong one is this program's fault.
                SubmitError::EmptyPrompt | SubmitError::TokenOutOfRange { .. } | SubmitError::Failed(_) => {
                    ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR, false)
                }
            },
            Self::Job(error) => match error {
                // No registered status says that the client gave up; this one is nginx's custom.
                JobError::Cancelled => {
                    ("CANCELLED", StatusCode::from_u16(499).expect("499 is in range"), false)
                }
                JobError::Timeout(_) => ("INFERENCE_TIMEOUT", StatusCode::GATEWAY_TIMEOUT, true),
                JobError::OutOfMemory(_) => ("VRAM_OOM", StatusCode::SERVICE_UNAVAILABLE, true),
                JobError::Launch(_) => ("KERNEL_LAUNCH_FAILED", StatusCode::INTERNAL_SERVER_ERROR, false),
                JobError::NotResident(_) => {
                    ("VRAM_RESIDENCY_FAILED", StatusCode::INTERNAL_SERVER_ERROR, false)
                }
                JobError::Device(_) => ("CUDA_ERROR", StatusCode::INTERNAL_SERVER_ERROR, false),
                JobError::Internal(_) => ("INTERNAL", StatusCode::INTERNAL_SERVER_ERROR, false),
            },
            Self::BodyTooLarge { .. } => ("PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE, false),
            Self::BodyTimeout(_) => ("REQUEST_TIMEOUT", StatusCode::REQUEST_TIMEOUT, true),
            Self::BodyBroken => ("INVALID_REQUEST", StatusCode::BAD_REQUEST, false),
            Self::Unauthorized => ("UNAUTHORIZED", StatusCode::UNAUTHORIZED, false),
            Self::ModelNotFound { .. } => ("MODEL_NOT_FOUND", StatusCode::NOT_FOUND, false),
            Self::NotFound | Self::ShutdownDisabled => ("NOT_FOUND", StatusCode::NOT_FOUND, false),
            Self::MethodNotAllowed { .. } => ("METHOD_NOT_ALLOWED", StatusCode::METHOD_NOT_ALLOWED, false),
        }
    }

    /// The code on the wire.
    pub(crate) fn code(&self) -> &'static str {
        self.class().0
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.class().1
    }

    /// Whether this worker is to blame, not a client or a limit.
    pub(crate) fn is_ours(&self) -> bool {
        self.class().1 == StatusCode::INTERNAL_SERVER_ERROR
    }

    /// The JSON body, which is also the data of the `error` event.
    pub(crate) fn body(&self) -> ErrorBody {
        let (code, _, retriable) = self.class();
        ErrorBody { code, message: self.to_string(), retriable }
    }

    /// A queue moves within a second; a draining worker has to be replaced first, a model loaded.
    fn retry_after(&self) -> Option<&'static str> {
        match self {
            Self::Refused(SubmitError::QueueFull { .. }) => Some("1"),
            Self::ModelLoading | Self::Refused(SubmitError::Draining) => Some("5"),
            _ => None,
        }
    }
}

impl Reply for ApiError {
    fn into_response(self) -> Response {
        let (_, status, _) = self.class();
        let mut response = match &self {
            Self::Invalid(faults) => warp::reply::json(&FaultsBody { errors: faults }).into_response(),
            _ => warp::reply::json(&self.body()).into_response(),
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

use warp::Reply;
use warp::http::header::CONTENT_TYPE;

/// The API in words for programs, OpenAPI 3.1.
const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> impl Reply {
    warp::reply::with_header(DOCUMENT, CONTENT_TYPE, "application/json")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runtime::receipt::{self, Asked, Digest, Ids, Receipt};
    use runtime::request::{JobError, Request, StopReason, SubmitError};
    use serde_json::{Value, json};

    use super::*;
    use crate::error::ApiError;
    use crate::routes::Route;
    use crate::validate;

    fn document() -> Value {
        DOCUMENT.parse().unwrap()
    }

    /// A vocabulary with room for every `top_k`, and one token a text.
    fn accepts(body: &Value) -> bool {
        validate::execute(body.to_string().as_bytes(), usize::MAX, 2048, |_| vec![0]).is_ok()
    }

    #[test]
    fn it_names_the_routes_with_their_methods() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), Route::ALL.len());
        for route in Route::ALL {
            let methods: Vec<&String> = paths[route.path()].as_object().unwrap().keys().collect();
            let expected = if route.allow() == "POST" { "post" } else { "get" };
            assert_eq!(methods, [expected], "{route:?}");
        }
    }

    #[test]
    fn its_limits_are_those_of_the_checks() {
        let document = document();
        let schema = &document["components"]["schemas"]["ExecuteRequest"];
        assert_eq!(schema["required"], json!(["job_id", "prompt"]));
        assert_eq!(schema["additionalProperties"], false);
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.len(), 10);
        for (name, property) in properties {
            let with = |value: Value| {
                let mut body = json!({"job_id": "j", "prompt": "p"});
                body[name] = value;
                accepts(&body)
            };
            let (inside, outside) = ends(property);
            assert!(!outside.is_empty(), "{name} has limits");
            for value in inside {
                assert!(with(value.clone()), "{name} may be {value:.80}");
            }
            for value in outside {
                assert!(!with(value.clone()), "{name} may not be {value:.80}");
            }
        }
    }

    /// Values at the ends of what a schema allows, and just beyond.
    fn ends(schema: &Value) -> (Vec<Value>, Vec<Value>) {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let number = |name: &str| schema[name].as_number();
        if let Some(min) = number("minimum") {
            inside.push(json!(min));
            outside.push(match min.as_u64() {
                Some(whole) => json!(whole as i64 - 1),
                None => json!(min.as_f64().unwrap() - 1e-6),
            });
        }
        if let Some(min) = number("exclusiveMinimum") {
            outside.push(json!(min));
            inside.push(json!(min.as_f64().unwrap() + 1e-6));
        }
        if let Some(max) = number("maximum") {
            inside.push(json!(max));
            outside.push(match max.as_u64() {
                Some(whole) => whole.checked_add(1).map_or(json!(whole as f64 * 2.0), |over| json!(over)),
                None => json!(max.as_f64().unwrap() + 1e-6),
            });
        }
        let length = |name: &str| schema[name].as_u64().map(|length| length as usize);
        if let (Some(min), Some(max)) = (length("minLength"), length("maxLength")) {
            inside.extend([json!("é".repeat(min)), json!("é".repeat(max))]);
            outside.extend([json!("é".repeat(min - 1)), json!("é".repeat(max + 1))]);
        }
        if let Some(most) = length("maxItems") {
            let (good, bad) = ends(&schema["items"]);
            inside.push(json!(vec![good.last().unwrap(); most]));
            outside.push(json!(vec![good.last().unwrap(); most + 1]));
            outside.extend(bad.into_iter().map(|value| json!([value])));
        }
        (inside, outside)
    }

    /// Asserts that a schema has an object's fields, all of them required, at every depth.
    fn describes(schema: &Value, value: &Value) {
        let Some(fields) = value.as_object() else { return };
        let names: Vec<&String> = fields.keys().collect();
        let properties = schema["properties"].as_object().unwrap();
        assert_eq!(properties.keys().collect::<Vec<_>>(), names);
        assert_eq!((&schema["required"], &schema["additionalProperties"]), (&json!(names), &json!(false)));
        for (name, value) in fields {
            describes(&properties[name], value);
        }
    }

    #[test]
    fn it_has_every_field_of_a_receipt() {
        let receipt = Receipt {
            format: receipt::FORMAT,
            model: receipt::Model { name: String::new(), blake3: Digest([0; 32]) },
            ptx_sha256: String::new(),
            numerics: String::new(),
            numerics_version: 4,
            device: String::new(),
            request: Asked::of(&Request::default()),
            output: Ids::of(&[]),
            stop_reason: StopReason::MaxTokens,
        };
        let schema = &document()["components"]["schemas"]["Receipt"];
        describes(schema, &serde_json::to_value(receipt).unwrap());
        assert_eq!(schema["properties"]["format"]["const"], receipt::FORMAT);
    }

    #[test]
    fn it_names_every_code() {
        let document = document();
        let told =
            document["components"]["schemas"]["Error"]["properties"]["code"]["enum"].as_array().unwrap();
        let text = String::new;
        let mut codes: Vec<&str> = [
            JobError::Cancelled,
            JobError::Timeout(Duration::ZERO),
            JobError::OutOfMemory(text()),
            JobError::Launch(text()),
            JobError::NotResident(text()),
            JobError::Device(text()),
            JobError::Internal(text()),
        ]
        .into_iter()
        .map(ApiError::Job)
        .chain(
            [
                SubmitError::QueueFull { depth: 1 },
                SubmitError::DuplicateJob(text()),
                SubmitError::ContextOverflow { prompt: 1, max_tokens: 1, context: 1 },
                SubmitError::InsufficientMemory { needed: 1, total: 1, free: 1, usage: text() },
                SubmitError::NotResident,
                SubmitError::Draining,
                SubmitError::Failed(text()),
            ]
            .map(ApiError::Refused),
        )
        .chain([
            ApiError::Invalid(Vec::new()),
            ApiError::ModelLoading,
            ApiError::BodyTooLarge { limit: 1 },
            ApiError::BodyTimeout(Duration::ZERO),
            ApiError::BodyBroken,
            ApiError::Unauthorized,
            ApiError::NotFound,
            ApiError::ShutdownDisabled,
            ApiError::MethodNotAllowed { allow: "GET" },
        ])
        .map(|error| error.code())
        .collect();
        codes.sort_unstable();
        codes.dedup();
        let mut told: Vec<&str> = told.iter().filter_map(Value::as_str).collect();
        told.sort_unstable();
        assert_eq!(told, codes);
    }
}

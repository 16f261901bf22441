//! Finds the receipt in whatever a client has kept.

use runtime::receipt::{FORMAT, Receipt};
use serde_json::Value;

/// The receipt in a text: the receipt itself, an object that has one under `receipt`, or a stream of events whose data
/// have one.
///
/// # Errors
/// There is none, there are several, or it is not one that this program understands.
pub(super) fn receipt(text: &str) -> Result<Receipt, String> {
    let mut found = Vec::new();
    match serde_json::from_str(text) {
        Ok(whole) => collect(whole, &mut found),
        Err(_) => {
            let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
            data.filter_map(|data| serde_json::from_str(data).ok())
                .for_each(|data| collect(data, &mut found));
        }
    }
    found.dedup();
    match <[Value; 1]>::try_from(found) {
        Ok([receipt]) => parse(receipt),
        Err(found) if found.is_empty() => {
            Err("no receipt: neither one itself, nor the data of an `end` event, nor a stream that has one"
                .to_owned())
        }
        Err(found) => Err(format!("{} receipts: give one of them", found.len())),
    }
}

/// Receipts in a value.
fn collect(value: Value, found: &mut Vec<Value>) {
    match value {
        Value::Object(mut fields) => {
            if let Some(receipt) = fields.remove("receipt") {
                found.push(receipt);
            } else if fields.contains_key("numerics_version") {
                found.push(Value::Object(fields));
            } else {
                fields.into_iter().for_each(|(_, value)| collect(value, found));
            }
        }
        Value::Array(values) => values.into_iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

fn parse(receipt: Value) -> Result<Receipt, String> {
    // First of all: of another format, no other field need make sense.
    match receipt["format"].as_u64() {
        Some(format) if format == u64::from(FORMAT) => {}
        Some(format) => {
            return Err(format!("the receipt has format {format}, this program knows format {FORMAT}"));
        }
        None => return Err("not a receipt: it has no format".to_owned()),
    }
    serde_json::from_value(receipt).map_err(|error| format!("not a receipt of format {FORMAT}: {error}"))
}

#[cfg(test)]
mod tests {
    use runtime::receipt::{Asked, Digest, Ids, Model};
    use runtime::request::{Request, StopReason};
    use serde_json::json;

    use super::*;

    fn sample() -> Receipt {
        Receipt {
            format: FORMAT,
            model: Model { name: "m".to_owned(), blake3: Digest([1; 32]) },
            ptx_sha256: "00".to_owned(),
            numerics: "tc".to_owned(),
            numerics_version: 4,
            device: "cpu".to_owned(),
            request: Asked::of(&Request::default()),
            output: Ids::of(&[1, 2]),
            stop_reason: StopReason::EndOfSequence,
        }
    }

    fn written() -> Value {
        serde_json::to_value(sample()).unwrap()
    }

    #[test]
    fn it_is_found_in_all_that_a_client_may_keep() {
        let receipt = written();
        let end = json!({"tokens_out": 2, "receipt": receipt});
        let stream = format!(
            "event: started\ndata: {{\"seed\":1}}\n\n: keep-alive\n\nevent: token\ndata: {{\"t\":\"receipt\",\"i\":0}}\n\n\
             event: end\ndata: {end}\n\n"
        );
        for text in [
            receipt.to_string(),
            format!("{receipt:#}\n"),
            end.to_string(),
            json!({"format": 9, "choices": [{"text": "", "receipt": receipt}]}).to_string(),
            stream.clone(),
            stream.replace('\n', "\r\n").replace("data: ", "data:"),
            format!("{stream}data: [DONE]\n\n"),
            // The same in the last chunk and in a copy.
            json!([end, end]).to_string(),
        ] {
            assert_eq!(super::receipt(&text), Ok(sample()), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told() {
        let edited = |edit: &dyn Fn(&mut Value)| {
            let mut receipt = written();
            edit(&mut receipt);
            receipt.to_string()
        };
        let other = edited(&|receipt| receipt["output"]["tokens"] = json!(9));
        for (text, part) in [
            (String::new(), "no receipt"),
            ("{}".to_owned(), "no receipt"),
            ("event: end\ndata: {\"tokens_out\":2}\n\n".to_owned(), "no receipt"),
            (format!("[{},{other}]", written()), "2 receipts"),
            (edited(&|receipt| receipt["format"] = json!(2)), "format 2, this program knows format 1"),
            (edited(&|receipt| receipt["format"] = json!("1")), "no format"),
            (edited(&|receipt| receipt["request"]["best_of"] = json!(1)), "unknown field `best_of`"),
            (edited(&|receipt| receipt["output"]["blake3"] = json!("12")), "64 hexadecimal digits"),
            (
                edited(&|receipt| drop(receipt.as_object_mut().unwrap().remove("device"))),
                "missing field `device`",
            ),
            (json!({"receipt": 1}).to_string(), "no format"),
        ] {
            let told = super::receipt(&text).unwrap_err();
            assert!(told.contains(part), "no {part:?} in {told:?}");
        }
    }
}

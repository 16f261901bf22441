use uuid::Uuid;
use warp::http::{HeaderMap, HeaderName, HeaderValue};

/// `X-Correlation-ID`: follows a request through answers, events and log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CorrelationId(String);

const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

impl CorrelationId {
    /// The client's own, if it is 1 to 64 ASCII letters, digits and hyphens; else a fresh UUID v4.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(HEADER).and_then(|value| value.to_str().ok()) {
            Some(id) if is_valid(id) => Self(id.to_owned()),
            _ => Self(Uuid::new_v4().to_string()),
        }
    }

    /// Puts it on an answer.
    pub(crate) fn write_to(&self, headers: &mut HeaderMap) {
        let value = HeaderValue::from_str(&self.0).expect("letters, digits and hyphens make a header value");
        headers.insert(HEADER, value);
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &[u8]) -> CorrelationId {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(sent).unwrap());
        CorrelationId::of(&headers)
    }

    #[test]
    fn a_valid_id_is_taken() {
        assert_eq!(id_for(b"Abc-123").as_str(), "Abc-123");
        assert_eq!(id_for(&[b'x'; 64]).as_str().len(), 64);
    }

    #[test]
    fn any_other_id_is_replaced_by_a_uuid() {
        for sent in [&b""[..], &[b'x'; 65], b"a b", b"a_b", b"a\"b", b"\xff\xfe"] {
            let id = id_for(sent);
            assert_eq!(Uuid::parse_str(id.as_str()).unwrap().get_version_num(), 4, "sent {sent:?}");
        }
        assert_ne!(CorrelationId::of(&HeaderMap::new()), CorrelationId::of(&HeaderMap::new()));
    }
}

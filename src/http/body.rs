//! What a request brings along: read whole, and neither long nor long in coming.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method, StatusCode, header};

use super::answer::Refusal;

/// The path of photographs.
pub const PHOTOGRAPHS: &str = "/api/detect";
/// The path of examples, which are photographs too.
pub const EXAMPLES: &str = "/api/examples";
/// What the paths of vocabularies begin with.
const VOCABULARIES: &str = "/api/vocabularies/";

/// Whether a request brings along what is longer than all else, and is read when there is a place for it.
pub fn is_long(method: &Method, path: &str) -> bool {
    (method == Method::POST && [PHOTOGRAPHS, EXAMPLES].contains(&path))
        || (method == Method::PUT && path.starts_with(VOCABULARIES))
}

/// How much a request may bring along, and in what time.
pub struct BodyLimit {
    bytes: usize,
    within: Duration,
    too_long: &'static str,
}

/// Of all requests but photographs and vocabularies.
pub const SMALL: BodyLimit = BodyLimit {
    bytes: 64 << 10,
    within: Duration::from_secs(10),
    too_long: "a request brings no more than 64 KiB along",
};

/// Of photographs: a camera's largest JPEG, over a slow network.
pub const PHOTOGRAPH: BodyLimit = BodyLimit {
    bytes: 16 << 20,
    within: Duration::from_secs(30),
    too_long: "a photograph has 16 MiB at most: send a smaller one, which is made smaller for the student anyway",
};

/// Of vocabularies: twenty thousand words, and as much again.
pub const VOCABULARY: BodyLimit = BodyLimit {
    bytes: 64 << 20,
    within: Duration::from_secs(60),
    too_long: "a vocabulary has 64 MiB at most here: put a larger one into the folder",
};

impl BodyLimit {
    /// All that a request brings along.
    ///
    /// # Errors
    /// When it is too long, too long in coming, or breaks off.
    pub async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        self.take(headers, body, |data| bytes.extend_from_slice(data)).await?;
        Ok(bytes)
    }

    /// Reads what comes with a request that is refused, and forgets it: a client reads no answer while it still sends.
    pub async fn discard(&self, headers: &HeaderMap, body: Body) {
        // What is too long to be read is the refusal's affair no more.
        drop(self.take(headers, body, |_| ()).await);
    }

    async fn take(&self, headers: &HeaderMap, body: Body, keep: impl FnMut(&[u8])) -> Result<(), Refusal> {
        let too_long = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, self.too_long);
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > self.bytes as u64) {
            return Err(too_long());
        }
        let closing = |refusal: Refusal| refusal.with(header::CONNECTION, "close");
        match tokio::time::timeout(self.within, self.collect(body, keep)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(closing(too_long())),
            Ok(Err(_)) => {
                let broken = "what the request brings along breaks off";
                Err(closing(Refusal::new(StatusCode::BAD_REQUEST, broken)))
            }
            Err(_) => {
                let late = "what the request brings along takes too long to come";
                Err(closing(Refusal::new(StatusCode::REQUEST_TIMEOUT, late)))
            }
        }
    }

    /// Whether a body was not too long.
    async fn collect(&self, mut body: Body, mut keep: impl FnMut(&[u8])) -> Result<bool, axum::Error> {
        let mut left = self.bytes;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            if let Ok(data) = frame?.into_data() {
                match left.checked_sub(data.len()) {
                    Some(rest) => left = rest,
                    None => return Ok(false),
                }
                keep(&data);
            }
        }
        Ok(true)
    }
}

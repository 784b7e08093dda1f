//! The live page: one file, which brings its style and its script along and asks for nothing from elsewhere.
//!
//! The content security policy admits the page's own style and script by their hashes. Markup that comes into the page
//! another way, in a vocabulary's word, is not run.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::answer::with_type;

/// The page.
const PAGE: &str = include_str!("page.html");

/// What goes with the page.
pub struct Page {
    policy: HeaderValue,
}

impl Default for Page {
    fn default() -> Self {
        let hash = |tag| BASE64_STANDARD.encode(Sha256::digest(inside(tag).as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        );
        // A hash is made of characters that headers may have; what can't be is the strictest there is.
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { policy }
    }
}

impl Page {
    /// The page, which shows what its script asks for.
    pub fn response(&self) -> Response {
        let mut response = with_type(StatusCode::OK, "text/html; charset=utf-8", PAGE);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

/// The text of the page's one element of a kind.
fn inside(tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let start = PAGE.find(&open).map_or(PAGE.len(), |at| at + open.len());
    PAGE[start..].find(&close).map_or("", |length| &PAGE[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere_and_has_nothing_that_its_policy_forbids() {
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
        assert!(inside("script").len() > 1_000 && inside("style").len() > 1_000);
        for forbidden in
            [" style=", " onclick=", " onload=", "innerHTML", "src=\"http", "href=\"http", "@import", "url("]
        {
            assert!(!PAGE.contains(forbidden), "{forbidden}");
        }
    }
}

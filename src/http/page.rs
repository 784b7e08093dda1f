//! The live pages: each is one file, which brings its style and its script along and asks for nothing from elsewhere.
//! They are put together of `page/` when the program is compiled.
//!
//! The content security policy admits the page's own style and script by their hashes. Markup that comes into the page
//! another way, in a vocabulary's word, is not run.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use super::answer::with_type;

/// A page of what both have and what is its own, files of `page/`: its body, its styles, its scripts.
macro_rules! page {
    ($body:literal, [$($style:literal),*], [$($script:literal),*]) => {
        concat!(
            include_str!("page/head.html"),
            "<style>\n",
            include_str!("page/common.css"),
            $(include_str!(concat!("page/", $style)),)*
            "</style>\n</head>\n",
            include_str!(concat!("page/", $body)),
            include_str!("page/login.html"),
            "<script>\n",
            include_str!("page/common.js"),
            $(include_str!(concat!("page/", $script)),)*
            "</script>\n</body>\n</html>\n",
        )
    };
}

/// The page of one camera.
const PAGE: &str = page!(
    "camera/page.html",
    ["camera/style.css"],
    [
        "camera/seen.js",
        "camera/status.js",
        "camera/look.js",
        "camera/examples.js",
        "camera/zones.js",
        "camera/board.js",
        "camera/connection.js"
    ]
);
/// The page with all cameras.
const CAMERAS_PAGE: &str = page!("cameras/page.html", ["cameras/style.css"], ["cameras/page.js"]);

/// A page, and what goes with it.
pub struct Page {
    text: &'static str,
    policy: HeaderValue,
}

impl Page {
    /// The page of one camera.
    pub fn of_camera() -> Self {
        Self::of(PAGE)
    }

    /// The page with all cameras.
    pub fn of_all() -> Self {
        Self::of(CAMERAS_PAGE)
    }

    fn of(text: &'static str) -> Self {
        let hash = |tag| BASE64_STANDARD.encode(Sha256::digest(inside(text, tag).as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src 'self' data:; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        );
        // A hash is made of characters that headers may have; what can't be is the strictest there is.
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self { text, policy }
    }

    /// The page, which shows what its script asks for.
    pub fn response(&self) -> Response {
        let mut response = with_type(StatusCode::OK, "text/html; charset=utf-8", self.text);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
        response
    }
}

/// The text of the page's one element of a kind.
fn inside(page: &'static str, tag: &str) -> &'static str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let start = page.find(&open).map_or(page.len(), |at| at + open.len());
    page[start..].find(&close).map_or("", |length| &page[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere_and_has_nothing_that_its_policy_forbids() {
        let forbidden =
            [" style=", " onclick=", " onload=", "innerHTML", "src=\"http", "href=\"http", "@import", "url("];
        for page in [PAGE, CAMERAS_PAGE] {
            assert_eq!(page.matches("<script").count(), 1);
            assert_eq!(page.matches("<style").count(), 1);
            assert!(inside(page, "script").len() > 1_000 && inside(page, "style").len() > 1_000);
            for forbidden in forbidden {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
            // They are also served below /cameras/NAME/.
            assert!(!page.contains("\"/api/") && !page.contains("`/api/"), "an absolute address");
        }
    }
}

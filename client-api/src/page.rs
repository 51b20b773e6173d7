//! Pages of the server's own, for what clients can't do themselves.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) title: &'a str,
    /// What may happen in it (`Content-Security-Policy`).
    pub(crate) policy: &'static str,
    /// HTML.
    pub(crate) content: &'a str,
}

impl Page<'_> {
    /// The answer that is the page.
    pub(crate) fn answer(self, status: StatusCode) -> Response<Body> {
        let Self {
            title,
            policy,
            content,
        } = self;
        let html = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <style>body{{font:1.1em sans-serif;max-width:30em;margin:2em auto;padding:0 1em}}</style></head>\
             <body>{content}</body></html>"
        );
        let mut response = Response::new(Body::from(html));
        *response.status_mut() = status;
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-store"),
            (HeaderName::from_static("x-content-type-options"), "nosniff"),
        ];
        for (name, value) in headers {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A text as a part of a page.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// Whether a policy lets a script run, by its hash.
#[cfg(test)]
pub(crate) fn allows(policy: &str, script: &str) -> Result<(), String> {
    use sha2::{Digest, Sha256};

    let hash = Sha256::digest(script.as_bytes()).to_vec();
    let hash = ruma::serde::Base64::<ruma::serde::base64::Standard>::new(hash);
    match policy.contains(&format!("script-src 'sha256-{hash}='; ")) {
        true => Ok(()),
        false => Err(hash.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_give_is_no_markup() {
        assert_eq!(
            escaped("<a href=\"x\">&'"),
            "&lt;a href=&quot;x&quot;&gt;&amp;&#39;"
        );
    }
}

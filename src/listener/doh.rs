//! The mapping between HTTP and DNS (RFC 8484), the same for HTTP/1.1, HTTP/2 and HTTP/3.

use std::{ops::Deref, sync::Arc};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, ALT_SVC, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};

use super::{HEADER_OCTETS, QUERY_MAX_OCTETS};
use crate::{
    handler::Answer,
    net::doh::{MEDIA_TYPE, decode_dns_variable, is_media_type},
};

/// How long a browser may remember that HTTP/3 is spoken here, as it stands in `alt-svc`.
const ALT_SVC_MAX_AGE_S: u32 = 86_400;

/// What a request's head asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A GET: the query's octets.
    Query(Vec<u8>),
    /// A POST: the query is the body; check it with [`body_query`].
    Body,
}

/// Why a request gets no DNS message back. The client is at fault, except for `Unavailable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No DNS query where one should be.
    BadRequest,
    /// Not the endpoint's path.
    NotFound,
    /// Neither GET nor POST.
    MethodNotAllowed,
    /// The body did not arrive in time.
    Timeout,
    /// A body longer than [`QUERY_MAX_OCTETS`].
    TooLarge,
    /// A body of another media type.
    MediaType,
    /// The client may not ask, or asks too often.
    TooMany,
    /// A bound of ours is reached.
    Unavailable,
}

impl Rejection {
    /// The status (RFC 8484, section 4.2.1; RFC 9110, section 15.5).
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A line for the person who tries the endpoint by hand.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::BadRequest => "no DNS query in ?dns= or in the body\n",
            Self::NotFound => "DNS over HTTPS is at another path, usually /dns-query\n",
            Self::MethodNotAllowed => "use GET with ?dns= or POST\n",
            Self::Timeout => "the body did not arrive in time\n",
            Self::TooLarge => "a DNS query is never this long\n",
            Self::MediaType => "the body must be application/dns-message\n",
            Self::TooMany => "not now, or not from this address\n",
            Self::Unavailable => "too much at once, try again\n",
        }
    }
}

/// Reads a request's head. `endpoint` is the path that is answered, `query` what follows the
/// question mark, `content_type` the header's value.
pub fn doh_request(
    endpoint: &str,
    method: &Method,
    path: &str,
    query: Option<&str>,
    content_type: Option<&[u8]>,
) -> Result<Request, Rejection> {
    if path != endpoint {
        return Err(Rejection::NotFound);
    }
    if method == Method::GET {
        return query_parameter(query).map(Request::Query);
    }
    if method != Method::POST {
        return Err(Rejection::MethodNotAllowed);
    }
    let media_type = content_type.and_then(|value| std::str::from_utf8(value).ok());
    match media_type {
        Some(found) if is_media_type(found) => Ok(Request::Body),
        _ => Err(Rejection::MediaType),
    }
}

/// Judges a POST's body by its length; what it says is for the handler to judge.
pub const fn body_query(body: &[u8]) -> Result<(), Rejection> {
    if body.len() < HEADER_OCTETS {
        Err(Rejection::BadRequest)
    } else if body.len() > QUERY_MAX_OCTETS {
        Err(Rejection::TooLarge)
    } else {
        Ok(())
    }
}

/// The octets behind `dns=`.
fn query_parameter(query: Option<&str>) -> Result<Vec<u8>, Rejection> {
    let value = query
        .unwrap_or_default()
        .split('&')
        .find_map(|parameter| parameter.strip_prefix("dns="))
        .ok_or(Rejection::BadRequest)?;
    let value = value.trim_end_matches("%3D");
    if value.len() > QUERY_MAX_OCTETS.div_ceil(3) * 4 {
        return Err(Rejection::TooLarge);
    }
    let query = decode_dns_variable(value).ok_or(Rejection::BadRequest)?;
    body_query(&query)?;
    Ok(query)
}

/// What the heads of one listener's responses say.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// The path that is answered, and may be changed meanwhile.
    path: Arc<ArcSwap<String>>,
    /// Where HTTP/3 is spoken, for those who came by TCP.
    alt_svc: Option<HeaderValue>,
}

impl Endpoint {
    /// `h3_port` is the port of HTTP/3 when the listener is a TCP one.
    pub(super) fn new(path: Arc<ArcSwap<String>>, h3_port: Option<u16>) -> Self {
        let alt_svc = h3_port.and_then(|port| {
            HeaderValue::try_from(format!("h3=\":{port}\"; ma={ALT_SVC_MAX_AGE_S}")).ok()
        });
        Self { path, alt_svc }
    }

    /// The path that is answered now.
    pub(super) fn path(&self) -> impl Deref<Target = Arc<String>> {
        self.path.load()
    }

    /// The head of a response that carries a DNS message: fresh for as long as its shortest TTL
    /// (RFC 8484, section 5.1).
    pub(super) fn reply(&self, answer: Answer, octets: usize) -> Response<()> {
        let mut response = self.head(StatusCode::OK, MEDIA_TYPE, octets);
        if let Ok(mut max_age) = HeaderValue::try_from(format!("max-age={}", answer.ttl_s)) {
            // No secret, but what HTTP/2 shall not remember: each TTL would have its entry in the
            // tables of both sides, and h2 compares a value with all it remembers of that name.
            max_age.set_sensitive(true);
            response.headers_mut().insert(CACHE_CONTROL, max_age);
        }
        response
    }

    /// The head of a response to a request that is no query.
    pub(super) fn rejection(&self, rejection: Rejection) -> Response<()> {
        let text = "text/plain; charset=utf-8";
        let mut response = self.head(rejection.status(), text, rejection.explanation().len());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if rejection == Rejection::MethodNotAllowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
        }
        response
    }

    fn head(&self, status: StatusCode, media_type: &'static str, octets: usize) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(octets));
        if let Some(alt_svc) = &self.alt_svc {
            headers.insert(ALT_SVC, alt_svc.clone());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use data_encoding::BASE64URL_NOPAD;

    use super::*;

    const QUERY: &[u8] = &[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];

    fn path(path: &str) -> Arc<ArcSwap<String>> {
        Arc::new(ArcSwap::from_pointee(path.to_owned()))
    }

    fn get(query: &str) -> Result<Request, Rejection> {
        doh_request("/dns-query", &Method::GET, "/dns-query", Some(query), None)
    }

    fn post(content_type: &str) -> Result<Request, Rejection> {
        let content_type = Some(content_type.as_bytes());
        doh_request(
            "/dns-query",
            &Method::POST,
            "/dns-query",
            None,
            content_type,
        )
    }

    #[test]
    fn a_get_carries_its_query_with_or_without_padding() {
        let encoded = BASE64URL_NOPAD.encode(QUERY);
        let wanted = Ok(Request::Query(QUERY.to_vec()));
        assert_eq!(get(&format!("dns={encoded}")), wanted);
        assert_eq!(get(&format!("a=b&dns={encoded}=&c")), wanted);
        assert_eq!(get(&format!("dns={encoded}%3D")), wanted);
    }

    #[test]
    fn a_get_without_a_query_is_a_bad_request() {
        for query in [
            "", "dns", "dns=", "dns=****", "dns=AAAA", "DNS=AAAA", "dns=A+/=",
        ] {
            assert_eq!(get(query), Err(Rejection::BadRequest), "{query}");
        }
        let long = BASE64URL_NOPAD.encode(&[0; QUERY_MAX_OCTETS + 1]);
        assert_eq!(get(&format!("dns={long}")), Err(Rejection::TooLarge));
        let longest = BASE64URL_NOPAD.encode(&[0; QUERY_MAX_OCTETS]);
        assert!(get(&format!("dns={longest}")).is_ok());
    }

    #[test]
    fn only_dns_messages_are_posted() {
        assert_eq!(post("application/dns-message"), Ok(Request::Body));
        assert_eq!(post("Application/DNS-Message; x=y"), Ok(Request::Body));
        assert_eq!(post("application/dns-json"), Err(Rejection::MediaType));
        assert_eq!(
            doh_request("/dns-query", &Method::POST, "/dns-query", None, None),
            Err(Rejection::MediaType)
        );
    }

    #[test]
    fn other_paths_and_methods_are_told_apart() {
        let ask = |method: &Method, path| doh_request("/dns-query", method, path, None, None);
        assert_eq!(ask(&Method::GET, "/"), Err(Rejection::NotFound));
        assert_eq!(ask(&Method::PUT, "/dns-query/"), Err(Rejection::NotFound));
        assert_eq!(
            ask(&Method::PUT, "/dns-query"),
            Err(Rejection::MethodNotAllowed)
        );
        assert_eq!(
            ask(&Method::HEAD, "/dns-query"),
            Err(Rejection::MethodNotAllowed)
        );
    }

    #[test]
    fn heads_say_what_caches_and_clients_need() {
        let endpoint = Endpoint::new(path("/dns-query"), Some(8443));
        let reply = endpoint.reply(Answer { ttl_s: 60 }, 100);
        assert_eq!(reply.headers()[CACHE_CONTROL], "max-age=60");
        assert!(reply.headers()[CACHE_CONTROL].is_sensitive());
        assert_eq!(reply.headers()[CONTENT_LENGTH], "100");
        assert_eq!(reply.headers()[ALT_SVC], "h3=\":8443\"; ma=86400");
        let rejection = Endpoint::new(path("/"), None).rejection(Rejection::MethodNotAllowed);
        assert_eq!(rejection.status(), 405);
        assert_eq!(rejection.headers()[ALLOW], "GET, POST");
        assert!(!rejection.headers().contains_key(ALT_SVC));
    }

    proptest! {
        #[test]
        fn any_parameter_gives_a_bounded_query_or_a_rejection(query in "\\PC*") {
            if let Ok(Request::Query(octets)) = get(&query) {
                prop_assert!((HEADER_OCTETS..=QUERY_MAX_OCTETS).contains(&octets.len()));
            }
        }

        #[test]
        fn every_query_in_bounds_survives(octets in proptest::collection::vec(any::<u8>(), 12..300)) {
            let encoded = BASE64URL_NOPAD.encode(&octets);
            prop_assert_eq!(get(&format!("dns={encoded}")), Ok(Request::Query(octets)));
        }
    }
}

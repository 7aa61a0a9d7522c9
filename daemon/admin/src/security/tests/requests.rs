//! What is looked at in a head.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use proptest::prelude::*;

use super::*;
use crate::security::refusal::Refusal;
use crate::security::requests::{Silent, bearer, check_content_type, check_host, check_site, cookie, protect};

#[test]
fn requests_are_for_this_daemon_only() {
    let hosts = ["millstream.example.com".to_owned()];
    let check = |uri: &str, headers: &str| check_host(&head("GET", uri, headers), &from_afar(), &hosts);
    for good in [
        "localhost",
        "localhost:8181",
        "LocalHost",
        "127.0.0.1:1",
        "127.7.7.7",
        "[::1]:8181",
        "192.0.2.1",
        "192.0.2.1:9000",
        "[::ffff:192.0.2.1]:80",
        "millstream.example.com",
        "Millstream.Example.Com:443",
        "millstream.example.com.",
    ] {
        assert_eq!(check("/", &format!("host: {good}")), Ok(()), "{good}");
        assert_eq!(check(&format!("https://{good}/"), ""), Ok(()), "{good}");
    }
    for wrong in [
        "example.com",
        "evil.millstream.example.com",
        "millstream.example.com.evil.example",
        "localhost.evil.example",
        "192.0.2.2",
        "[::2]",
        "user@localhost",
        "localhost:8181@evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "",
        "a b",
        "localhost/",
        "[::1",
        "2130706433",
        "0x7f.1",
    ] {
        let refused = check("/", &format!("host: {wrong}")).unwrap_err();
        assert!(refused.status() == StatusCode::MISDIRECTED_REQUEST && refused.code() == "wrong-host", "{wrong}");
    }
    assert!(check("/", "").is_err() && check("/", "host: localhost\nhost: localhost").is_err());
    assert!(check("http://localhost/", "host: evil.example").is_err());
    assert!(check("http://evil.example/", "host: localhost").is_err());
    assert_eq!(check_host(&head("GET", "/", ""), &from_process(true), &hosts), Ok(()));
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let encrypted = Arrival { encrypted: true, ..from_afar() };
    let check = |method: &str, headers: &str, arrival: &Arrival, silent| {
        check_site(&head(method, "/", &format!("host: a.example:8181\n{headers}")), arrival, silent).is_ok()
    };
    let cases = [
        ("sec-fetch-site: same-origin", true, true),
        ("sec-fetch-site: none", true, true),
        ("sec-fetch-site: same-site", false, false),
        ("sec-fetch-site: cross-site", false, false),
        ("sec-fetch-site: cross-site\norigin: http://a.example:8181", false, false),
        ("sec-fetch-site: none\nsec-fetch-site: cross-site", false, false),
        ("origin: http://a.example:8181", true, false),
        ("origin: https://a.example:8181", true, true),
        ("origin: https://A.example:8181", true, true),
        ("origin: http://a.example", false, false),
        ("origin: http://b.example:8181", false, false),
        ("origin: http://a.example:8181\norigin: http://a.example:8181", false, false),
        ("origin: null", false, false),
        ("origin: ftp://a.example:8181", false, false),
        ("referer: http://a.example:8181/", false, false),
    ];
    for (headers, plain, over_tls) in cases {
        assert_eq!(check("POST", headers, &from_afar(), Silent::Refused), plain, "{headers}");
        assert_eq!(check("DELETE", headers, &encrypted, Silent::Refused), over_tls, "{headers}");
        assert!(check("GET", headers, &from_afar(), Silent::Refused), "it changes nothing");
    }
    assert!(check("PUT", "", &from_afar(), Silent::Allowed), "no browser has sent it");
    assert!(!check("PUT", "origin: http://b.example", &from_afar(), Silent::Allowed));
}

#[test]
fn forms_are_not_taken() {
    let check = |headers: &str| check_content_type(&head("POST", "/", headers));
    for good in [
        "",
        "content-length: 0",
        "content-type: application/json",
        "content-type: Application/TOML; charset=UTF-8",
        "content-type: application/json;charset=\"utf-8\"\ncontent-length: 7",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
    for wrong in [
        "content-length: 7",
        "transfer-encoding: chunked",
        "content-type: text/plain",
        "content-type: application/jsonp",
        "content-type: application/x-www-form-urlencoded",
        "content-type: multipart/form-data; boundary=a",
        "content-type: ",
        "content-type: text/plain; application/json",
        "content-type: application/json; charset=utf-7",
        "content-type: application/json\ncontent-type: text/plain",
        "content-type: application/json, text/plain",
    ] {
        assert_eq!(check(wrong), Err(Refusal::WrongContentType), "{wrong}");
    }
}

#[test]
fn who_asks_is_said_in_one_way() {
    let of = |headers: &str| bearer(&head("GET", "/", headers).headers).map(|token| token.map(str::to_owned));
    assert_eq!(of(""), Ok(None));
    for good in ["Bearer abc", "bearer abc", "BEARER  abc"] {
        assert_eq!(of(&format!("authorization: {good}")), Ok(Some("abc".to_owned())), "{good}");
    }
    for wrong in ["abc", "Basic abc", "Bearer", "Bearer  ", "Bearerabc"] {
        let refused = of(&format!("authorization: {wrong}")).unwrap_err();
        assert_eq!((refused.status(), refused.code()), (StatusCode::UNAUTHORIZED, "wrong-credentials"), "{wrong}");
    }
    assert!(of("authorization: Bearer abc\nauthorization: Bearer abd").is_err());
}

#[test]
fn a_cookie_is_there_once_or_not() {
    let of = |headers: &str| cookie(&head("GET", "/", headers).headers, "millstream").map(str::to_owned);
    assert_eq!(of("cookie: a=b; millstream=x; c=d").as_deref(), Some("x"));
    assert_eq!(of("cookie: a=b\ncookie: millstream=x").as_deref(), Some("x"));
    for none in ["", "cookie: a=b", "cookie: millstream", "cookie: xmillstream=x", "cookie: millstream=x; millstream=y"]
    {
        assert_eq!(of(none), None, "{none}");
    }
}

#[test]
fn answers_tell_browsers_to_take_nothing_from_elsewhere() {
    let mut headers = HeaderMap::new();
    protect(&mut headers);
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(
        policy.contains("frame-ancestors 'none'") && policy.ends_with("require-trusted-types-for 'script'"),
        "{policy}"
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(headers[name], value);
    }
    headers.insert("cache-control", HeaderValue::from_static("max-age=60"));
    protect(&mut headers);
    assert_eq!((headers["cache-control"].as_bytes(), headers.len()), (&b"max-age=60"[..], 6));
    assert!(!headers.keys().any(|name| name.as_str().starts_with("access-control")), "no other origin reads answers");
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let later = Refusal::TooMany(std::time::Duration::from_millis(1500));
    assert_eq!(later.header(), Some(("retry-after", "2".to_owned())));
    assert!(later.is_retryable() && !Refusal::NotSignedIn.is_retryable());
}

/// Headers that somebody might think of.
fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        Just("host"),
        Just("origin"),
        Just("sec-fetch-site"),
        Just("authorization"),
        Just("cookie"),
        Just("content-type"),
        Just("content-length"),
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::sample::select(vec![
            "localhost",
            "Bearer ms_",
            "millstream=",
            "application/json;",
            "http://[",
            "null",
            "::1",
            "@"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    let pairs = prop::collection::vec((name, value), 0..6);
    pairs.prop_map(|pairs| {
        let pairs = pairs.into_iter().filter_map(|(name, value)| {
            Some((axum::http::HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?))
        });
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| _ = headers.append(name, value));
        headers
    })
}

proptest! {
    #[test]
    fn any_head_is_looked_at(headers in any_headers(), encrypted in any::<bool>()) {
        let mut parts = head("POST", "/", "");
        parts.headers = headers;
        let arrival = Arrival { encrypted, ..from_afar() };
        let _ = bearer(&parts.headers);
        let _ = cookie(&parts.headers, "millstream");
        let _ = check_content_type(&parts);
        // Whatever passes says exactly one host, and comes from nowhere or from that host.
        if check_host(&parts, &arrival, &[]).is_ok() {
            prop_assert_eq!(parts.headers.get_all("host").iter().count(), 1);
        }
        if check_site(&parts, &arrival, Silent::Refused).is_ok() {
            let site = parts.headers.get("sec-fetch-site");
            prop_assert!(site.is_some_and(|site| site == "none" || site == "same-origin") || parts.headers.contains_key("origin"));
        }
    }
}

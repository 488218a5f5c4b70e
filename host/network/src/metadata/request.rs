//! An HTTP request's head (RFC 9112): method and path, nothing else. Answers end the connection.

use std::fmt::Write as _;

/// A longer head is refused.
pub const LONGEST: usize = 8 << 10;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether the content is wanted, or (`HEAD`) only its length.
    pub body: bool,
    /// The path, without a query, its parts decoded; no part is empty, `.` or `..`.
    pub path: Vec<String>,
}

/// What becomes of bytes read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is not complete.
    More,
    /// A request.
    Request(Request),
    /// One that gets this status.
    Refused(u16),
}

/// Reads the head of a request.
pub fn parse(bytes: &[u8]) -> Parsed {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.or_else(|| bytes.windows(2).position(|w| w == b"\n\n"));
    let Some(head) = end.and_then(|end| bytes.get(..end)) else {
        return if bytes.len() >= LONGEST { Parsed::Refused(431) } else { Parsed::More };
    };
    let Some(line) = head.split(|b| *b == b'\n').next().and_then(|l| std::str::from_utf8(l).ok()) else {
        return Parsed::Refused(400);
    };
    let words: Vec<&str> = line.trim_end_matches('\r').split(' ').collect();
    let &[method, target, version] = words.as_slice() else { return Parsed::Refused(400) };
    if !version.starts_with("HTTP/1.") {
        return Parsed::Refused(505);
    }
    let body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Parsed::Refused(405),
    };
    match path(target) {
        Some(path) => Parsed::Request(Request { body, path }),
        None => Parsed::Refused(400),
    }
}

fn path(target: &str) -> Option<Vec<String>> {
    // Proxies ask for the whole address.
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("", |at| rest.get(at..).unwrap_or_default()),
        None => target.starts_with('/').then_some(target)?,
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let parts: Option<Vec<String>> = path.split('/').filter(|p| !p.is_empty()).map(decode).collect();
    parts.filter(|all| !all.iter().any(|p| p == "." || p == ".."))
}

/// A part of a path: `%41` is `A`.
fn decode(part: &str) -> Option<String> {
    let mut out = Vec::with_capacity(part.len());
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16);
            let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().filter(|s| !s.contains(|c: char| c.is_control()))
}

/// An answer, head and content.
pub fn response(status: u16, content: &str, body: bool) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        505 => "HTTP Version Not Supported",
        _ => "Service Unavailable",
    };
    let mut out = String::new();
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{}",
        content.len(),
        if body { content } else { "" }
    );
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(path: &[&str]) -> Parsed {
        Parsed::Request(Request { body: true, path: path.iter().map(|p| (*p).to_owned()).collect() })
    }

    #[test]
    fn requests_are_read() {
        assert_eq!(
            parse(b"GET /latest//meta-data/?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            get(&["latest", "meta-data"])
        );
        assert_eq!(parse(b"GET http://h/a%41 HTTP/1.0\n\n"), get(&["aA"]));
        assert_eq!(parse(b"GET http://h HTTP/1.0\r\n\r\n"), get(&[]));
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: x\r\n"), Parsed::More);
        for (bad, status) in [
            ("PUT /latest/api/token HTTP/1.1", 405),
            ("GET /../x HTTP/1.1", 400),
            ("GET /%2e%2e/x HTTP/1.1", 400),
            ("GET /%0a HTTP/1.1", 400),
            ("GET /%4 HTTP/1.1", 400),
            ("GET x HTTP/1.1", 400),
            ("GET /", 400),
            ("GET / HTTP/2", 505),
        ] {
            assert_eq!(parse(format!("{bad}\r\n\r\n").as_bytes()), Parsed::Refused(status), "{bad}");
        }
        assert_eq!(parse(&[b'a'; LONGEST]), Parsed::Refused(431));
    }

    #[test]
    fn answers_have_their_length() {
        let text = String::from_utf8(response(200, "ä", true)).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("Content-Length: 2\r\n"));
        assert!(text.ends_with("\r\n\r\nä"));
        assert!(String::from_utf8(response(404, "gone", false)).unwrap().ends_with("\r\n\r\n"));
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), line in "(GET|HEAD) [/%.a0?]{0,20} HTTP/1.1\r\n\r\n") {
            let _ = parse(&bytes);
            if let Parsed::Request(request) = parse(line.as_bytes()) {
                prop_assert!(request.path.iter().all(|p| !p.is_empty() && p != ".."));
            }
        }
    }
}

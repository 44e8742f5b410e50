//! A minimal HTTP client: one request, one answer, one connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The limit on an answer, in bytes.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// The timeout of a connection, a read and a write.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The status code, such as 200.
    pub status: u16,
    /// The header lines, lower-case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The answer in words.
    pub fn shown(&self) -> String {
        format!("HTTP {}: {}", self.status, self.body)
    }
}

/// A request with an unread answer.
#[derive(Debug)]
pub struct Sent(TcpStream);

/// Sends one request and reads the answer.
///
/// # Errors
/// The connection fails or the answer is not HTTP.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    send(address, method, path, headers, body)?.answer()
}

/// Sends one request.
///
/// # Errors
/// The connection fails.
pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Sent> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("no answer from {address}: {error}"));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(told)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let extra: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{extra}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    Ok(Sent(stream))
}

/// Sends a GET.
///
/// # Errors
/// As [`request`].
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, &[], "")
}

impl Sent {
    /// Reads the answer.
    ///
    /// # Errors
    /// The connection fails or the answer is not HTTP.
    pub fn answer(self) -> io::Result<Answer> {
        let mut text = String::new();
        self.0.take(MAX_ANSWER).read_to_string(&mut text)?;
        parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("not an HTTP answer: {text:?}"),
            )
        })
    }
}

/// Parses the status and the body, which ends with the connection.
fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = parse("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (418, "{}"));
        assert!(answer.head.ends_with("\r\ncontent-length: 2"), "{answer:?}");
        assert_eq!(answer.shown(), "HTTP 418: {}");
    }

    #[test]
    fn anything_else_is_an_error() {
        for broken in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 2\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }

    #[test]
    fn a_request_is_sent_whole_and_the_answer_read_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{}") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            String::from_utf8(request).unwrap()
        });
        let answer = request(address, "POST", "/a", &[("x", "y")], "{}").unwrap();
        assert_eq!(answer.body, "hello");
        let head = format!(
            "POST /a HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 2\r\nx: y\r\n"
        );
        assert_eq!(server.join().unwrap(), format!("{head}\r\n{{}}"));
    }

    #[test]
    fn an_address_without_a_service_is_named() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = get(address, "/").unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("no answer from {address}: ")),
            "{error}"
        );
    }
}

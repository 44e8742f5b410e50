//! A minimal HTTP client: one request, one answer, one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The limit on an answer, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;
/// The timeout of a read.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The service's answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    /// The status code, such as 200.
    pub(super) status: u16,
    /// The content after the headers.
    pub(super) body: String,
}

impl Answer {
    /// The answer in words.
    pub(super) fn shown(&self) -> String {
        format!("HTTP {}: {}", self.status, self.body)
    }
}

/// Sends a request; each line of `headers` ends with CR LF.
///
/// # Errors
/// There is no answer, or an unparsable one.
pub(super) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Result<Answer, String> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange().map_err(|e| format!("no answer from {address}: {e}"))?;
    parse(&String::from_utf8_lossy(&answer))
}

/// Parses the status and the body; the body ends with the connection.
fn parse(answer: &str) -> Result<Answer, String> {
    let told = || format!("not an HTTP answer: {answer:?}");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(told)?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok());
    if head.to_ascii_lowercase().contains("\r\ntransfer-encoding:") {
        return Err("an answer in chunks, which this client does not read".into());
    }
    Ok(Answer {
        status: status.ok_or_else(told)?,
        body: body.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = parse("HTTP/1.1 418 I'm a teapot\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 418,
                body: "{}".into()
            }
        );
        assert_eq!(answer.shown(), "HTTP 418: {}");
    }

    #[test]
    fn anything_else_is_an_error() {
        for broken in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 2\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(parse(broken).is_err(), "{broken}");
        }
        assert!(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").is_err());
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
        assert_eq!(
            request(address, "POST", "/a", "x: y\r\n", "{}").unwrap().body,
            "hello"
        );
        let head = format!(
            "POST /a HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 2\r\nx: y\r\n"
        );
        assert_eq!(server.join().unwrap(), format!("{head}\r\n{{}}"));
    }

    #[test]
    fn nobody_there_is_said_with_the_address() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = request(address, "GET", "/", "", "").unwrap_err();
        assert!(
            error.starts_with(&format!("no answer from {address}: ")),
            "{error}"
        );
    }
}

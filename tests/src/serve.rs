//! The minimal HTTP server and executor that a test program needs.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

/// Answers each path with a text, each request on a thread of its own, on a port that the system chooses and the log names.
///
/// # Errors
/// No port is free.
pub fn serve(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> io::Result<()> {
    let answer = Arc::new(answer);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    tracing::info!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let answer = answer.clone();
        thread::spawn(move || stream.and_then(|stream| respond(stream, &*answer)));
    }
    Ok(())
}

fn respond(mut stream: TcpStream, answer: impl Fn(&str) -> String) -> io::Result<()> {
    let mut head = BufReader::new(stream.try_clone()?).lines();
    let first = head.next().transpose()?.unwrap_or_default();
    while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = answer(first.split(' ').nth(1).unwrap_or_default());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Polls a future until it is ready. It must be `Send`, as the executors of services require.
pub fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return answer;
        }
    }
}

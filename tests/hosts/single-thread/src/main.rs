//! Answers one HTTP request and ends; one thread does everything, and sends the request too.
//!
//! A trace of its system calls shows every thread, socket and file that linking or starting the agent would add. It runs until
//! its standard input ends, so that an agent in it can answer.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

/// A point, so that the crate is linked whether or not the agent is started.
#[debug_agent::patchable]
fn status() -> String {
    "ok".into()
}

fn main() -> io::Result<()> {
    #[cfg(feature = "agent")]
    let _agent = debug_agent::Agent::builder("single-thread").start_from_env();

    let listener = TcpListener::bind("127.0.0.1:0")?;
    // The listener's backlog takes the connection, so that one thread can be both ends.
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    answer(&listener)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert!(answer.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{answer}");
    // It needs libm, as many services do. The agent's code needs it too; otherwise the loader would open one more file with the
    // agent than without.
    assert_eq!(black_box(0.0_f64).sin(), 0.0);
    io::stdin().read_to_end(&mut Vec::new())?;
    println!("ok single-thread");
    Ok(())
}

fn answer(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut request = Vec::new();
    let mut part = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut part)?;
        request.extend(part.get(..length).unwrap_or_default());
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = format!("{{\"status\":\"{}\"}}", status());
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

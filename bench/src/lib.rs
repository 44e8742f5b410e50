//! Shared code of the programs under `benches/`. Each prints one number as its last line, smaller being better; `cargo xtask
//! bench` runs a measured program and its limit in turns and compares.
//!
//! A limit is a program of under 60 lines that does only what cannot be left out.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The closure behind the point of `patched_call` and in the bare engine of `patched_limit`: a comparison of texts, a branch and
/// some arithmetic, like a patch that an operator types in an incident.
pub const PATCH: &str = r#"|amount, customer| if customer == "anna" { amount * 9 / 10 } else { amount }"#;
/// The number of measured calls of the patched function: about 200 ms, because the agent ends a patch that uses more than 500 ms
/// in 10 s.
pub const PATCHED_CALLS: u32 = 40_000;
/// The number of calls before those, to warm the caches.
pub const WARM_CALLS: u32 = 2_000;
/// The number of measured round trips.
const ROUNDS: usize = 1_000;
/// The number of round trips before those.
const WARM_ROUNDS: usize = 100;
/// The bytes that `eval_limit` writes at once and sends each way: a read-only eval writes 1,230 bytes to the log in total; its
/// call has 220 bytes and its reply 410.
pub const RECORD: usize = 600;

/// The first number on the command line; cargo adds other words.
pub fn number_argument() -> Option<u64> {
    std::env::args().skip(1).find_map(|word| word.parse().ok())
}

/// Makes round trips and returns the median of their times, in microseconds.
///
/// # Errors
/// The error of the first round trip that fails.
pub fn median_round<E>(mut round: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    let mut times = Vec::with_capacity(WARM_ROUNDS + ROUNDS);
    for _ in 0..WARM_ROUNDS + ROUNDS {
        let started = Instant::now();
        round()?;
        times.push(started.elapsed());
    }
    Ok(median_micros(times.split_off(WARM_ROUNDS)).unwrap_or(f64::NAN))
}

/// The median of the times, in microseconds; `None` without times.
pub fn median_micros(mut times: Vec<Duration>) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e6)
}

/// Keeps all cores busy until it is dropped.
#[derive(Debug)]
#[must_use = "the cores are idle again once it is dropped"]
pub struct Busy(Arc<AtomicBool>);

/// Starts to keep all cores busy, with one thread each.
pub fn busy() -> Busy {
    let stop = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    for _ in 0..cores {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    Busy(stop)
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client of the service that calls `GET /api/healthcheck` on one connection, a thousand times a second.
#[derive(Debug)]
pub struct Caller {
    stream: TcpStream,
    next: Instant,
}

impl Caller {
    /// Connects to the service.
    ///
    /// # Panics
    /// The service does not answer.
    #[expect(clippy::unwrap_used, reason = "what fails here fails the measurement")]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            next: Instant::now(),
        }
    }

    /// Waits for the next millisecond, calls, and returns the status of the answer.
    ///
    /// # Panics
    /// The answer is not HTTP.
    #[expect(clippy::unwrap_used, reason = "what fails here fails the measurement")]
    pub fn every_millisecond(&mut self) -> u16 {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        self.next = (self.next + Duration::from_millis(1)).max(Instant::now());
        self.stream
            .write_all(b"GET /api/healthcheck HTTP/1.1\r\nhost: bench\r\n\r\n")
            .unwrap();
        let (mut answer, mut chunk) = (Vec::new(), [0; 1024]);
        loop {
            let read = self.stream.read(&mut chunk).unwrap();
            answer.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&answer);
            if let Some(length) = complete(&text).filter(|length| *length <= answer.len()) {
                debug_assert_eq!(length, answer.len());
                return text
                    .split(' ')
                    .nth(1)
                    .and_then(|status| status.parse().ok())
                    .unwrap();
            }
        }
    }
}

/// The length of an answer, once its head has arrived.
fn complete(text: &str) -> Option<usize> {
    let head = text.find("\r\n\r\n")? + 4;
    let length = text.get(..head)?.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    Some(head + length.unwrap_or(0))
}

/// The median, the 99th percentile and the maximum of some times.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    half: Duration,
    most: Duration,
    all: Duration,
}

impl Late {
    /// Computes them from the times.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        let at = |share| at(share).copied().unwrap_or_default();
        Self {
            half: at(50),
            most: at(99),
            all: at(100),
        }
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        writeln!(
            f,
            "p50 {:.0}, max {:.0}, p99:",
            micros(self.half),
            micros(self.all)
        )?;
        write!(f, "{:.1}", micros(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        assert_eq!(complete("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"), None);
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(complete(whole), Some(whole.len()));
    }

    #[test]
    fn the_99th_of_100_is_not_the_last() {
        let times = (1..=1000).map(Duration::from_micros).collect();
        assert_eq!(Late::of(times).to_string(), "p50 501, max 1000, p99:\n991.0");
    }

    #[test]
    fn the_median_is_a_measured_time() {
        let millis = |millis| Duration::from_millis(millis);
        assert_eq!(median_micros(vec![millis(9), millis(1), millis(2)]), Some(2000.0));
        assert_eq!(median_micros(Vec::new()), None);
    }
}

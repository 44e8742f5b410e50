//! Measures appending and verifying on this machine: `cargo run --release -p debug-audit --example measure [DIR]`.
#![expect(clippy::print_stdout, reason = "printing is its purpose")]

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use debug_audit::{Entry, Log, SigningKey, Until, verify};

const ROUNDS: u32 = 2000;
const RECORDS: u32 = 300_000;

fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("measure-{}", std::process::id()));
    let measured = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    let key = SigningKey::generate("measure.example/log")?;
    let (log, _) = Log::open(dir, key.clone())?;
    log.append(vec![entry("boot")], Until::Durable).durable()?;
    let mut plain = File::create(dir.join("plain"))?;
    let line = format!("{}\n", entry("eval").body);
    report("one write and one fdatasync, no log", || {
        plain.write_all(line.as_bytes())?;
        Ok(plain.sync_data()?)
    })?;
    let written = |kind| {
        log.append(vec![entry(kind)], Until::Written)
            .written()
            .map(|_| ())
    };
    let durable = |kind| {
        log.append(vec![entry(kind)], Until::Durable)
            .durable()
            .map(|_| ())
    };
    report("one record written", || Ok(written("eval")?))?;
    report("one record durable", || Ok(durable("eval")?))?;
    report("one written, then one durable", || {
        written("eval")?;
        Ok(durable("outcome")?)
    })?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                (0..ROUNDS).all(|_| log.append(vec![entry("eval")], Until::Durable).durable().is_ok())
            });
        }
    });
    println!(
        "16 threads, each record durable: {:.0} a second",
        rate(16 * ROUNDS, begun.elapsed())
    );
    let begun = Instant::now();
    for _ in 0..RECORDS / 1000 {
        log.append(vec![entry("eval"); 1000], Until::Durable).durable()?;
    }
    println!(
        "in calls of 1000: {:.0} records a second",
        rate(RECORDS, begun.elapsed())
    );
    let (size, begun) = (log.size(), Instant::now());
    for index in 0..1000 {
        log.inclusion(index * size / 1000, size).ok_or("no proof")?;
        log.consistency(index * size / 1000, size).ok_or("no proof")?;
    }
    println!(
        "an inclusion and a consistency proof in {size} records: {:.1?}",
        begun.elapsed() / 1000
    );
    log.close(Duration::from_secs(10))?;
    let begun = Instant::now();
    let verified = verify(dir, Some(key.verifier()))?;
    println!(
        "verify: {:.0} records a second",
        verified.total as f64 / begun.elapsed().as_secs_f64()
    );
    let begun = Instant::now();
    Log::open(dir, key)?;
    println!("open: {:.1?} for {} records", begun.elapsed(), verified.total);
    Ok(())
}

/// A record of about 300 bytes.
fn entry(kind: &'static str) -> Entry {
    let body = format!(
        r#"{{"time":"2026-01-01T00:00:00Z","who":{{"id":"a","roles":["b","c"]}},"text":"{}"}}"#,
        "x".repeat(180)
    );
    Entry {
        kind,
        body,
        keep: false,
        terminal: false,
    }
}

fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

/// Prints the median and the 99th percentile.
fn report(what: &str, mut act: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        act()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    println!(
        "{what}: median {:.1?}, p99 {:.1?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    Ok(())
}

//! Prints the headers with which Slack would sign a request body, to try the events endpoint by hand:
//!
//! ```sh
//! printf %s "$BODY" | SLACK__SIGN=… slack-sign > headers
//! curl -H @headers --data "$BODY" http://localhost:8080/api/events
//! ```

use std::env;
use std::error::Error;
use std::io::{self, Read, Write};

use dienstplan::slack::{SIGNATURE_HEADER, TIMESTAMP_HEADER, sign};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let secret =
        env::var("SLACK__SIGN").map_err(|_| "SLACK__SIGN is not set; expected the signing secret")?;
    let mut body = Vec::new();
    io::stdin().read_to_end(&mut body)?;
    let now = Timestamp::now().as_second();
    let mut out = io::stdout();
    writeln!(out, "{TIMESTAMP_HEADER}: {now}")?;
    writeln!(out, "{SIGNATURE_HEADER}: {}", sign(&secret, now, &body))?;
    writeln!(out, "content-type: application/json")?;
    Ok(())
}

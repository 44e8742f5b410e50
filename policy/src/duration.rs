use std::time::Duration;

/// Reads a duration with a unit: `90s`, `5m`, `2h`, `500ms`, `1d`.
pub fn parse_duration(_text: &str) -> Result<Duration, InvalidDuration> {
    Err(InvalidDuration)
}
/// Writes a duration.
pub fn format_duration(_duration: Duration) -> String {
    String::new()
}
/// No duration.
#[derive(Debug)]
pub struct InvalidDuration;

//! The address of an agent, as it is typed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::ui::failure::CommandFailure;

/// The port of an agent if none is given; also the default of `debugctl certs init`.
pub(crate) const PORT: u16 = 7777;

/// Parses a target: an IP address or `localhost`, and a port, by default [`PORT`]. No name is looked up.
///
/// # Errors
/// The target is neither.
pub(crate) fn address(target: &str) -> Result<SocketAddr, CommandFailure> {
    let (host, port) = match target.strip_prefix("localhost") {
        Some("") => (Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), Some(PORT)),
        Some(rest) => {
            let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
            (Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
        }
        None => {
            let bare = target
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(target);
            (bare.parse().ok(), Some(PORT))
        }
    };
    let address = host.zip(port).map(|(host, port)| SocketAddr::new(host, port));
    address.or_else(|| target.parse().ok()).filter(|address| address.port() != 0).ok_or_else(|| {
        CommandFailure::usage(format!("`{target}` is not a target")).help(
            "give an address such as `localhost`, `127.0.0.1:7777` or `[::1]:7777`; without a port it is 7777, and names of \
             hosts are not looked up",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_and_never_looked_up() {
        for (target, expected) in [
            ("127.0.0.1:7777", "127.0.0.1:7777"),
            ("localhost:7777", "127.0.0.1:7777"),
            ("[::1]:1", "[::1]:1"),
            ("localhost", "127.0.0.1:7777"),
            ("127.0.0.1", "127.0.0.1:7777"),
            ("::1", "[::1]:7777"),
            ("[::1]", "[::1]:7777"),
            ("10.8.0.2", "10.8.0.2:7777"),
        ] {
            assert_eq!(address(target).unwrap().to_string(), expected);
        }
        for target in [
            "",
            "localhost:0",
            "localhost:",
            "localhost:x",
            "localhosts",
            "127.0.0.1:",
            "127.0.0.1:0",
            "[127.0.0.1]:1",
            "[::1",
            "example.org",
            "example.org:7777",
            "127.0.0.1:99999",
            ":1",
            "7777",
        ] {
            let failure = address(target).unwrap_err();
            assert_eq!(failure.exit as u8, 2, "{target}");
        }
    }
}

//! The socket: mutual TLS on loopback, framing, sessions and their bounds.

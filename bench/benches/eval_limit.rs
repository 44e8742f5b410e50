//! The limit of `eval_roundtrip`: an echo over mutual TLS 1.3 on loopback, P-256 certificates, TCP_NODELAY, that writes twice to
//! a file and syncs it once before it answers. Prints microseconds per echo.
//!
//! It leaves out the other work of an eval: parse, sign and verify, decide, run Rhai, hash and sign the log.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it prints or fails")]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use debug_bench::RECORD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (chain, key) = (
        vec![own.cert.der().clone()],
        PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()),
    );
    let (key, mut roots) = (PrivateKeyDer::from(key), RootCertStore::empty());
    roots.add(own.cert.der().clone())?;
    let (roots, provider) = (
        Arc::new(roots),
        Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    );
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13])?;
    let server = server
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())?;
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let client = client
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    socket.set_nodelay(true)?;
    std::thread::spawn(move || serve(&listener, server).unwrap());
    let connection = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost")?)?;
    let (mut tls, mut bytes) = (StreamOwned::new(connection, socket), [b'a'; RECORD]);
    let median = debug_bench::median_round(|| {
        tls.write_all(&bytes)?;
        tls.read_exact(&mut bytes)
    })?;
    println!("{median:.1}");
    Ok(())
}

fn serve(listener: &TcpListener, config: ServerConfig) -> Fallible<()> {
    let (socket, mut file) = (listener.accept()?.0, tempfile::NamedTempFile::new()?);
    socket.set_nodelay(true)?;
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::new(config))?, socket);
    let mut bytes = [0; RECORD];
    loop {
        tls.read_exact(&mut bytes)?;
        file.write_all(&bytes)?;
        file.write_all(&bytes)?;
        file.as_file().sync_data()?;
        tls.write_all(&bytes)?;
    }
}

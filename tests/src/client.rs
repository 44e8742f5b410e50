//! A client of the wire that does as it is told, including what an honest client never does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki_types::pem::PemObject as _;
use pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use serde_json::{Value, json};

/// The agent's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub Value);

impl Reply {
    /// The result of a successful call.
    ///
    /// # Panics
    /// The call failed.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert!(
            self.0.get("result").is_some(),
            "expected a result, got {}",
            self.0
        );
        &self.0["result"]
    }

    /// Whether the call succeeded.
    pub fn is_ok(&self) -> bool {
        self.0.get("result").is_some()
    }

    /// The stable code and the message of a failed call.
    ///
    /// # Panics
    /// The call succeeded.
    #[track_caller]
    pub fn failed(&self) -> (String, String) {
        assert!(self.0.get("error").is_some(), "expected an error, got {}", self.0);
        let error = &self.0["error"];
        (
            error["data"]["code"].as_str().unwrap_or_default().to_owned(),
            error["message"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// The advice of a failed call.
    pub fn help(&self) -> String {
        self.0["error"]["data"]["help"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The display text of an eval.
    #[track_caller]
    pub fn display(&self) -> &str {
        self.ok()["display"].as_str().unwrap()
    }
}

/// An identity for the handshake.
#[derive(Debug)]
pub struct Identity {
    /// The certificate chain, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads `cert.pem` and `key.pem` of an operator's folder.
    pub fn read(folder: &Path) -> Self {
        Self::from_files(&folder.join("cert.pem"), &folder.join("key.pem"))
    }

    /// Reads a certificate chain and a key.
    pub fn from_files(certificate: &Path, key: &Path) -> Self {
        let chain = CertificateDer::pem_file_iter(certificate)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        Self {
            chain,
            key: PrivateKeyDer::from_pem_file(key).unwrap(),
        }
    }

    /// Signs as an operator signs evals.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let key = provider()
            .key_provider
            .load_private_key(self.key.clone_key())
            .unwrap();
        let schemes = [
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
        ];
        key.choose_scheme(&schemes).unwrap().sign(message).unwrap()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Trusts any agent: this client tests the agent, not itself.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    identity: Option<Identity>,
    buffer: Vec<u8>,
    /// The origin from `ready`.
    pub origin: String,
    /// The counter of the next eval.
    pub counter: u64,
    next: u64,
    /// The notifications received so far.
    pub notifications: Vec<Value>,
}

/// The deadline of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

impl Client {
    /// Shakes hands and reads the first bytes, and does nothing more.
    ///
    /// # Errors
    /// The agent refuses, which a client learns from its first read.
    pub fn connect(address: SocketAddr, identity: Option<Identity>) -> io::Result<Self> {
        let provider = provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)));
        let mut config = match &identity {
            Some(id) => builder
                .with_client_auth_cert(id.chain.clone(), id.key.clone_key())
                .map_err(io::Error::other)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![debug_wire::ALPN.to_vec()];
        Self::connect_with(address, identity, config)
    }

    /// Like [`Client::connect`], with a TLS configuration of one's own.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn connect_with(
        address: SocketAddr,
        identity: Option<Identity>,
        config: ClientConfig,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(Arc::new(config), ServerName::IpAddress(address.ip().into()))
            .map_err(io::Error::other)?;
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = StreamOwned::new(connection, socket);
        let mut client = Self {
            stream,
            identity,
            buffer: Vec::new(),
            origin: String::new(),
            counter: 0,
            next: 0,
            notifications: Vec::new(),
        };
        let ready = client.read()?;
        client.origin = ready["params"]["origin"].as_str().unwrap_or_default().to_owned();
        client.notifications.push(ready);
        Ok(client)
    }

    /// Attaches as an honest client does.
    #[track_caller]
    pub fn attach(address: SocketAddr, operator: &Path) -> Self {
        let mut client = Self::connect(address, Some(Identity::read(operator))).unwrap();
        client
            .call(
                "hello",
                json!({ "version": "test", "checkpoint": 0, "attach": true }),
            )
            .ok();
        client
    }

    /// Sends raw bytes.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Reads one message.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn read(&mut self) -> io::Result<Value> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=at).collect();
                return serde_json::from_slice(&line).map_err(io::Error::other);
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    /// Reads up to the reply to a call, keeping notifications.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn reply(&mut self, id: u64) -> io::Result<Reply> {
        loop {
            let message = self.read()?;
            if message["id"] == id {
                return Ok(Reply(message));
            }
            self.notifications.push(message);
        }
    }

    /// The id of the next call.
    pub fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Calls a method and waits for the reply.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: Value) -> Reply {
        let id = self.start(method, params);
        self.reply(id).unwrap()
    }

    /// Calls a method without waiting.
    #[track_caller]
    pub fn start(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id();
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send_raw(format!("{line}\n").as_bytes()).unwrap();
        id
    }

    /// Signs a payload with a counter.
    pub fn sign(&self, counter: u64, payload: &str) -> String {
        STANDARD.encode(
            self.identity
                .as_ref()
                .unwrap()
                .sign(&self.message(counter, payload)),
        )
    }

    /// The bytes that are signed for an eval on this connection.
    pub fn message(&self, counter: u64, payload: &str) -> Vec<u8> {
        let mut exporter = [0; 32];
        self.stream
            .conn
            .export_keying_material(&mut exporter, b"EXPORTER-Channel-Binding", Some(b""))
            .unwrap();
        debug_wire::signature::eval_message(&self.origin, &exporter, counter, payload.as_bytes())
    }

    /// Starts an eval with the next counter and a valid signature.
    #[track_caller]
    pub fn start_payload(&mut self, payload: &Value) -> u64 {
        self.counter += 1;
        let payload = payload.to_string();
        let sig = self.sign(self.counter, &payload);
        self.start("eval", json!({ "payload": payload, "sig": sig }))
    }

    /// The parameters of an eval with a secret argument, with the next counter and a valid signature.
    pub fn secret_payload(&mut self, code: &str, name: &str, value: &str) -> Value {
        let salt = [7; 32];
        let commitment = debug_wire::signature::secret_commitment(&salt, value.as_bytes());
        let hex: String = commitment.iter().map(|byte| format!("{byte:02x}")).collect();
        let payload = json!({ "code": code, "secret_args": { name: hex }, "after": "revert" }).to_string();
        self.counter += 1;
        let sig = self.sign(self.counter, &payload);
        json!({
            "payload": payload, "sig": sig,
            "secrets": { name: { "value": value, "salt": STANDARD.encode(salt) } },
        })
    }

    /// Evaluates code; changes revert when the session ends.
    #[track_caller]
    pub fn eval(&mut self, code: &str) -> Reply {
        let id = self.start_payload(&json!({ "code": code, "after": "revert" }));
        self.reply(id).unwrap()
    }

    /// Evaluates code with bound arguments.
    #[track_caller]
    pub fn eval_with(&mut self, code: &str, args: Value) -> Reply {
        let id = self.start_payload(&json!({ "code": code, "args": args, "after": "revert" }));
        self.reply(id).unwrap()
    }

    /// Waits for the news that the patch of a lease fails.
    #[track_caller]
    pub fn failing(&mut self, lease: u64) -> Value {
        crate::wait::until("it is told that the patch fails", || {
            let told = self.call("ping", json!({})).ok()["failing"].clone();
            told.as_array()?
                .iter()
                .find(|failing| failing["id"] == lease)
                .cloned()
        })
    }

    /// Closes with TLS's `close_notify`.
    pub fn close(mut self) {
        self.stream.conn.send_close_notify();
        drop(self.stream.flush());
    }

    /// Closes without `close_notify`, as a crash or a pulled cable does.
    pub fn vanish(self) {
        drop(self.stream.sock.shutdown(std::net::Shutdown::Both));
    }

    /// Closes with TCP RST: the agent's system learns at once that the client is gone, without `close_notify`.
    pub fn reset(mut self) {
        // An end that is closed with unread data resets the connection.
        self.start("ping", json!({}));
        assert_ne!(
            self.stream.sock.peek(&mut [0]).unwrap(),
            0,
            "the agent has closed it before"
        );
        drop(self);
    }

    /// Whether the agent has closed the connection: reads until it ends.
    pub fn is_closed(&mut self) -> bool {
        loop {
            match self.read() {
                Ok(message) => self.notifications.push(message),
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

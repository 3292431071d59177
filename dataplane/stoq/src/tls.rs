//! The TLS and transport configuration of a connection, made for quiche from our identity.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use boring::ex_data::Index;
use boring::pkey::PKey;
use boring::ssl::{
    Ssl, SslAlert, SslContextBuilder, SslMethod, SslOptions, SslRef, SslSessionCacheMode,
    SslVerifyError, SslVerifyMode, SslVersion,
};
use boring::x509::X509;
use stoq_identity::{Identity, PeerIdentity, Policy, Role, Verifier};

use crate::settings::Settings;

/// The only application protocol that is spoken.
pub const ALPN: &[u8] = b"stoq/1";

/// Label of the exporter value that proofs of possession sign.
const EXPORTER: &str = "EXPORTER-stoq-possession";

/// Key exchange groups in order of preference: hybrid post-quantum, then classical.
const GROUPS: &str = "X25519MLKEM768:X25519";

/// Largest DATAGRAM queue inside quiche. Sending keeps at most one there, so that FQ-CoDel stays in
/// charge; receiving empties it long before it is full, and holds this many only before HELLO.
const DGRAM_QUEUE: usize = 256;

/// Streams that the peer may have open on a connection, the control stream included.
const STREAMS_MAX: u64 = 16;

/// Window of a stream in bytes at the start, and as far as quiche may raise it for a reader that
/// keeps up, unless a link asks for more: 2 MiB carry 2.5 Gbit/s over 6 ms, and 170 Mbit/s over 100 ms.
const STREAM_WINDOW: u64 = 256 << 10;
pub(crate) const STREAM_WINDOW_MAX: u32 = 2 << 20;

/// Window of a connection in bytes: as much as all streams of both ends may leave unread before
/// their windows are raised, so that slow readers do not stop the control stream.
const CONNECTION_WINDOW: u64 = 2 * STREAMS_MAX * STREAM_WINDOW;
const CONNECTION_WINDOW_MAX: u64 = 2 * CONNECTION_WINDOW;

/// Streams of the widest window that a connection has room for at once, where that is more.
const WIDE_STREAMS: u64 = 4;

/// What went wrong while the TLS configuration was made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// BoringSSL did not take the certificate or the key.
    #[error(
        "certificate and key were refused by TLS: {0}; make them again with `stoqctl pki issue`"
    )]
    Boring(#[from] boring::error::ErrorStack),
    /// quiche did not take a parameter.
    #[error("transport parameters were refused: {0}")]
    Quiche(#[from] quiche::Error),
}

/// Why the last peer certificate was refused, for the log; shared with the TLS callback.
#[derive(Clone, Debug, Default)]
pub struct Refusal(Arc<Mutex<Option<String>>>);

impl Refusal {
    /// Takes the reason, if there is a new one.
    pub fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, why: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// Who we are, whom we trust, and what time it is.
#[derive(Clone)]
pub struct Credentials {
    /// Our certificate and key.
    pub identity: Arc<Identity>,
    /// Checks the other side's certificate.
    pub verifier: Arc<Verifier>,
    /// Whether both ends prove that they hold both keys before anything else.
    pub policy: Policy,
    /// Only our own certificate is sent: peers have the issuers' from the mesh's state.
    pub leaf_only: bool,
    /// The wall clock, which certificates are checked against.
    pub clock: fn() -> SystemTime,
}

/// A configuration for quiche that authenticates both sides.
///
/// # Errors
/// When certificate and key are refused or do not belong together.
pub fn configure(
    credentials: &Credentials,
    settings: &Settings,
    refusal: &Refusal,
) -> Result<quiche::Config, TlsError> {
    let context = context(credentials, refusal)?;
    let mut config =
        quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, context)?;
    config.set_application_protos(&[ALPN])?;
    config.set_max_idle_timeout(u64::try_from(settings.idle_timeout.as_millis()).unwrap_or(30_000));
    config.set_max_send_udp_payload_size(usize::from(settings.udp_payload_max));
    config.discover_pmtu(true);
    config.set_initial_max_data(CONNECTION_WINDOW);
    config.set_initial_max_stream_data_bidi_local(STREAM_WINDOW);
    config.set_initial_max_stream_data_bidi_remote(STREAM_WINDOW);
    config.set_initial_max_stream_data_uni(STREAM_WINDOW);
    config.set_initial_max_streams_bidi(STREAMS_MAX);
    config.set_initial_max_streams_uni(0);
    set_stream_window(&mut config, STREAM_WINDOW_MAX);
    config.enable_dgram(true, DGRAM_QUEUE, DGRAM_QUEUE);
    config.set_cc_algorithm_name(&settings.congestion)?;
    config.set_active_connection_id_limit(4);
    config.grease(false);
    Ok(config)
}

/// Sets how far the window of a stream may be raised, in bytes, on connections made from now on, and
/// that of the connection to fit.
pub(crate) fn set_stream_window(config: &mut quiche::Config, bytes: u32) {
    let stream = u64::from(bytes);
    config.set_max_stream_window(stream);
    config.set_max_connection_window(CONNECTION_WINDOW_MAX.max(WIDE_STREAMS * stream));
}

fn context(credentials: &Credentials, refusal: &Refusal) -> Result<SslContextBuilder, TlsError> {
    let mut builder = SslContextBuilder::new(SslMethod::tls())?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
    builder.set_curves_list(GROUPS)?;
    let mut chain = credentials.identity.chain().iter();
    if let Some(leaf) = chain.next() {
        builder.set_certificate(X509::from_der(leaf)?.as_ref())?;
    }
    let intermediates = if credentials.leaf_only { 0 } else { chain.len() };
    for intermediate in chain.take(intermediates) {
        builder.add_extra_chain_cert(X509::from_der(intermediate)?)?;
    }
    builder.set_private_key(
        PKey::private_key_from_der(credentials.identity.key().secret_der())?.as_ref(),
    )?;
    // A BoringSSL server does not verify the client again on resumption: no tickets, no sessions.
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    let (credentials, refusal) = (credentials.clone(), refusal.clone());
    builder.set_custom_verify_callback(
        SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
        move |ssl| {
            verify(ssl, &credentials).map_err(|(alert, why)| {
                refusal.set(why);
                SslVerifyError::Invalid(alert)
            })
        },
    );
    Ok(builder)
}

fn verify(ssl: &mut SslRef, credentials: &Credentials) -> Result<(), (SslAlert, String)> {
    let bad = |why: String| (SslAlert::BAD_CERTIFICATE, why);
    let leaf = ssl
        .peer_certificate()
        .ok_or_else(|| (SslAlert::CERTIFICATE_REQUIRED, "the peer sent no certificate".into()))?
        .to_der()
        .map_err(|e| bad(e.to_string()))?;
    let role = if ssl.is_server() { Role::Client } else { Role::Server };
    let mut intermediates = Vec::new();
    for certificate in ssl.peer_cert_chain().into_iter().flatten() {
        let der = certificate.to_der().map_err(|e| bad(e.to_string()))?;
        if der != leaf {
            intermediates.push(der);
        }
    }
    let identity = credentials
        .verifier
        .verify(&leaf, &intermediates, role, (credentials.clock)())
        .map_err(|e| bad(e.to_string()))?;
    let index = index().ok_or_else(|| bad("no room in TLS for what was verified".into()))?;
    let verified = Verified { identity: Arc::new(identity), leaf: leaf.into() };
    ssl.replace_ex_data(index, Some(verified));
    Ok(())
}

/// A verified certificate, on its way from the handshake to the connection.
pub(crate) struct Verified {
    pub identity: Arc<PeerIdentity>,
    pub leaf: Arc<[u8]>,
}

/// Where TLS keeps it.
fn index() -> Option<Index<Ssl, Option<Verified>>> {
    static INDEX: OnceLock<Option<Index<Ssl, Option<Verified>>>> = OnceLock::new();
    *INDEX.get_or_init(|| Ssl::new_ex_index().ok())
}

/// Takes the certificate that this connection's handshake has verified: TLS keeps a copy of its own as
/// long as the connection lives, and one of 4 KB is enough.
pub(crate) fn take_verified(ssl: &mut SslRef) -> Option<Verified> {
    ssl.ex_data_mut(index()?)?.take()
}

/// The value that proofs on this connection are bound to (RFC 8446 §7.5).
pub(crate) fn exporter(ssl: &SslRef) -> Result<[u8; 32], boring::error::ErrorStack> {
    let mut value = [0; 32];
    ssl.export_keying_material(&mut value, EXPORTER, None)?;
    Ok(value)
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    boring::sha::sha256(der)
}

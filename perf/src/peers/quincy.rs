//! quincy: a VPN over QUIC datagrams, in both of its modes. TLS, its default, has certificates on both
//! sides, AES-GCM and the same hybrid key exchange as ours; Noise, in which its authors measure it,
//! has ChaCha20-Poly1305.

use super::{Crate, Running, START, binary, target, write};
use crate::bed::{Bed, Family, Side};
use crate::measure::file;
use crate::process::Process;
use crate::{Error, Result};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use std::path::{Path, PathBuf};

pub(super) const CRATES: [Crate; 2] = [
    Crate { name: "quincy-server", version: "3.1.1", program: "quincy-server" },
    Crate { name: "quincy-client", version: "3.1.1", program: "quincy-client" },
];

/// Its usual UDP port.
const PORT: u16 = 55555;

/// The device on both edges.
const DEVICE: &str = "quincy0";

/// Keys of the Noise mode for a bed that exists for minutes: an X25519 private key of one repeated
/// byte, and the public key that belongs to it, in base64. They protect nothing.
const NOISE_CLIENT: (&str, &str) = (
    "ERERERERERERERERERERERERERERERERERERERERERE=",
    "e06Qm75//kTEZaIgA31gjuNYl9Me+XLwf3SJLLD3PxM=",
);
const NOISE_SERVER: (&str, &str) = (
    "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=",
    "D6poTtKIZ7l/Smot7l34zpdOdrcBjj8iocTPJnhXDyA=",
);

/// How it encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Tls,
    Noise,
}

/// What the two modes have in their files.
struct Protocol {
    server: String,
    client: String,
    /// The line of the users file that lets the client in.
    user: String,
}

pub(super) fn start(bed: &Bed, mode: Mode) -> Result<Running> {
    let protocol = match mode {
        Mode::Tls => tls(bed)?,
        Mode::Noise => noise(),
    };
    let server = start_server(bed, &protocol)?;
    let client = start_edge(bed, Side::A, "quincy-client", "Connection established")?;
    Ok(Running { target: target(), processes: vec![(Side::B, server), (Side::A, client)] })
}

fn tls(bed: &Bed) -> Result<Protocol> {
    let server = Identity::create(bed, "quincy-server")?;
    let client = Identity::create(bed, "quincy-client")?;
    let head = "mode = \"tls\"\nkey_exchange = \"hybrid\"\n";
    Ok(Protocol {
        server: format!(
            "{head}certificate_file = {:?}\ncertificate_key_file = {:?}\n",
            server.certificate, server.key
        ),
        client: format!(
            "{head}trusted_certificate_paths = [{:?}]\nclient_certificate_file = {:?}\n\
             client_certificate_key_file = {:?}\n",
            server.certificate, client.certificate, client.key
        ),
        user: format!(
            "authorized_keys = []\nauthorized_certs = [\"sha256:{}\"]\n",
            client.fingerprint()?
        ),
    })
}

fn noise() -> Protocol {
    let head = "mode = \"noise\"\nkey_exchange = \"standard\"\n";
    let (server, client) = (NOISE_SERVER, NOISE_CLIENT);
    Protocol {
        server: format!("{head}private_key = {:?}\n", server.0),
        client: format!("{head}server_public_key = {:?}\nprivate_key = {:?}\n", server.1, client.0),
        user: format!("authorized_keys = [{:?}]\nauthorized_certs = []\n", client.1),
    }
}

fn start_server(bed: &Bed, protocol: &Protocol) -> Result<Process> {
    let users = write(bed, "quincy-users.toml", &format!("[users.edge-a]\n{}", protocol.user))?;
    let (address, endpoint) = (target(), Side::B.wan(Family::V6));
    let config = format!(
        "name = \"bed\"\ninterface_name = \"{DEVICE}\"\nbind_address = \"::\"\nbind_port = {PORT}\n\
         tunnel_network = \"{address}/24\"\nusers_file = {users:?}\n\n\
         [protocol]\n{}\n[log]\nlevel = \"info\"\n",
        protocol.server
    );
    write(bed, "quincy-server.toml", &config)?;
    let config = format!(
        "connection_string = \"[{endpoint}]:{PORT}\"\n\n[protocol]\n{}\n\
         [network]\ninterface_name = \"{DEVICE}\"\n\n[log]\nlevel = \"info\"\n",
        protocol.client
    );
    write(bed, "quincy-client.toml", &config)?;
    start_edge(bed, Side::B, "quincy-server", "Starting connection handler")
}

fn start_edge(bed: &Bed, side: Side, program: &str, ready: &str) -> Result<Process> {
    let config = bed.folder().join(format!("{program}.toml"));
    let log = bed.folder().join(format!("{program}.log"));
    let words = [Path::new("--config-path"), &config];
    let mut process = Process::spawn(&bed.edge(side).namespace, &log, &binary(program), words)?;
    process.wait_for_log(ready, START)?;
    Ok(process)
}

/// A self-signed certificate and its key, in files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    der: PathBuf,
}

impl Identity {
    fn create(bed: &Bed, name: &str) -> Result<Self> {
        let failed = |error: rcgen::Error| Error::Output {
            what: "rcgen".to_owned(),
            expected: "a certificate".to_owned(),
            got: error.to_string(),
        };
        let address = Side::B.wan(Family::V6).to_string();
        let mut params = CertificateParams::new([address]).map_err(failed)?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let der = bed.folder().join(format!("{name}.der"));
        std::fs::write(&der, certificate.der()).map_err(Error::io("write a certificate"))?;
        Ok(Self {
            certificate: write(bed, &format!("{name}.crt"), &certificate.pem())?,
            key: write(bed, &format!("{name}.key"), &key.serialize_pem())?,
            der,
        })
    }

    /// By which the server knows a client: the SHA-256 of its certificate.
    fn fingerprint(&self) -> Result<String> {
        file::sha256(&self.der)
    }
}

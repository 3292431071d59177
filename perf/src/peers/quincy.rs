//! quincy: a VPN over QUIC datagrams, in its default mode: TLS 1.3 with certificates on both sides
//! and the same hybrid key exchange as ours.

use super::{Crate, Running, START, binary, target, write};
use crate::bed::{Bed, Family, Side};
use crate::process::{self, Process};
use crate::{Error, Result};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) const CRATES: [Crate; 2] = [
    Crate { name: "quincy-server", version: "3.1.1", program: "quincy-server" },
    Crate { name: "quincy-client", version: "3.1.1", program: "quincy-client" },
];

/// Its usual UDP port.
const PORT: u16 = 55555;

/// The device on both edges.
const DEVICE: &str = "quincy0";

pub(super) fn start(bed: &Bed) -> Result<Running> {
    let server = start_server(bed)?;
    let client = start_edge(bed, Side::A, "quincy-client", "Connection established")?;
    Ok(Running { target: target(), processes: vec![(Side::B, server), (Side::A, client)] })
}

fn start_server(bed: &Bed) -> Result<Process> {
    let server = Identity::create(bed, "quincy-server")?;
    let client = Identity::create(bed, "quincy-client")?;
    let users = format!(
        "[users.edge-a]\nauthorized_keys = []\nauthorized_certs = [\"sha256:{}\"]\n",
        client.fingerprint()?
    );
    let users = write(bed, "quincy-users.toml", &users)?;
    let address = target();
    let config = format!(
        "name = \"bed\"\ninterface_name = \"{DEVICE}\"\nbind_address = \"::\"\nbind_port = {PORT}\n\
         tunnel_network = \"{address}/24\"\nusers_file = {users:?}\n\n\
         [protocol]\nmode = \"tls\"\nkey_exchange = \"hybrid\"\ncertificate_file = {:?}\n\
         certificate_key_file = {:?}\n\n[log]\nlevel = \"info\"\n",
        server.certificate, server.key
    );
    write(bed, "quincy-server.toml", &config)?;
    let endpoint = Side::B.wan(Family::V6);
    let config = format!(
        "connection_string = \"[{endpoint}]:{PORT}\"\n\n\
         [protocol]\nmode = \"tls\"\nkey_exchange = \"hybrid\"\ntrusted_certificate_paths = [{:?}]\n\
         client_certificate_file = {:?}\nclient_certificate_key_file = {:?}\n\n\
         [network]\ninterface_name = \"{DEVICE}\"\n\n[log]\nlevel = \"info\"\n",
        server.certificate, client.certificate, client.key
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
        let printed = process::run(Command::new("sha256sum").arg(&self.der))?;
        Ok(printed.split_whitespace().next().unwrap_or_default().to_owned())
    }
}

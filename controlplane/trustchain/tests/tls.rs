//! Handshakes of `rustls` in memory: who is taken as a server and as a client, and why not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod mesh;

use std::sync::Arc;

use mesh::{Leaf, Mesh, new_keys, now};
use rustls::client::danger::ServerCertVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConnection, Error, ProtocolVersion, ServerConnection};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use stoq_identity::{AlternativeError, Expected, Kind, OperatorRole, Options, Policy, VerifyError};
use stoq_trustchain::{
    ClientVerifier, RootFingerprint, ServerVerifier, TlsReason, client_config, server_config,
    tls_reason,
};

/// Rounds in which a handshake is over or never: TLS 1.3 takes two.
const ROUNDS_MAX: usize = 8;

#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(now().duration_since(std::time::UNIX_EPOCH).unwrap()))
    }
}

fn certificates(chain: &[&[u8]]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

/// A server of the mesh that shows `node` and all above it.
fn server(mesh: &Mesh, node: &Leaf, mandatory: bool) -> ServerConnection {
    let chain = [&node.der, mesh.issuer.certificate(), mesh.root.certificate()];
    let verifier = Arc::new(mesh.verifier(Options::default()));
    let clients = ClientVerifier { verifier, expected: Expected::Operator, mandatory };
    let key = node.keys.classical_der();
    let config =
        server_config(Arc::new(clients), certificates(&chain), key, Arc::new(Fixed)).unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}

fn client(verifier: Arc<dyn ServerCertVerifier>, shows: Option<&Leaf>) -> ClientConnection {
    let identity = shows.map(|leaf| (certificates(&[&leaf.der]), leaf.keys.classical_der()));
    let config = client_config(verifier, identity, Arc::new(Fixed)).unwrap();
    let name = ServerName::try_from("192.0.2.1").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// Carries the bytes of both to each other until both are done, or one refuses: at the client, at
/// the server.
fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), (Option<Error>, Option<Error>)> {
    for _ in 0..ROUNDS_MAX {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        feed(&bytes, |slice| server.read_tls(slice));
        let at_server = server.process_new_packets().err();
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        feed(&bytes, |slice| client.read_tls(slice));
        let at_client = client.process_new_packets().err();
        if at_server.is_some() || at_client.is_some() {
            return Err((at_client, at_server));
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    Ok(())
}

fn feed(bytes: &[u8], mut read: impl FnMut(&mut &[u8]) -> std::io::Result<usize>) {
    let mut slice = bytes;
    while !slice.is_empty() {
        read(&mut slice).unwrap();
    }
}

fn of_mesh(mesh: &Mesh) -> Arc<ServerVerifier> {
    Arc::new(ServerVerifier(Arc::new(mesh.verifier(Options::default()))))
}

fn at_client(mesh: &Mesh, verifier: Arc<dyn ServerCertVerifier>, node: &Leaf) -> TlsReason {
    let refused = shake(&mut client(verifier, None), &mut server(mesh, node, false)).unwrap_err();
    tls_reason(&refused.0.unwrap()).unwrap().clone()
}

fn at_server(mesh: &Mesh, shows: Option<&Leaf>) -> Error {
    let node = mesh.node("edge-a");
    let (mut client, mut server) = (client(of_mesh(mesh), shows), server(mesh, &node, true));
    shake(&mut client, &mut server).unwrap_err().1.unwrap()
}

#[test]
fn an_operator_and_the_server_of_its_mesh_take_each_other() {
    let mesh = Mesh::new("lab");
    let operator = mesh.operator(OperatorRole::Viewer);
    let mut client = client(of_mesh(&mesh), Some(&operator));
    let mut server = server(&mesh, &mesh.node("edge-a"), true);
    shake(&mut client, &mut server).unwrap();
    assert_eq!(server.peer_certificates().unwrap()[0].as_ref(), operator.der);
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn a_joiner_takes_the_mesh_of_its_token_and_learns_its_root() {
    let mesh = Mesh::new("lab");
    let fingerprint = mesh.root.keys().public().fingerprint();
    let verifier = Arc::new(RootFingerprint::new(fingerprint, Policy::Hybrid));
    assert_eq!(verifier.root(), None);
    let mut joiner = client(verifier.clone(), None);
    shake(&mut joiner, &mut server(&mesh, &mesh.node("edge-a"), false)).unwrap();
    assert_eq!(verifier.root(), Some(mesh.root.certificate()));
}

#[test]
fn a_joiner_refuses_whoever_stands_between() {
    let mesh = Mesh::new("lab");
    let fingerprint = mesh.root.keys().public().fingerprint();
    let joiner = || Arc::new(RootFingerprint::new(fingerprint, Policy::Hybrid));
    // A mesh of the same name, made by the one in the middle.
    let middle = Mesh::new("lab");
    assert_eq!(at_client(&middle, joiner(), &middle.node("edge-a")), TlsReason::OtherMesh);
    // The right root shown behind a chain that does not lead to it.
    let mut mixed = Mesh::new("lab");
    let node = mixed.node("edge-a");
    mixed.root = mesh.root;
    assert_eq!(at_client(&mixed, joiner(), &node), TlsReason::OtherMesh);
}

#[test]
fn a_joiner_refuses_an_operator_as_server_and_one_without_the_key() {
    let mesh = Mesh::new("lab");
    let fingerprint = mesh.root.keys().public().fingerprint();
    let joiner = || Arc::new(RootFingerprint::new(fingerprint, Policy::Hybrid));
    let got = Kind::Operator(OperatorRole::Admin);
    let expected = TlsReason::Verify(VerifyError::Kind { expected: Expected::Node, got });
    let operator = mesh.operator(OperatorRole::Admin);
    assert_eq!(at_client(&mesh, joiner(), &operator), expected);
    assert_eq!(at_client(&mesh, of_mesh(&mesh), &operator), expected);

    // A copied certificate without its key: the library finds that before it serves.
    let copied = Leaf { der: mesh.node("edge-a").der, keys: new_keys() };
    let chain = certificates(&[&copied.der]);
    let verifier = Arc::new(mesh.verifier(Options::default()));
    let clients = ClientVerifier { verifier, expected: Expected::Operator, mandatory: true };
    let key = copied.keys.classical_der();
    assert!(server_config(Arc::new(clients), chain, key, Arc::new(Fixed)).is_err());
}

#[test]
fn a_node_is_no_client_of_the_api_nor_is_somebody_unknown() {
    let mesh = Mesh::new("lab");
    let refused = at_server(&mesh, Some(&mesh.node("edge-b")));
    let expected = VerifyError::Kind { expected: Expected::Operator, got: Kind::Node };
    assert_eq!(tls_reason(&refused), Some(&TlsReason::Verify(expected)));
    let refused = at_server(&mesh, None);
    assert!(matches!(refused, Error::NoCertificatesPresented), "{refused}");
    let stranger = Mesh::new("lab").operator(OperatorRole::Admin);
    let refused = at_server(&mesh, Some(&stranger));
    let reason = tls_reason(&refused);
    assert!(matches!(reason, Some(TlsReason::Verify(VerifyError::Untrusted { .. }))), "{reason:?}");
}

#[test]
fn a_classical_issuer_is_not_enough_for_either_side() {
    let mesh = Mesh::new("lab");
    let weak = mesh::stripped(&mesh, &mesh.operator(OperatorRole::Admin));
    let refused = at_server(&mesh, Some(&weak));
    let error = AlternativeError::NoSignature;
    let expected = VerifyError::Alternative { whose: "the node's", error };
    assert_eq!(tls_reason(&refused), Some(&TlsReason::Verify(expected)));
}

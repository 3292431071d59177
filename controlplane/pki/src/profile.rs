//! What is written into certificates: the profile of the root and that of a node.
//!
//! Called by the authority only. The rules mirror what the verifier in `stoq-identity` demands.

use std::net::IpAddr;
use std::time::SystemTime;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
    SerialNumber,
};
use stoq_identity::NodeId;

use crate::PkiError;

/// Addresses that are never public: private (RFC 1918, RFC 4193), shared (RFC 6598), link-local
/// (RFC 3927, RFC 4291 §2.5.6) and loopback.
const PRIVATE_PREFIXES: [(IpAddr, u8); 9] = [
    (v4(10, 0), 8),
    (v4(100, 64), 10),
    (v4(127, 0), 8),
    (v4(169, 254), 16),
    (v4(172, 16), 12),
    (v4(192, 168), 16),
    (v6(0xfc00), 7),
    (v6(0xfe80), 10),
    (IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128),
];

/// The top-level domain reserved for private use: no public site is below it.
const PRIVATE_DOMAIN: &str = "internal";

const fn v4(a: u8, b: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, 0, 0))
}

const fn v6(first: u16) -> IpAddr {
    IpAddr::V6(std::net::Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0))
}

/// A serial number's length: 126 random bits, so that it can not be guessed before it is signed,
/// within the 20 bytes of RFC 5280 §4.1.2.2.
const SERIAL_BYTES: usize = 16;

/// Certificates of authorities between the root and a node: none now, one when a mesh keeps its root
/// offline and issues from an intermediate, without having to replace the root for that.
const INTERMEDIATES: u8 = 1;

/// The root of `mesh`. Its name constraints (RFC 5280 §4.2.1.10) make it worthless against the
/// public web, should somebody import it into a browser and the key be stolen.
pub(crate) fn root(
    mesh: &str,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = base(mesh, "STOQ root", not_before, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(INTERMEDIATES));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let addresses = PRIVATE_PREFIXES
        .map(|(address, length)| CidrSubnet::from_addr_prefix(address, length))
        .map(GeneralSubtree::IpAddress);
    let mut permitted = addresses.to_vec();
    permitted.push(GeneralSubtree::DnsName(PRIVATE_DOMAIN.to_owned()));
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() });
    Ok(params)
}

/// The certificate of the node `id`.
pub(crate) fn node(
    id: &NodeId,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = base(id.mesh(), id.node(), not_before, not_after)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let uri = Ia5String::try_from(id.to_string()).map_err(crypto)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Subject (organisation and common name, both at most 64 characters: RFC 5280 appendix A.1), dates
/// and serial number.
fn base(
    mesh: &str,
    name: &str,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, mesh);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = not_before.into();
    params.not_after = not_after.into();
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(crypto)?;
    // Positive, and never shorter: the first byte is 0x40 to 0x7f.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn crypto(error: impl ToString) -> PkiError {
    PkiError::Crypto(error.to_string())
}

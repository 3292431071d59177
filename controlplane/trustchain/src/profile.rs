//! What is written into certificates: one profile for each kind.
//!
//! Called by the authority only. The rules mirror what the verifier in `stoq-identity` demands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType,
    SerialNumber,
};
use stoq_identity::der::{OBJECT_IDENTIFIER, SEQUENCE, element};
use stoq_identity::{
    Kind, MESH_PREFIX_BITS, NodeId, OperatorRole, dns_name, mesh_name, mesh_prefix,
};

use crate::{Dates, TrustError, library};

/// The top-level domain reserved for private use: no public site is below it.
pub const PRIVATE_DOMAIN: &str = "internal";

/// `id-ce-certificatePolicies` (RFC 5280 §4.2.1.4).
const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];

/// A serial number's length: 126 random bits, so that it can not be guessed before it is signed,
/// within the 20 bytes of RFC 5280 §4.1.2.2.
const SERIAL_BYTES: usize = 16;

/// Authorities between the root and a node: the issuer.
const INTERMEDIATES: u8 = 1;

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
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

const fn v4(a: u8, b: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, 0, 0))
}

const fn v6(first: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0))
}

/// The addresses of a mesh's tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Its own /48, which follows from its identifier.
    pub ipv6: Ipv6Net,
    /// Its IPv4 prefix, when an operator gave it one.
    pub ipv4: Option<Ipv4Net>,
}

impl Prefixes {
    /// Those of the mesh with this identifier.
    #[must_use]
    pub fn of(mesh_id: &str, ipv4: Option<Ipv4Net>) -> Self {
        let ipv6 = Ipv6Net::new_assert(mesh_prefix(mesh_id), MESH_PREFIX_BITS);
        Self { ipv6, ipv4 }
    }

    pub(crate) fn nets(&self) -> Vec<IpNet> {
        let ipv4 = self.ipv4.map(IpNet::V4);
        [IpNet::V6(self.ipv6)].into_iter().chain(ipv4).collect()
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A node and its tunnel addresses (none in a mesh that is run by hand).
    Node {
        /// Its name.
        node: String,
        /// Its addresses, all within the mesh's prefixes.
        addresses: Vec<IpAddr>,
    },
    /// An operator. Its name is in another space than those of nodes.
    Operator {
        /// Its name.
        name: String,
        /// What it may do.
        role: OperatorRole,
    },
    /// An issuer, on this node, for leaves with addresses in these prefixes.
    Issuer {
        /// The node that it runs on.
        node: String,
        /// The mesh's addresses.
        prefixes: Prefixes,
    },
    /// The log of the issuer on this node.
    Log {
        /// The issuer's node.
        node: String,
    },
}

impl Subject {
    /// What its certificate is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Node { .. } => Kind::Node,
            Self::Operator { role, .. } => Kind::Operator(*role),
            Self::Issuer { .. } => Kind::Issuer,
            Self::Log { .. } => Kind::Log,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Node { node, .. } | Self::Issuer { node, .. } | Self::Log { node } => node,
            Self::Operator { name, .. } => name,
        }
    }
}

/// The root of `mesh`. Its name constraints (RFC 5280 §4.2.1.10) make it worthless against the
/// public web, should somebody import it into a browser and the key be stolen.
pub(crate) fn root(mesh: &str, dates: Dates) -> Result<CertificateParams, TrustError> {
    let mut params = base(mesh, "STOQ root", dates)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(INTERMEDIATES));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let private = PRIVATE_PREFIXES.map(|(address, length)| (address, length));
    params.name_constraints = Some(constraints(PRIVATE_DOMAIN, &private));
    Ok(params)
}

/// The certificate of `subject` in `mesh`, below the root or an issuer.
pub(crate) fn below(
    mesh: &str,
    subject: &Subject,
    dates: Dates,
) -> Result<CertificateParams, TrustError> {
    let what = if matches!(subject, Subject::Operator { .. }) { "operator" } else { "node" };
    let id = NodeId::new(mesh, subject.name()).map_err(|source| TrustError::Name {
        what,
        name: subject.name().to_owned(),
        source,
    })?;
    let mut params = base(mesh, id.node(), dates)?;
    params.use_authority_key_identifier_extension = true;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let uri = Ia5String::try_from(id.to_string()).map_err(library)?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.custom_extensions = vec![policy(subject.kind())];
    match subject {
        Subject::Node { addresses, .. } => {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
            let dns = dns_name(mesh, id.node()).as_str().try_into().map_err(library)?;
            params.subject_alt_names.push(SanType::DnsName(dns));
            params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        }
        Subject::Operator { .. } => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
        Subject::Issuer { prefixes, .. } => {
            params.distinguished_name.push(DnType::OrganizationalUnitName, "STOQ issuer");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let domain = format!("{}.{PRIVATE_DOMAIN}", mesh_name(mesh));
            let nets: Vec<_> =
                prefixes.nets().iter().map(|net| (net.addr(), net.prefix_len())).collect();
            params.name_constraints = Some(constraints(&domain, &nets));
        }
        Subject::Log { .. } => {
            params.distinguished_name.push(DnType::OrganizationalUnitName, "STOQ log");
        }
    }
    Ok(params)
}

/// Names below `domain` and addresses in `nets` only.
fn constraints(domain: &str, nets: &[(IpAddr, u8)]) -> NameConstraints {
    let subnet = |&(address, length): &(IpAddr, u8)| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, length))
    };
    let mut permitted: Vec<_> = nets.iter().map(subnet).collect();
    permitted.push(GeneralSubtree::DnsName(domain.to_owned()));
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: Vec::new() }
}

/// The policy that says what a certificate is for.
fn policy(kind: Kind) -> CustomExtension {
    let information = element(SEQUENCE, &[&element(OBJECT_IDENTIFIER, &[kind.policy()])]);
    let policies = element(SEQUENCE, &[&information]);
    CustomExtension::from_oid_content(CERTIFICATE_POLICIES, policies)
}

/// Subject (organisation and common name, both at most 64 characters: RFC 5280 appendix A.1), dates
/// and serial number.
fn base(mesh: &str, name: &str, dates: Dates) -> Result<CertificateParams, TrustError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, mesh);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = dates.not_before.into();
    params.not_after = dates.not_after.into();
    params.serial_number = Some(serial()?);
    Ok(params)
}

fn serial() -> Result<SerialNumber, TrustError> {
    let mut bytes = [0; SERIAL_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(library)?;
    // Positive, and never shorter: the first byte is 0x40 to 0x7f.
    bytes[0] = bytes[0] & 0x3f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

//! What may be in a zone, and which zones a prefix has. What is served is tested with real programs in
//! `tests/`.

use super::*;

fn mesh(prefixes: &[&str]) -> Mesh {
    let prefixes = prefixes.iter().map(|text| text.parse().unwrap()).collect();
    Mesh { name: "lab".into(), server: "edge-a".into(), prefixes }
}

fn member(name: &str, addresses: &[&str]) -> Member {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Member { name: name.into(), addresses }
}

fn build(mesh: &Mesh, members: &[Member]) -> Result<Zone, ZoneError> {
    let key = ZoneKey::generate().unwrap();
    Zone::build(mesh, members, 7, &key, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

/// A zone with nothing in it but what every zone has.
pub(crate) fn records(origin: &str) -> Records {
    Records::new(Name::from_ascii(origin).unwrap(), &mesh(&[]), 1).unwrap()
}

const V6: &str = "fd42:1:2::/48";

#[test]
fn a_mesh_has_a_forward_zone_and_one_for_each_prefix() {
    let members = [member("edge-a", &["fd42:1:2::1", "10.9.0.1"])];
    let zone = build(&mesh(&[V6, "10.9.0.0/16"]), &members).unwrap();
    assert_eq!(
        zone.domains(),
        ["lab.internal", "2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa", "9.10.in-addr.arpa"]
    );
    let anchor = &zone.anchors()[0];
    assert!(anchor.dnskey.starts_with("257 3 13 "), "{anchor:?}");
    assert!(anchor.ds.contains(" 13 2 "), "{anchor:?}");
}

#[test]
fn a_prefix_that_ends_inside_a_label_has_several_zones_and_no_more() {
    for (prefix, zones, first) in [
        ("10.9.16.0/20", 16, "16.9.10.in-addr.arpa."),
        ("10.9.0.64/26", 64, "64.0.9.10.in-addr.arpa."),
        ("10.9.0.7/32", 1, "7.0.9.10.in-addr.arpa."),
        ("10.0.0.0/8", 1, "10.in-addr.arpa."),
        ("10.128.0.0/9", 128, "128.10.in-addr.arpa."),
        ("fd42:1:2::/47", 2, "2.0.0.0.1.0.0.0.2.4.d.f.ip6.arpa."),
    ] {
        let origins = reverse_origins(prefix.parse().unwrap());
        assert_eq!(origins.len(), zones, "{prefix}");
        assert_eq!(origins[0].to_ascii(), first, "{prefix}");
    }
}

#[test]
fn what_may_not_be_in_a_zone_is_refused() {
    let good = || member("edge-a", &["fd42:1:2::1"]);
    for (other, part) in [
        (member("", &[]), "1 to 63"),
        (member("a.b", &[]), "1 to 63"),
        (member("-a", &[]), "1 to 63"),
        (member("*", &[]), "1 to 63"),
        (member("ä", &[]), "1 to 63"),
        (member(&"a".repeat(64), &[]), "1 to 63"),
        (member("EDGE-A", &[]), "one member called"),
        (member("edge-b", &["fd42:1:2::1"]), "one member with the address"),
        (member("edge-b", &["127.0.0.1"]), "in the mesh's prefixes"),
        (member("edge-b", &["2001:db8::1"]), "in the mesh's prefixes"),
        (member("edge-b", &["::"; MAX_ADDRESSES + 1]), "at most 8"),
    ] {
        let error = build(&mesh(&[V6]), &[good(), other.clone()]).unwrap_err().to_string();
        assert!(error.contains(part), "{other:?}: {error}");
    }
    assert!(build(&mesh(&[V6]), &[good()]).is_ok());
    for prefix in ["0.0.0.0/0", "::/0", "fd00::/8"] {
        assert!(matches!(build(&mesh(&[prefix]), &[]), Err(ZoneError::Prefix(_))), "{prefix}");
    }
    let many = vec![member("a", &[]); MAX_MEMBERS + 1];
    assert!(matches!(build(&mesh(&[V6]), &many), Err(ZoneError::TooMany { .. })));
    let mut long = mesh(&[V6]);
    long.name = "a.b".into();
    assert!(matches!(build(&long, &[]), Err(ZoneError::Label(_))));
}

//! The keeper with a real mesh: a root, two issuers, their logs, and this node's own identity.

use crossbeam::channel::{Receiver, bounded};
use stoq::PeerId;
use stoq_identity::{Identity, Policy, PrivateKeys, Role};
use stoq_mesh::tree::{Tree, leaf_hash};
use stoq_mesh::{IssuerCertificates, LogProof, Mesh, Revocations, Revoked};
use stoq_trustchain::{Authority, Dates, Prefixes, Subject};

use super::*;
use crate::worker::Errand;

const DAY: Duration = Duration::from_secs(86_400);

fn new_keys() -> Arc<PrivateKeys> {
    Arc::new(PrivateKeys::generate().unwrap())
}

/// A mesh, and what its issuer signs.
struct World {
    root: Authority,
    issuer: Authority,
    log: Arc<PrivateKeys>,
    log_certificate: Vec<u8>,
    directory: tempfile::TempDir,
}

fn dates() -> Dates {
    Dates::of(SystemTime::now(), DAY)
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines: Vec<String> = STANDARD
        .encode(der)
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

impl World {
    fn new() -> Self {
        let root = Authority::found("lab", new_keys(), dates()).unwrap();
        let keys = new_keys();
        let prefixes = Prefixes::of(root.mesh(), None);
        let subject = Subject::Issuer { node: "edge-a".into(), prefixes };
        let certificate = root.issue(&subject, keys.public(), dates()).unwrap();
        let issuer = Authority::open(&certificate, keys).unwrap();
        let log = new_keys();
        let subject = Subject::Log { node: "edge-a".into() };
        let log_certificate = issuer.issue(&subject, log.public(), dates()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self { root, issuer, log, log_certificate, directory }
    }

    /// The tunnel address of the `n`th member.
    fn address(&self, n: u128) -> std::net::IpAddr {
        let prefix = Prefixes::of(self.root.mesh(), None).ipv6;
        std::net::Ipv6Addr::from(u128::from(prefix.addr()) + n).into()
    }

    fn leaf(&self, node: &str, n: u128, keys: &PrivateKeys) -> Vec<u8> {
        let subject = Subject::Node { node: node.into(), addresses: vec![self.address(n)] };
        self.issuer.issue(&subject, keys.public(), dates()).unwrap()
    }

    /// This node's credentials, read from one file.
    fn credentials(&self) -> Credentials {
        let keys = new_keys();
        let chain = [&self.leaf("edge-a", 1, &keys), self.issuer.certificate()]
            .map(|der| pem("CERTIFICATE", der));
        let file = self.directory.path().join("identity.pem");
        std::fs::write(&file, chain.concat() + &keys.to_pem()).unwrap();
        let authority = self.directory.path().join("root.crt");
        std::fs::write(&authority, pem("CERTIFICATE", self.root.certificate())).unwrap();
        let identity = Arc::new(Identity::load(&file, &file, &authority).unwrap());
        let verifier = identity.verifier();
        let clock = SystemTime::now;
        Credentials { identity, verifier, policy: Policy::Hybrid, leaf_only: false, clock }
    }

    fn keeper(&self, credentials: &Credentials) -> Result<(Keeper, Receiver<Errand>), MeshError> {
        let (to, heads) = bounded(8);
        let signers = Signers::new(self.root.mesh(), Policy::Hybrid);
        let rules = Rules { signers, has_logs: false, grace: Duration::ZERO };
        let logs = LogCheck::new(rules, SystemTime::now, to);
        let state = self.directory.path();
        Ok((Keeper::open(state, credentials, Duration::ZERO, logs, Arc::default())?, heads))
    }

    fn revocations(&self, sequence: u64, revoked: &[(&str, [u8; 32])]) -> Signed<Revocations> {
        let entry = |(node, keys): &(&str, [u8; 32])| Revoked {
            keys: *keys,
            kind: RevokedKind::Node,
            node: (*node).to_owned(),
            at_s: 1,
        };
        let mut entries: Vec<Revoked> = revoked.iter().map(entry).collect();
        entries.sort_by_key(|entry| entry.keys);
        let mesh = self.root.mesh().to_owned();
        Signed::sign(&Revocations { mesh, sequence, entries }, self.issuer.keys()).unwrap()
    }

    /// As it travels between nodes.
    fn set(&self, sequence: u64, revoked: &[(&str, [u8; 32])]) -> Vec<u8> {
        let issuer = self.issuer.certificate().to_vec();
        SignedSet { issuer, set: self.revocations(sequence, revoked) }.to_bytes().unwrap()
    }

    fn head(&self, leaves: &[&[u8]]) -> Signed<TreeHead> {
        let mut tree = Tree::new();
        for leaf in leaves {
            tree.append(leaf_hash(leaf));
        }
        let log = self.log.public().fingerprint();
        let head = TreeHead { log, size: tree.size(), root: tree.root(), at_s: 1 };
        Signed::sign(&head, &self.log).unwrap()
    }

    fn record(&self, node: &str, n: u128, routes: &[&str]) -> Signed<Record> {
        let record = Record {
            mesh: self.root.mesh().to_owned(),
            node: node.to_owned(),
            number: 1,
            keys: [u8::try_from(n).unwrap(); 32],
            addresses: vec![self.address(n).into()],
            routes: routes.iter().map(|route| route.parse().unwrap()).collect(),
            endpoints: vec!["192.0.2.1:9292".parse().unwrap()],
        };
        Signed::sign(&record, self.issuer.keys()).unwrap()
    }

    fn bundle(&self, number: u64, set: Signed<Revocations>, head: Signed<TreeHead>) -> String {
        let id = self.root.mesh().to_owned();
        let bundle = Bundle {
            mesh: Mesh {
                id,
                name: "lab".into(),
                prefix: Prefixes::of(self.root.mesh(), None).ipv6,
                ipv4: None,
                policy: Policy::Hybrid,
            },
            number,
            root: self.root.certificate().to_vec(),
            issuers: vec![IssuerCertificates {
                certificate: self.issuer.certificate().to_vec(),
                log: self.log_certificate.clone(),
            }],
            records: vec![
                self.record("edge-b", 2, &["10.2.0.0/16"]),
                self.record("edge-c", 3, &[]),
            ],
            revocations: set,
            heads: vec![head],
        };
        STANDARD.encode(bundle.to_bytes().unwrap())
    }
}

/// Puts a bundle in force, as a push does.
fn push(keeper: &mut Keeper, bundle: &str) -> Result<Vec<Member>, MeshError> {
    let opened = keeper.opening().open(bundle)?;
    keeper.prepare(&opened)?;
    Ok(keeper.use_bundle(opened))
}

fn names(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.peer.name.as_str()).collect()
}

#[test]
fn a_bundle_brings_members_issuers_and_revocations_over_restarts() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    let bundle = world.bundle(7, world.revocations(1, &[]), world.head(&[b"leaf"]));
    let members = push(&mut keeper, &bundle).unwrap();
    assert_eq!(names(&members), ["edge-b", "edge-c"]);
    assert_eq!((keeper.number(), keeper.sequence()), (Some(7), Some(1)));
    assert_eq!(members[0].peer.allowed_ips[1], "10.2.0.0/16");
    assert!(keeper.credentials().unwrap().leaf_only, "its issuer is known to all");
    // A set from a peer, newer than the bundle, is there after a restart too.
    assert!(keeper.receive(2, &world.set(2, &[("edge-c", [3; 32])])).unwrap());
    keeper.write_down().unwrap();
    assert_eq!(names(&keeper.members()), ["edge-b"]);
    let (mut again, _) = world.keeper(&credentials).unwrap();
    assert_eq!(again.sequence(), Some(2));
    assert_eq!(names(&again.restore(&bundle).unwrap()), ["edge-b"]);
    let mesh = again.mesh();
    assert!(mesh.keys.contains(&[3; 32]) && mesh.names.contains("edge-c"));
    // A node whose own file lacks the issuer is verified by the mesh's.
    let leaf = world.leaf("edge-b", 2, &new_keys());
    let none: &[&[u8]] = &[];
    let verifier = again.credentials().unwrap().verifier;
    verifier.verify(&leaf, none, Role::Server, SystemTime::now()).unwrap();
}

#[test]
fn an_older_bundle_or_one_of_another_root_changes_nothing() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    let head = || world.head(&[b"leaf"]);
    push(&mut keeper, &world.bundle(7, world.revocations(2, &[]), head())).unwrap();
    let older = push(&mut keeper, &world.bundle(6, world.revocations(2, &[]), head()));
    assert!(older.unwrap_err().to_string().contains("7 is in force"));
    let rolled_back = push(&mut keeper, &world.bundle(8, world.revocations(1, &[]), head()));
    assert!(rolled_back.unwrap_err().to_string().contains("sequence 2 or later, got 1"));
    let other = World::new();
    let foreign = other.bundle(9, other.revocations(3, &[]), other.head(&[b"leaf"]));
    assert!(matches!(push(&mut keeper, &foreign), Err(MeshError::Bundle(_))));
    assert!(matches!(push(&mut keeper, "no base64!"), Err(MeshError::Bundle(_))));
    assert_eq!((keeper.number(), keeper.sequence()), (Some(7), Some(2)));
}

#[test]
fn forged_and_rolled_back_sets_are_refused_and_counted() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    let gone = ("edge-c", [3; 32]);
    assert!(keeper.receive(5, &world.set(5, &[gone])).unwrap());
    assert!(!keeper.receive(5, &world.set(5, &[gone])).unwrap(), "the same again is nothing new");
    let refused = |keeper: &mut Keeper, named, bytes: &[u8]| {
        let before = keeper.drops().get(DropReason::RevocationsRefused);
        let error = keeper.receive(named, bytes).unwrap_err().to_string();
        assert_eq!(keeper.drops().get(DropReason::RevocationsRefused), before + 1);
        error
    };
    let older = refused(&mut keeper, 4, &world.set(4, &[]));
    assert!(older.contains("sequence 5 or later, got 4"), "{older}");
    // Called newer than it is, to look worth fetching.
    assert!(refused(&mut keeper, 9, &world.set(4, &[])).contains("sequence 4 where 9"));
    let thinned = refused(&mut keeper, 6, &world.set(6, &[]));
    assert!(thinned.contains("edge-c"), "{thinned}");
    let stranger = World::new();
    let foreign = refused(&mut keeper, 6, &stranger.set(6, &[gone]));
    assert!(foreign.contains("issuer does not count"), "{foreign}");
    let mut forged = world.set(6, &[gone, ("edge-b", [2; 32])]);
    *forged.last_mut().unwrap() ^= 1;
    refused(&mut keeper, 6, &forged);
    refused(&mut keeper, 6, &world.set(6, &[gone])[..100]);
    assert_eq!(keeper.sequence(), Some(5));
}

#[test]
fn a_truncated_file_is_named_with_what_to_do() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    keeper.receive(1, &world.set(1, &[("edge-c", [3; 32])])).unwrap();
    keeper.write_down().unwrap();
    let path = world.directory.path().join(FILE);
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 10, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = world.keeper(&credentials).err().unwrap().to_string();
        let told = [path.to_str().unwrap(), "remove it", "copy it from another node"];
        assert!(told.iter().all(|part| error.contains(part)), "{error}");
    }
    // What a crash leaves beside it does no harm.
    std::fs::write(&path, &whole).unwrap();
    std::fs::write(path.with_extension("new"), &whole[..10]).unwrap();
    assert_eq!(world.keeper(&credentials).unwrap().0.sequence(), Some(1));
}

#[test]
fn a_log_that_shows_two_trees_is_found_out() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    let shown = world.head(&[b"one", b"two"]);
    push(&mut keeper, &world.bundle(7, world.revocations(1, &[]), shown.clone())).unwrap();
    keeper.hear_all(&[shown.to_bytes().unwrap(), b"no head".to_vec()], "edge-b");
    assert!(keeper.warnings().is_empty());
    let other = world.head(&[b"one", b"secret"]).to_bytes().unwrap();
    keeper.hear_all(&[other.clone(), other], "edge-b");
    assert_eq!(keeper.drops().get(DropReason::LogForked), 2);
    let warnings = keeper.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("edge-b") && warnings[0].contains("has forked"), "{warnings:?}");
}

#[test]
fn a_certificate_outside_its_log_is_refused_after_the_grace() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, heads) = world.keeper(&credentials).unwrap();
    let leaf = world.leaf("edge-b", 2, &new_keys());
    let none: &[&[u8]] = &[];
    let head = world.head(&[&leaf]);
    let logs = keeper.logs.clone();
    push(&mut keeper, &world.bundle(7, world.revocations(1, &[]), head.clone())).unwrap();
    let verifier = keeper.credentials().unwrap().verifier;
    let identity = verifier.verify(&leaf, none, Role::Server, SystemTime::now()).unwrap();
    let check = |leaf: &[u8], proof: &[u8]| {
        logs.check(&Shown { peer: PeerId(4), identity: &identity, leaf, proof })
    };
    let good = LogProof { head, index: 0, path: Vec::new() }.to_bytes().unwrap();
    check(&leaf, &good).unwrap();
    assert!(heads.try_recv().is_ok(), "the head that it showed is compared with others");
    for (leaf, proof, part) in [
        (leaf.as_slice(), &b""[..], "got none"),
        (&leaf, &good[..good.len() - 1], "log proof"),
        (b"another certificate", &good, "not shown to be in the log"),
    ] {
        let refused = check(leaf, proof).unwrap_err();
        assert_eq!(refused.reason, DropReason::LogProofRefused);
        assert!(refused.why.contains(part), "{}", refused.why);
    }
    // Certificates are backdated by five minutes.
    keeper.set_grace(Duration::from_secs(3600));
    check(&leaf, b"").unwrap();
}

#[test]
fn a_revoked_issuer_signs_nothing_more() {
    let world = World::new();
    let credentials = world.credentials();
    let (mut keeper, _) = world.keeper(&credentials).unwrap();
    let own = world.issuer.keys().public().fingerprint();
    let entry = Revoked { keys: own, kind: RevokedKind::Issuer, node: "edge-a".into(), at_s: 1 };
    let mesh = world.root.mesh().to_owned();
    let set = Revocations { mesh, sequence: 1, entries: vec![entry] };
    // It cannot revoke itself: whoever holds stolen keys could end the mesh with one set.
    let set = Signed::sign(&set, world.issuer.keys()).unwrap();
    let issuer = world.issuer.certificate().to_vec();
    let bytes = SignedSet { issuer, set }.to_bytes().unwrap();
    let error = keeper.receive(1, &bytes).unwrap_err().to_string();
    assert!(error.contains("revoked issuer edge-a"), "{error}");
}

//! What nodes pass on to each other: sets of revocations, log heads, proofs. Each sender may be the
//! attacker.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod lab;

use lab::{Lab, new_keys};
use proptest::prelude::*;
use stoq_mesh::tree::{self, MemoryNodes, Tree};
use stoq_mesh::{
    Consistency, DecodeError, HeadError, HeadStore, Heard, LogProof, LogProofError, OpenError,
    REVOCATIONS_MAX, REVOCATIONS_MAX_BYTES, Record, RevocationError, RevocationStore, Revocations,
    RevokedKind, Signed, TreeHead,
};

#[test]
fn only_a_newer_set_that_still_has_every_entry_counts() {
    let (lab, mut store) = (Lab::new(2), RevocationStore::new());
    let signers = lab.signers();
    let sign =
        |sequence, of: &[u8]| Signed::sign(&lab.revocations(sequence, of), lab.keys(0)).unwrap();
    assert_eq!(store.accept(&sign(2, &[5]), &signers).unwrap().len(), 1);
    assert_eq!(store.accept(&sign(2, &[5]), &signers).unwrap(), [], "again");
    let by_another = Signed::sign(&lab.revocations(2, &[5]), lab.keys(1)).unwrap();
    assert_eq!(store.accept(&by_another, &signers).unwrap(), [], "the same by another issuer");
    let new = store.accept(&sign(4, &[5, 6]), &signers).unwrap();
    assert_eq!(new.iter().map(|entry| entry.keys[0]).collect::<Vec<_>>(), [6]);
    let error = |store: &mut RevocationStore, set: &Signed<Revocations>| {
        let before = (store.sequence(), store.len());
        let error = store.accept(set, &signers).unwrap_err();
        assert_eq!((store.sequence(), store.len()), before);
        error
    };
    let older = RevocationError::Older { have: 4, got: 3 };
    assert_eq!(error(&mut store, &sign(3, &[5, 6, 7])), older);
    let forked = RevocationError::Forked { sequence: 4 };
    assert_eq!(error(&mut store, &sign(4, &[5, 7])), forked);
    assert_eq!(error(&mut store, &sign(4, &[5, 6, 7])), forked);
    let missing = RevocationError::Missing { node: "gone-6".to_owned(), got: 9 };
    assert_eq!(error(&mut store, &sign(9, &[5, 7])), missing);
    assert!(store.is_revoked(&[5; 32], "") && store.is_revoked(&[6; 32], ""));
    assert!(store.is_revoked(&[1; 32], "gone-5") && !store.is_revoked(&[7; 32], "gone-7"));
    assert_eq!(store.newest(), Some(&sign_same(&lab, &store)));
}

/// The newest set as the store holds it, decoded from its own bytes.
fn sign_same(lab: &Lab, store: &RevocationStore) -> Signed<Revocations> {
    let bytes = store.newest().unwrap().to_bytes().unwrap();
    let again: Signed<Revocations> = Signed::from_bytes(&bytes).unwrap();
    again.open(&lab.signers()).unwrap();
    again
}

#[test]
fn the_name_of_an_issuer_that_left_is_not_revoked() {
    let (lab, mut store) = (Lab::new(1), RevocationStore::new());
    let mut set = lab.revocations(2, &[5]);
    set.entries[0].kind = RevokedKind::Issuer;
    store.accept(&Signed::sign(&set, lab.keys(0)).unwrap(), &lab.signers()).unwrap();
    assert!(!store.is_revoked(&[1; 32], "gone-5") && store.is_revoked(&[5; 32], "gone-5"));
}

#[test]
fn a_set_that_no_issuer_signed_is_refused() {
    let (lab, mut store) = (Lab::new(1), RevocationStore::new());
    let set = lab.revocations(2, &[5]);
    for keys in [&new_keys(), &lab.issuers[0].log] {
        let signed = Signed::sign(&set, keys).unwrap();
        let error = store.accept(&signed, &lab.signers()).unwrap_err();
        assert!(matches!(error, RevocationError::Open(OpenError::Signer { .. })), "{error}");
    }
    // Signed by an issuer, as something else.
    let record = Signed::sign(&lab.record("edge-a", 1), lab.keys(0)).unwrap();
    let bytes = record.to_bytes().unwrap();
    if let Ok(disguised) = Signed::<Revocations>::from_bytes(&bytes) {
        assert!(store.accept(&disguised, &lab.signers()).is_err());
    }
    assert_eq!(store.sequence(), 0);
}

#[test]
fn the_largest_set_stays_within_its_bytes() {
    let lab = Lab::new(1);
    let mut set = lab.revocations(u64::MAX, &[]);
    for n in 0..REVOCATIONS_MAX as u64 {
        let mut entry = lab.revocations(1, &[0xff]).entries.remove(0);
        entry.keys[..8].copy_from_slice(&n.to_be_bytes());
        (entry.node, entry.at_s) = ("n".repeat(63), u64::MAX);
        set.entries.push(entry);
    }
    let signed = Signed::sign(&set, lab.keys(0)).unwrap();
    let bytes = signed.to_bytes().unwrap();
    assert!(bytes.len() <= REVOCATIONS_MAX_BYTES, "{}", bytes.len());
    set.entries.push(set.entries[0].clone());
    assert!(Signed::sign(&set, lab.keys(0)).is_err(), "one more");
    let oversized = Signed::<Record>::from_bytes(&bytes).unwrap_err();
    assert!(matches!(oversized, DecodeError::Oversized { .. }));
}

#[test]
fn a_signed_object_is_worth_nothing_once_a_byte_is_changed() {
    let lab = Lab::new(1);
    let signers = lab.signers();
    let signed = Signed::sign(&lab.record("edge-a", 1), lab.keys(0)).unwrap();
    let bytes = signed.to_bytes().unwrap();
    assert_eq!(signed.open(&signers), Ok(lab.record("edge-a", 1)));
    for at in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let opened = Signed::<Record>::from_bytes(&changed).map(|signed| signed.open(&signers));
        assert!(!matches!(opened, Ok(Ok(_))), "byte {at}");
    }
}

struct Log {
    tree: Tree,
    nodes: MemoryNodes,
}

impl Log {
    fn of(leaves: &[&str]) -> Self {
        let mut log = Self { tree: Tree::new(), nodes: MemoryNodes::default() };
        for leaf in leaves {
            log.nodes.store(&log.tree.append(tree::leaf_hash(leaf.as_bytes())));
        }
        log
    }

    fn head(&self, lab: &Lab) -> Signed<TreeHead> {
        let head = lab.head(0, self.tree.size(), self.tree.root());
        Signed::sign(&head, &lab.issuers[0].log).unwrap()
    }

    fn consistency(&self, from: u64, to: u64) -> Consistency {
        Consistency { from, to, path: tree::consistency_path(&self.nodes, from, to).unwrap() }
    }
}

#[test]
fn a_certificate_is_in_the_log_or_it_is_refused() {
    let lab = Lab::new(1);
    let log = Log::of(&["a", "b", "c"]);
    let path = tree::inclusion_path(&log.nodes, 1, 3).unwrap();
    let proof = LogProof { head: log.head(&lab), index: 1, path };
    let proof = LogProof::from_bytes(&proof.to_bytes().unwrap()).unwrap();
    assert_eq!(proof.verify(b"b", &lab.signers()).unwrap().size, 3);
    let other = proof.verify(b"a", &lab.signers()).unwrap_err();
    assert!(matches!(other, LogProofError::Path(_)), "{other}");
    let stranger = Lab::new(1);
    let foreign = proof.verify(b"b", &stranger.signers()).unwrap_err();
    assert!(matches!(foreign, LogProofError::Head(OpenError::Signer { .. })), "{foreign}");
    // An issuer's keys are not its log's.
    let head = lab.head(0, 3, log.tree.root());
    let by_issuer = LogProof { head: Signed::sign(&head, lab.keys(0)).unwrap(), ..proof.clone() };
    assert!(by_issuer.verify(b"b", &lab.signers()).is_err());
    // Nor may one log sign for another.
    let two = Lab::new(2);
    let head = Signed::sign(&two.head(0, 3, log.tree.root()), &two.issuers[1].log).unwrap();
    assert!(LogProof { head, ..proof }.verify(b"b", &two.signers()).is_err());
}

#[test]
fn two_trees_of_one_size_are_a_fork() {
    let (lab, mut store) = (Lab::new(1), HeadStore::new());
    let (one, other) = (Log::of(&["a", "b"]), Log::of(&["a", "x"]));
    assert_eq!(store.hear(&one.head(&lab), &lab.signers()), Ok(Heard::First));
    assert_eq!(store.hear(&one.head(&lab), &lab.signers()), Ok(Heard::Known));
    let error = store.hear(&other.head(&lab), &lab.signers()).unwrap_err();
    let HeadError::Fork(fork) = error else { panic!("{error}") };
    assert_eq!(fork.size, 2);
    // Both signatures can be shown to anybody.
    let roots = [&fork.known, &fork.came].map(|head| head.open(&lab.signers()).unwrap().root);
    assert_eq!(roots, [one.tree.root(), other.tree.root()]);
}

#[test]
fn a_head_of_another_size_is_proven_before_it_is_passed_on() {
    let (lab, mut store) = (Lab::new(1), HeadStore::new());
    let (old, new) = (Log::of(&["a", "b"]), Log::of(&["a", "b", "c", "d", "e"]));
    let log = lab.issuers[0].log.public().fingerprint();
    store.hear(&old.head(&lab), &lab.signers()).unwrap();
    let heard = store.hear(&new.head(&lab), &lab.signers());
    assert_eq!(heard, Ok(Heard::Unproven { proven: 2 }));
    assert_eq!((store.unproven(), store.newest_of(&log).unwrap().size), (1, 2));
    let unknown = store.prove(&log, &new.consistency(3, 5)).unwrap_err();
    assert!(matches!(unknown, HeadError::Unknown { from: 3, to: 5, .. }), "{unknown}");
    assert_eq!(store.newest_of(&log).unwrap().size, 2);
    store.prove(&log, &new.consistency(2, 5)).unwrap();
    assert_eq!((store.unproven(), store.newest_of(&log).unwrap().size), (0, 5));
    assert_eq!(store.newest().count(), 1);
}

#[test]
fn a_log_that_has_changed_its_past_has_no_proof() {
    let (lab, mut store) = (Lab::new(1), HeadStore::new());
    let (old, changed) = (Log::of(&["a", "b", "c"]), Log::of(&["a", "x", "c", "d", "e"]));
    let log = lab.issuers[0].log.public().fingerprint();
    store.hear(&old.head(&lab), &lab.signers()).unwrap();
    store.hear(&changed.head(&lab), &lab.signers()).unwrap();
    for tree in [&changed, &Log::of(&["a", "b", "c", "d", "e"])] {
        let error = store.prove(&log, &tree.consistency(3, 5)).unwrap_err();
        assert!(matches!(error, HeadError::Inconsistent { .. }), "{error}");
    }
    assert_eq!((store.unproven(), store.newest_of(&log).unwrap().size), (1, 3));
}

#[test]
fn heads_beyond_the_most_are_forgotten_but_not_the_proven_one() {
    let (lab, mut store) = (Lab::new(1), HeadStore::new());
    let log = lab.issuers[0].log.public().fingerprint();
    for size in 1..=100 {
        let head = Signed::sign(&lab.head(0, size, [7; 32]), &lab.issuers[0].log).unwrap();
        store.hear(&head, &lab.signers()).unwrap();
    }
    assert_eq!(store.newest_of(&log).unwrap().size, 1);
    assert_eq!(store.unproven(), 63);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_fail_otherwise_than_by_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = Signed::<Record>::from_bytes(&bytes);
        let _ = Signed::<Revocations>::from_bytes(&bytes).map(|set| set.claims());
        let _ = LogProof::from_bytes(&bytes);
        let _ = stoq_mesh::Bundle::from_bytes(&bytes);
    }
}

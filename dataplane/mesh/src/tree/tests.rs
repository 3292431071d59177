//! The tree against the definition in RFC 9162 §2.1, written down as it stands there, and against
//! known answers.

use proptest::prelude::*;

use super::*;

/// MTH of RFC 9162 §2.1.1.
fn naive_root(leaves: &[Vec<u8>]) -> [u8; 32] {
    match leaves {
        [] => empty_root(),
        [leaf] => leaf_hash(leaf),
        _ => {
            let k = naive_split(leaves.len());
            node_hash(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
        }
    }
}

fn naive_split(n: usize) -> usize {
    (0..).map(|power| 1 << power).take_while(|k| *k < n).last().unwrap()
}

/// PATH of RFC 9162 §2.1.3.1.
fn naive_path(m: usize, leaves: &[Vec<u8>]) -> Vec<[u8; 32]> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = naive_split(leaves.len());
    let (mut path, other) = if m < k {
        (naive_path(m, &leaves[..k]), naive_root(&leaves[k..]))
    } else {
        (naive_path(m - k, &leaves[k..]), naive_root(&leaves[..k]))
    };
    path.push(other);
    path
}

/// SUBPROOF of RFC 9162 §2.1.4.1.
fn naive_proof(m: usize, leaves: &[Vec<u8>], whole: bool) -> Vec<[u8; 32]> {
    if m == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let k = naive_split(leaves.len());
    let (mut proof, other) = if m <= k {
        (naive_proof(m, &leaves[..k], whole), naive_root(&leaves[k..]))
    } else {
        (naive_proof(m - k, &leaves[k..], false), naive_root(&leaves[..k]))
    };
    proof.push(other);
    proof
}

fn grow(leaves: &[Vec<u8>]) -> (Tree, MemoryNodes) {
    let (mut tree, mut nodes) = (Tree::new(), MemoryNodes::default());
    for leaf in leaves {
        nodes.store(&tree.append(leaf_hash(leaf)));
    }
    (tree, nodes)
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| n.to_be_bytes().to_vec()).collect()
}

const SIZES: usize = 64;

#[test]
fn every_root_and_every_inclusion_up_to_64_leaves_is_as_defined() {
    let all = numbered(SIZES);
    for size in 0..=SIZES {
        let leaves = &all[..size];
        let (tree, nodes) = grow(leaves);
        assert_eq!(tree.root(), naive_root(leaves), "size {size}");
        assert_eq!(Tree::from_nodes(size as u64, &nodes), Ok(tree.clone()));
        for index in 0..size {
            let path = inclusion_path(&nodes, index as u64, size as u64).unwrap();
            assert_eq!(path, naive_path(index, leaves), "leaf {index} of {size}");
            let leaf = leaf_hash(&leaves[index]);
            verify_inclusion(&leaf, index as u64, size as u64, &path, &tree.root()).unwrap();
        }
    }
}

#[test]
fn every_consistency_up_to_64_leaves_is_as_defined() {
    let all = numbered(SIZES);
    let (_, nodes) = grow(&all);
    for to in 1..=SIZES {
        for from in 1..=to {
            let path = consistency_path(&nodes, from as u64, to as u64).unwrap();
            assert_eq!(path, naive_proof(from, &all[..to], true), "{from} to {to}");
            let (old, new) = (naive_root(&all[..from]), naive_root(&all[..to]));
            verify_consistency((from as u64, &old), (to as u64, &new), &path).unwrap();
        }
    }
}

fn hash(hex: &str) -> [u8; 32] {
    let bytes: Vec<u8> =
        (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The inputs and roots of the reference implementation of Certificate Transparency
/// (google/certificate-transparency, `cpp/merkletree/merkle_tree_test.cc`; the same in
/// transparency-dev/merkle, `testonly/constants.go`), whose tree RFC 6962 and RFC 9162 share.
#[test]
fn the_reference_tree_has_the_known_roots() {
    let inputs: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
            0x6e, 0x6f,
        ],
    ];
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::new();
    assert_eq!(tree.root(), hash(roots[0]));
    for (input, root) in inputs.iter().zip(&roots[1..]) {
        tree.append(leaf_hash(input));
        assert_eq!(tree.root(), hash(root), "size {}", tree.size());
    }
}

proptest! {
    #[test]
    fn a_proof_for_anything_else_does_not_hold(
        size in 1_usize..=64, index in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(),
    ) {
        let leaves = numbered(size);
        let (tree, nodes) = grow(&leaves);
        let (index, size, root) = (index.index(size), size as u64, tree.root());
        let leaf = leaf_hash(&leaves[index]);
        let index = index as u64;
        let path = inclusion_path(&nodes, index, size).unwrap();
        let holds = |leaf, index, size, path: &[[u8; 32]], root| {
            verify_inclusion(leaf, index, size, path, root).is_ok()
        };
        prop_assert!(holds(&leaf, index, size, &path, &root));
        prop_assert!(!holds(&leaf_hash(b"other"), index, size, &path, &root));
        prop_assert!(!holds(&leaf, index, size, &path, &leaf_hash(b"other")));
        prop_assert!(!holds(&leaf, size, size, &path, &root));
        prop_assert!((0..size).all(|other| other == index || !holds(&leaf, other, size, &path, &root)));
        let longer = [&path[..], &[[0; 32]]].concat();
        prop_assert!(!holds(&leaf, index, size, &longer, &root));
        if !path.is_empty() {
            prop_assert!(!holds(&leaf, index, size, &path[1..], &root));
            let mut other = path.clone();
            let at = flip.index(path.len());
            other[at][7] ^= 1;
            prop_assert!(!holds(&leaf, index, size, &other, &root));
        }
    }

    #[test]
    fn a_log_that_was_changed_is_not_consistent(
        to in 2_usize..=64, from in any::<prop::sample::Index>(), edited in any::<prop::sample::Index>(),
    ) {
        let leaves = numbered(to);
        let from = 1 + from.index(to - 1);
        let mut changed = leaves.clone();
        changed[edited.index(from)] = b"changed".to_vec();
        let (old, _) = grow(&leaves[..from]);
        let (new, nodes) = grow(&changed);
        let path = consistency_path(&nodes, from as u64, to as u64).unwrap();
        let verdict = verify_consistency(
            (from as u64, &old.root()), (to as u64, &new.root()), &path,
        );
        prop_assert!(verdict.is_err());
    }

    #[test]
    fn no_path_makes_the_verifiers_fail_otherwise_than_by_an_error(
        index in any::<u64>(), size in any::<u64>(), from in any::<u64>(),
        path in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let root = [7; 32];
        prop_assert!(verify_inclusion(&root, index, size, &path, &[0; 32]).is_err());
        prop_assert!(verify_consistency((from, &root), (size, &[0; 32]), &path).is_err());
    }
}

#[test]
fn a_missing_node_is_named() {
    let (_, nodes) = grow(&numbered(4));
    let error = inclusion_path(&nodes, 0, 8).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("node 1 of level 2"), "{text}");
}

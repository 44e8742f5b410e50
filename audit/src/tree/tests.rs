use super::*;

/// All pairs up to this size are tried.
const ALL: u64 = 130;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn tree_of(size: u64) -> HashTree {
    let mut tree = HashTree::new();
    for i in 0..size {
        assert_eq!(tree.append(leaf_hash(&i.to_be_bytes())), i);
    }
    tree
}

/// The definition in RFC 6962, transcribed.
fn defined_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&defined_root(left), &defined_root(right))
        }
    }
}

/// THREATS 6.3.
#[test]
fn roots_are_those_of_the_published_vectors() {
    let entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        (
            0,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            1,
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            2,
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        ),
        (
            3,
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        ),
        (
            7,
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        ),
        (
            8,
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ];
    let (mut tree, mut edge) = (HashTree::new(), Edge::default());
    for size in 0..=entries.len() {
        if let Some((_, root)) = roots.iter().find(|(at, _)| *at == size) {
            assert_eq!(tree.root().to_vec(), hex(root), "size {size}");
            assert_eq!(edge.root(), tree.root());
        }
        if let Some(entry) = entries.get(size) {
            tree.append(leaf_hash(&hex(entry)));
            edge.append(leaf_hash(&hex(entry)));
        }
    }
}

#[test]
fn every_root_is_the_defined_one_at_every_later_size() {
    let (tree, mut edge, mut leaves) = (tree_of(300), Edge::default(), Vec::new());
    for size in 0..=300 {
        assert_eq!(tree.root_at(size), Some(defined_root(&leaves)), "size {size}");
        assert_eq!((edge.size(), edge.root()), (size, defined_root(&leaves)));
        let leaf = leaf_hash(&size.to_be_bytes());
        leaves.push(leaf);
        edge.append(leaf);
    }
    assert_eq!(tree.root_at(301), None);
}

/// All proofs that differ from `proof` by one hash flipped, dropped, doubled, swapped with its neighbour, or added.
fn forgeries(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for i in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[i][i % 32] ^= 1 << (i % 8);
        let mut dropped = proof.to_vec();
        dropped.remove(i);
        let mut doubled = proof.to_vec();
        doubled.insert(i, proof[i]);
        all.extend([flipped, dropped, doubled]);
        if i + 1 < proof.len() {
            let mut swapped = proof.to_vec();
            swapped.swap(i, i + 1);
            all.push(swapped);
        }
    }
    for extra in [[0; 32], empty_root()] {
        all.extend([[proof, &[extra]].concat(), [&[extra], proof].concat()]);
    }
    all
}

/// T58.
#[test]
fn inclusion_proofs_hold_and_no_forgery_of_one_does() {
    let tree = tree_of(ALL);
    for size in 1..=ALL {
        let root = tree.root_at(size).unwrap();
        for index in 0..size {
            let leaf = tree.leaf(index).unwrap();
            let proof = tree.inclusion(index, size).unwrap();
            verify_inclusion(index, size, &leaf, &proof, &root).unwrap();
            for forged in forgeries(&proof) {
                assert!(
                    verify_inclusion(index, size, &leaf, &forged, &root).is_err(),
                    "{index} of {size}"
                );
            }
            // T60: a proof is for one record at one place.
            let other = leaf_hash(b"other");
            assert_eq!(
                verify_inclusion(index, size, &other, &proof, &root),
                Err(ProofError::Root)
            );
            for wrong in [index.wrapping_sub(1), index + 1] {
                assert!(
                    verify_inclusion(wrong, size, &leaf, &proof, &root).is_err(),
                    "{index} as {wrong} of {size}"
                );
            }
        }
        assert_eq!(tree.inclusion(size, size), None);
    }
    assert_eq!(tree.inclusion(0, ALL + 1), None);
}

/// T58.
#[test]
fn consistency_proofs_hold_and_no_forgery_of_one_does() {
    let tree = tree_of(ALL);
    for to in 0..=ALL {
        let root_to = tree.root_at(to).unwrap();
        for from in 0..=to {
            let root_from = tree.root_at(from).unwrap();
            let proof = tree.consistency(from, to).unwrap();
            verify_consistency(from, to, &root_from, &root_to, &proof).unwrap();
            for forged in forgeries(&proof) {
                assert!(
                    verify_consistency(from, to, &root_from, &root_to, &forged).is_err(),
                    "{from} to {to}"
                );
            }
            assert!(
                verify_consistency(from, to, &[7; 32], &root_to, &proof).is_err(),
                "{from} to {to}"
            );
            // Every log continues the empty one, so the later root is arbitrary there.
            assert_eq!(
                verify_consistency(from, to, &root_from, &[7; 32], &proof).is_err(),
                from != 0 || to == 0,
                "{from} to {to}"
            );
        }
        assert_eq!(tree.consistency(to + 1, to), None);
        assert!(verify_consistency(to + 1, to, &root_to, &root_to, &[]).is_err());
    }
    assert_eq!(tree.consistency(1, ALL + 1), None);
}

/// T69: for any claimed sizes, 64 hashes are more than a proof has.
#[test]
fn sizes_at_the_edge_of_the_numbers_are_errors_not_panics() {
    let many = [[1; 32]; 70];
    for (a, b) in [
        (0, u64::MAX),
        (u64::MAX - 1, u64::MAX),
        (u64::MAX, u64::MAX),
        (1 << 63, u64::MAX),
        (1, 1),
    ] {
        for n in [0, 1, 63, 64, 65, 70] {
            assert!(verify_inclusion(a, b, &[0; 32], &many[..n], &[0; 32]).is_err());
            assert!(verify_consistency(b, a, &[0; 32], &[1; 32], &many[..n]).is_err());
            let _ = verify_consistency(a, b, &[0; 32], &[1; 32], &many[..n]);
        }
    }
}

use super::*;
use crate::cache::{CacheType, PagePool, Shape};
use crate::sequence::{Sequence, Want};

/// A head width that does not fill whole panels.
const HEADS: Heads = Heads { query: 6, kv: 3, dim: 40 };
const CONTEXT: usize = 330;

/// Numbers in -1..1 that depend on `salt`.
fn numbers(len: usize, salt: u32) -> Vec<f32> {
    let hash =
        |i: u32| (i ^ salt).wrapping_mul(0x9e37_79b9).rotate_left(9).wrapping_mul(0x85eb_ca6b);
    (0..len as u32).map(|i| (hash(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The output for every token of a context, processed in batches of a given size.
fn attend(ty: CacheType, window: usize, threads: usize, batch: usize) -> Vec<u32> {
    let Heads { query, kv, dim } = HEADS;
    let mut workers = Workers::new(threads, 0).unwrap();
    let shape = Shape { layers: 2, kv_heads: kv, head_dim: dim, ty };
    let mut sequence = Sequence::new(shape, PagePool::default());
    let q = numbers(CONTEXT * query * dim, 1);
    let k = numbers(CONTEXT * kv * dim, 2);
    let v = numbers(CONTEXT * kv * dim, 3);
    let (mut buffers, mut out) = (AttentionBuffers::default(), vec![0.0; q.len()]);
    for start in (0..CONTEXT).step_by(batch) {
        let tokens = start..CONTEXT.min(start + batch);
        let part = |width: usize| tokens.start * width..tokens.end * width;
        let (queries, keys) = (part(query * dim), part(kv * dim));
        sequence.reserve(tokens.len()).unwrap();
        let ids = vec![0; tokens.len()];
        let input = Part { sequence: &mut sequence, tokens: &ids, want: Want::Nothing };
        let runs = [Run { part: 0, index: 0, position: start, rows: 0..tokens.len() }];
        let attention = Attention { heads: HEADS, layer: 1, scale: 0.3, window, runs: &runs };
        let parts = &mut [input];
        attention.store(&mut workers, parts, &k[keys.clone()], &v[keys]);
        attention.run(&mut workers, parts, &q[queries.clone()], &mut buffers, &mut out[queries]);
        sequence.push(&ids);
    }
    out.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn attention_does_not_depend_on_batches_and_threads() {
    for ty in [CacheType::F32, CacheType::F16, CacheType::Q8] {
        for window in [usize::MAX, 300, 50, 1] {
            let whole = attend(ty, window, 1, CONTEXT);
            for (threads, batch) in [(2, 1), (1, 7), (3, 8), (7, 100)] {
                let found = attend(ty, window, threads, batch);
                assert!(
                    found == whole,
                    "{ty:?}, window {window}: {threads} threads, {batch} tokens"
                );
            }
        }
    }
}

#[test]
fn a_token_sees_its_window_alone() {
    let Heads { query, kv, dim } = HEADS;
    let out = attend(CacheType::F32, 1, 2, 64);
    let v = numbers(CONTEXT * kv * dim, 3);
    for (row, out) in out.chunks(dim).enumerate() {
        // With a single position the weight is 1.
        let (t, head) = (row / query, row % query);
        let value = &v[(t * kv + head / (query / kv)) * dim..][..dim];
        assert!(
            value.iter().map(|x| x.to_bits()).eq(out.iter().copied()),
            "token {t}, head {head}"
        );
    }
    assert_ne!(attend(CacheType::F32, 50, 2, 64), attend(CacheType::F32, 51, 2, 64));
}

#[test]
fn rounded_caches_come_close() {
    let exact = attend(CacheType::F32, usize::MAX, 2, 64);
    for (ty, limit) in [(CacheType::F16, 1e-3), (CacheType::Q8, 1e-2)] {
        let rounded = attend(ty, usize::MAX, 2, 64);
        let error = |(a, b): (&u32, &u32)| (f32::from_bits(*a) - f32::from_bits(*b)).abs();
        let worst = exact.iter().zip(&rounded).map(error).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < limit, "{ty:?}: {worst}");
    }
}

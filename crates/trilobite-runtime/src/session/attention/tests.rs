use super::*;
use crate::cache::CacheType;

/// Layers, key and value heads, width of a head: a width that fills no panel.
const SHAPE: [usize; 3] = [2, 3, 40];
/// Query heads.
const HEADS: usize = 6;
const CONTEXT: usize = 330;

/// Numbers in -1..1 that differ by `salt`.
fn numbers(len: usize, salt: u32) -> Vec<f32> {
    let hash =
        |i: u32| (i ^ salt).wrapping_mul(0x9e37_79b9).rotate_left(9).wrapping_mul(0x85eb_ca6b);
    (0..len as u32).map(|i| (hash(i) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

/// The output for every token of a context, read in batches of some size.
fn attend(ty: CacheType, window: usize, threads: usize, batch: usize) -> Vec<u32> {
    let [_, kv_heads, head_dim] = SHAPE;
    let kernels = Kernels::detect().unwrap();
    let (mut team, mut cache) = (Team::new(threads).unwrap(), Cache::of_shape(SHAPE, CONTEXT, ty));
    let scratch = (0..threads).map(|_| Mutex::new(Scratch::new(0))).collect::<Vec<_>>();
    let q = numbers(CONTEXT * HEADS * head_dim, 1);
    let k = numbers(CONTEXT * kv_heads * head_dim, 2);
    let v = numbers(CONTEXT * kv_heads * head_dim, 3);
    let (mut scores, mut out) = (Vec::new(), vec![0.0; q.len()]);
    for start in (0..CONTEXT).step_by(batch) {
        let tokens = start..CONTEXT.min(start + batch);
        let part = |width: usize| tokens.start * width..tokens.end * width;
        let (queries, keys) = (part(HEADS * head_dim), part(kv_heads * head_dim));
        cache.store((kernels, &mut team), 1, start, &k[keys.clone()], &v[keys]);
        let (cache, scratch) = (&cache, &scratch[..]);
        let attention =
            Attention { kernels, cache, scratch, layer: 1, heads: HEADS, scale: 0.3, window };
        attention.run(&mut team, start, &q[queries.clone()], &mut scores, &mut out[queries]);
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
    let [_, kv_heads, head_dim] = SHAPE;
    let out = attend(CacheType::F32, 1, 2, 64);
    let v = numbers(CONTEXT * kv_heads * head_dim, 3);
    for (row, out) in out.chunks(head_dim).enumerate() {
        // Of one position, the weight is 1.
        let (t, head) = (row / HEADS, row % HEADS);
        let value = &v[(t * kv_heads + head / (HEADS / kv_heads)) * head_dim..][..head_dim];
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

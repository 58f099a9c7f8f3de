use super::*;
use crate::model::tests::{llama, maple};
use crate::model::{Rope, Scaling};

fn names(model: &Hyperparameters, has: impl Fn(Role) -> bool) -> Vec<String> {
    tensors(model, |role, _| has(role)).into_iter().map(|tensor| tensor.name).collect()
}

#[test]
fn the_table_is_in_the_order_of_roles_and_names_are_read_back() {
    for (index, row) in TABLE.iter().enumerate() {
        assert_eq!(row.role as usize, index, "{}", row.name);
        let layer = if row.in_layer { 7 } else { 0 };
        assert_eq!(Role::of(&row.role.name(layer)), Some((row.role, layer)));
    }
    for other in ["blk.0.output.weight", "attn_q.weight", "blk.x.attn_q.weight", "blk.0", "output"]
    {
        assert_eq!(Role::of(other), None, "{other}");
    }
}

#[test]
fn a_layer_has_what_its_architecture_has() {
    let count = |arch, has: fn(Role) -> bool| {
        let model = Hyperparameters { arch, layers: 1, ..llama() };
        names(&model, has).len()
    };
    for (arch, more) in [
        (Architecture::Llama, 0),
        (Architecture::BitNet, 2),
        (Architecture::BitNetB158, 2),
        (Architecture::Qwen2, 3),
        (Architecture::Qwen3, 2),
        (Architecture::Gemma3, 4),
        (Architecture::MiniCpm, 0),
    ] {
        assert_eq!(count(arch, |_| false), 2 + 9 + more, "{arch:?}");
        assert_eq!(count(arch, |role| role == Role::Head), 3 + 9 + more, "{arch:?}");
    }
}

#[test]
fn tensors_are_in_the_order_of_files_with_their_shapes() {
    let model = Hyperparameters { layers: 2, ..llama() };
    let all = tensors(&model, |role, _| matches!(role, Role::QBias | Role::Head | Role::RopeFreqs));
    let of = |name: &str| all.iter().position(|tensor| tensor.name == name).unwrap();
    for (name, at, shape) in [
        ("token_embd.weight", 0, &[20, 16][..]),
        ("rope_freqs.weight", 1, &[4]),
        ("blk.0.attn_norm.weight", 2, &[16]),
        ("blk.0.attn_q.weight", 3, &[32, 16]),
        ("blk.0.attn_k.weight", 4, &[16, 16]),
        ("blk.0.attn_output.weight", 6, &[16, 32]),
        ("blk.0.ffn_down.weight", 10, &[16, 24]),
        ("blk.0.attn_q.bias", 11, &[32]),
        ("blk.1.attn_norm.weight", 12, &[16]),
        ("output_norm.weight", 22, &[16]),
        ("output.weight", 23, &[20, 16]),
    ] {
        assert_eq!((of(name), &all[at].shape[..]), (at, shape), "{name}");
    }
    assert_eq!(all.len(), 24);
}

#[test]
fn a_mixture_has_experts_instead_of_one_network() {
    let model = maple();
    let all = tensors(&model, |role, _| role == Role::Head);
    let of = |name: &str| all.iter().find(|tensor| tensor.name == name);
    for (name, shape) in [
        ("blk.0.attn_q_norm.weight", &[8][..]),
        ("blk.2.ffn_gate_inp.weight", &[6, 16]),
        ("blk.2.ffn_gate_exps.weight", &[6, 12, 16]),
        ("blk.2.ffn_up_exps.weight", &[6, 12, 16]),
        ("blk.2.ffn_down_exps.weight", &[6, 16, 12]),
    ] {
        assert_eq!(of(name).unwrap().shape, shape, "{name}");
    }
    assert_eq!((of("blk.0.ffn_gate.weight"), all.len()), (None, 3 + 3 * 12));
    assert_eq!(tensors(&llama(), |_, _| true).iter().filter(|t| t.role.is_of_experts()).count(), 0);
    assert!(Role::DownExperts.is_projection() && !Role::Router.is_projection());
}

#[test]
fn divisors_follow_the_scaling() {
    let scaling = Scaling::LongRope { original: 8 };
    let long = Hyperparameters { rope: Rope { scaling, ..llama().rope }, ..llama() };
    let divisors = |model: &Hyperparameters| {
        let mut names = names(model, |_| true);
        names.retain(|name| name.starts_with("rope"));
        names
    };
    assert_eq!(divisors(&llama()), ["rope_freqs.weight"]);
    assert_eq!(divisors(&long), ["rope_factors_short.weight", "rope_factors_long.weight"]);
}

#[test]
fn the_specification_names_every_tensor() {
    let specification = include_str!("../../../README.md");
    for row in &TABLE {
        assert!(specification.contains(row.name), "{}", row.name);
    }
    for part in HeadScanPart::ALL {
        assert!(specification.contains(part.name()), "{}", part.name());
        assert_eq!(HeadScanPart::of(part.name()), Some(part));
    }
}

#[test]
fn every_projection_has_an_input_norm_as_wide_as_its_columns() {
    let model = llama();
    let all: Vec<Role> = TABLE.iter().map(|row| row.role).collect();
    let projections = all.iter().filter(|role| role.is_projection() && !role.is_of_experts());
    for role in projections.filter(|role| **role != Role::DownTransposed) {
        let norm = role.input_norm().unwrap();
        assert!(norm.is_input_norm() && norm.is_vector(), "{norm:?}");
        assert_eq!(norm.shape(&model)[0], role.shape(&model)[1], "{norm:?}");
    }
    assert_eq!(all.iter().filter(|role| role.is_input_norm()).count(), 7);
}

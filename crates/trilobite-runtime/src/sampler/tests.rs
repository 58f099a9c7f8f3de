use super::*;

fn sampler(sampling: Sampling) -> Sampler {
    Sampler::new(sampling).unwrap()
}

fn draws(sampling: Sampling, logits: &[f32], n: usize) -> Vec<u32> {
    let mut sampler = sampler(sampling);
    (0..n).map(|_| sampler.sample(Logits::all(logits), &[]).unwrap()).collect()
}

#[test]
fn greedy_takes_the_first_of_equals() {
    let mut sampler = sampler(Sampling::default());
    assert_eq!(sampler.sample(Logits::all(&[1.0, 3.0, 3.0, -1.0]), &[]).unwrap(), 1);
    assert!(sampler.sample(Logits::all(&[f32::NAN, f32::NAN]), &[]).is_err());
    assert!(sampler.sample(Logits::all(&[f32::INFINITY, 0.0]), &[]).is_err());
}

#[test]
fn the_same_seed_gives_the_same_tokens() {
    let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.7).sin() * 3.0).collect();
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, seed: 7, ..Default::default() };
    assert_eq!(draws(sampling, &logits, 50), draws(sampling, &logits, 50));
    let other = Sampling { seed: 8, ..sampling };
    assert_ne!(draws(sampling, &logits, 50), draws(other, &logits, 50));
}

/// Frequencies of 20,000 draws are within 4 standard deviations (0.014) of the softmax.
#[test]
fn frequencies_follow_the_softmax() {
    const TOLERANCE: f64 = 0.014;
    let logits = [0.0f32, 1.0, 2.0];
    let sampling = Sampling { temperature: 2.0, ..Default::default() };
    let drawn = draws(sampling, &logits, 20_000);
    let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / 2.0).exp()).collect();
    for (id, weight) in weights.iter().enumerate() {
        let share = drawn.iter().filter(|&&d| d as usize == id).count() as f64 / 20_000.0;
        assert!((share - weight / weights.iter().sum::<f64>()).abs() < TOLERANCE);
    }
}

#[test]
fn filters_keep_what_they_say() {
    // Probabilities 0.5, 0.3, 0.15, 0.05 in a shuffled order.
    let logits = [0.15f32.ln(), 0.5f32.ln(), 0.05f32.ln(), 0.3f32.ln()];
    let base = Sampling { temperature: 1.0, ..Default::default() };
    let kept = |sampling| {
        let mut kept = draws(sampling, &logits, 2_000);
        kept.sort_unstable();
        kept.dedup();
        kept
    };
    assert_eq!(kept(base), [0, 1, 2, 3]);
    assert_eq!(kept(Sampling { top_k: 2, ..base }), [1, 3]);
    assert_eq!(kept(Sampling { top_p: 0.75, ..base }), [1, 3]);
    assert_eq!(kept(Sampling { top_p: 0.85, ..base }), [0, 1, 3]);
    assert_eq!(kept(Sampling { top_p: 0.01, ..base }), [1]);
    assert_eq!(kept(Sampling { top_p: 0.0, ..base }), [1]);
    assert_eq!(kept(Sampling { top_p: 1.5, ..base }), [0, 1, 2, 3]);
    assert_eq!(kept(Sampling { top_k: 9, ..base }), [0, 1, 2, 3]);
    assert_eq!(kept(Sampling { min_p: 0.2, ..base }), [0, 1, 3]);
    assert_eq!(kept(Sampling { min_p: 1.0, ..base }), [1]);
}

#[test]
fn top_p_of_a_long_flat_distribution_sorts_on() {
    let logits = vec![0.0f32; 1_000];
    let sampling = Sampling { temperature: 1.0, top_p: 0.5, ..Default::default() };
    assert!(draws(sampling, &logits, 500).iter().all(|&id| id < 501));
}

#[test]
fn penalty_counts_a_token_once() {
    let sampling = Sampling { repeat_penalty: 2.0, ..Default::default() };
    let mut sampler = sampler(sampling);
    assert_eq!(sampler.sample(Logits::all(&[4.0, 3.0, 1.9]), &[0, 0]).unwrap(), 1);
    assert_eq!(sampler.sample(Logits::all(&[-1.0, -1.5]), &[0]).unwrap(), 1);
}

#[test]
fn tokens_of_the_answer_lose_and_a_bias_is_added() {
    let chosen = |sampling: Sampling, bias: &[(u32, f32)], answer: &[u32]| {
        let mut sampler = sampler(sampling).with_bias(bias.to_vec()).unwrap();
        // Token by token, as answers come.
        (0..=answer.len()).for_each(|len| sampler.watch(&answer[..len]));
        sampler.sample(Logits::all(&[4.0, 3.0, 2.0]), &[0, 0]).unwrap()
    };
    let base = Sampling::default();
    let frequency = Sampling { frequency_penalty: 0.6, ..base };
    let presence = Sampling { presence_penalty: 1.1, ..base };
    // What only the prompt has counts nothing.
    assert_eq!(chosen(frequency, &[], &[]), 0);
    assert_eq!(chosen(frequency, &[], &[0]), 0);
    assert_eq!(chosen(frequency, &[], &[0, 0]), 1);
    assert_eq!(chosen(presence, &[], &[0, 0, 0]), 1);
    assert_eq!(chosen(presence, &[], &[0, 0, 1]), 0);
    assert_eq!(chosen(Sampling { presence_penalty: -2.0, ..base }, &[], &[1]), 1);
    assert_eq!(chosen(base, &[(2, 2.5)], &[]), 2);
    assert_eq!(chosen(base, &[(0, -100.0), (7, 1.0)], &[]), 1);
    assert_eq!(sampler(frequency).needs(), None);
    assert_eq!(sampler(base).with_bias(vec![(2, 1.0)]).unwrap().needs(), None);
    assert!(sampler(base).with_bias(vec![(2, f32::NAN)]).is_err());
}

#[test]
fn another_answer_is_counted_anew() {
    let mut sampler = sampler(Sampling { presence_penalty: 2.0, ..Default::default() });
    sampler.watch(&[0]);
    sampler.watch(&[1]);
    assert_eq!(sampler.sample(Logits::all(&[4.0, 3.0, 2.5]), &[]).unwrap(), 0);
}

#[test]
fn a_constraint_allows_tokens_and_learns_which_was_chosen() {
    struct Odd(std::sync::mpsc::Sender<u32>);
    impl Constraint for Odd {
        fn forbid(&mut self, logits: &mut [f32]) -> Result<()> {
            logits.iter_mut().step_by(2).for_each(|logit| *logit = f32::NEG_INFINITY);
            Ok(())
        }
        fn advance(&mut self, id: u32) -> Result<()> {
            self.0.send(id).unwrap();
            Ok(())
        }
    }
    let (sender, chosen) = std::sync::mpsc::channel();
    let sampling = Sampling { temperature: 1.0, ..Default::default() };
    let mut sampler = sampler(sampling).with_constraint(Box::new(Odd(sender)));
    assert_eq!(sampler.needs(), None);
    let logits = Logits::all(&[9.0, 1.0, 9.0, 1.5, 9.0]);
    let drawn: Vec<u32> = (0..50).map(|_| sampler.sample(logits, &[]).unwrap()).collect();
    assert!(drawn.iter().all(|id| id % 2 == 1));
    assert_eq!(chosen.try_iter().collect::<Vec<_>>(), drawn);
}

#[test]
fn a_loop_ends_and_shorter_repetitions_go_on() {
    let sampling = Sampling { loop_penalty: 1.0, ..Default::default() };
    let mut sampler = sampler(sampling);
    // The model is sure of 0, 1, 2, 0, 1, 2, ... and would else say 3.
    let logits = |next: usize| {
        let mut logits = [0.0, 0.0, 0.0, 2.0];
        logits[next] = 6.0;
        logits
    };
    let mut answer = Vec::new();
    for step in 0..40 {
        sampler.watch(&answer);
        let next = sampler.sample(Logits::all(&logits(step % 3)), &[]).unwrap();
        answer.push(next);
    }
    let broken = answer.iter().position(|&id| id == 3).unwrap();
    // After 11 tokens eight repeat what came three before, and after 14 eleven: 1.75^3 > 6 - 2.
    assert_eq!(broken, 14);
    sampler.watch(&answer[..11]);
    assert_eq!(sampler.loops, [(2, 1.0)]);
    sampler.watch(&answer[..10]);
    assert_eq!(sampler.loops, []);
    let few = Sampling { top_k: 4, temperature: 1.0, ..sampling };
    let mut sampler = Sampler::new(few).unwrap();
    sampler.watch(&answer[..11]);
    assert_eq!(sampler.needs(), Some(Largest { rank: 2, ..Largest::count(5) }));
    let mut sampler = Sampler::new(Sampling { top_k: 0, top_p: 0.5, ..few }).unwrap();
    assert!(sampler.needs().is_some());
    // A lowered logit changes the probabilities of all tokens.
    sampler.watch(&answer[..11]);
    assert_eq!(sampler.needs(), None);
}

#[test]
fn few_logits_are_needed_where_few_can_be_chosen() {
    let base = Sampling { temperature: 1.0, top_k: 40, ..Default::default() };
    let needs = |sampling| sampler(sampling).needs();
    assert_eq!(needs(Sampling::default()), Some(Largest::count(1)));
    assert_eq!(needs(base), Some(Largest::count(40)));
    assert_eq!(needs(Sampling { top_p: 0.5, min_p: 0.1, ..base }), Some(Largest::count(40)));
    let kept = Largest::nucleus(Nucleus { top_p: 0.5, temperature: 1.0 });
    assert_eq!(needs(Sampling { top_k: 0, top_p: 0.5, ..base }), Some(kept));
    assert_eq!(needs(Sampling { top_k: 0, top_p: 0.5, min_p: 0.1, ..base }), Some(kept));
    assert_eq!(needs(Sampling { top_k: 0, top_p: 0.5, repeat_penalty: 1.1, ..base }), None);
    assert_eq!(needs(Sampling { top_k: 0, ..base }), None);
    assert_eq!(needs(Sampling { repeat_penalty: 1.1, ..base }), None);
}

#[test]
fn min_p_needs_what_is_near_the_largest() {
    let base = Sampling { temperature: 0.5, min_p: 0.1, ..Default::default() };
    let margin = |sampling| sampler(sampling).needs().map(|needs| (needs.count, needs.within));
    let (count, within) = margin(base).unwrap();
    assert_eq!(count, usize::MAX);
    let exact = 0.5 * 10f32.ln();
    assert!(within > exact && within < exact * 1.0001, "{within}");
    assert_eq!(margin(Sampling { top_k: 9, ..base }), Some((9, within)));
    let (_, within) = margin(Sampling { min_p: 1.0, ..base }).unwrap();
    assert!((0.0..1e-6).contains(&within));
    assert_eq!(margin(Sampling { min_p: 0.0, ..base }), None);
    assert_eq!(margin(Sampling { temperature: f32::MAX, ..base }), None);
    let greedy = Sampling { temperature: 0.0, ..base };
    assert_eq!(sampler(greedy).needs(), Some(Largest::count(1)));
}

#[test]
fn parameters_out_of_range_are_errors() {
    let base = Sampling::default();
    for bad in [
        Sampling { temperature: -1.0, ..base },
        Sampling { temperature: f32::NAN, ..base },
        Sampling { top_p: -0.1, ..base },
        Sampling { min_p: 1.5, ..base },
        Sampling { repeat_penalty: 0.0, ..base },
        Sampling { loop_penalty: -1.0, ..base },
        Sampling { frequency_penalty: f32::NAN, ..base },
    ] {
        assert!(Sampler::new(bad).is_err(), "{bad:?}");
    }
}

//! `trilobite bench`: the speed of the engine compared with the memory bandwidth.

mod batch;
mod profile;
mod speculation;
pub(super) mod spread;
mod tokens;

use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use memmap2::MmapMut;
use serde_json::{Value, json};
use trilobite_format::model::is_projection;
use trilobite_kernels::scan::REFINEMENTS;
use trilobite_kernels::{Kernels, read_all};
use trilobite_runtime::{
    Activations, Layer, Live, Logits, MAX_BATCH, Matrix, Model, Session, SessionOptions,
    Speculation, Team,
};

use self::speculation::Speeds;
use self::spread::{Spread, noun, row};
use self::tokens::{best, prompt};
use crate::args::{Bench, Compute, Global};
use crate::{interrupt, machine, model, output};

/// Number of bytes read to measure the memory bandwidth. They exceed any cache.
const STREAM_BYTES: usize = 512 << 20;
/// Number of passes over them. The result is the median.
const STREAM_RUNS: usize = 5;

/// Counts of the weights read of those that decoded tokens can skip.
#[derive(Default)]
pub(super) struct Work {
    tokens: u64,
    live: Live,
    /// Rows of the head multiplied exactly.
    rows: u64,
    /// Rows of the coarse copy for which one further bit was read, and two, three and four.
    refined: [u64; REFINEMENTS],
    /// Bytes read, including those of the coarse copy.
    bytes: u64,
}

impl Work {
    fn count(&mut self, model: &Model, found: Logits<'_>) {
        let weights = model.weights();
        let (rows, whole) = (found.values().len(), weights.head.place.range.len());
        self.tokens += 1;
        self.rows += rows as u64;
        self.bytes += match &weights.head_scan {
            Some(scan) if !found.is_all() => {
                let refined = found.refined();
                for (sum, refined) in self.refined.iter_mut().zip(refined) {
                    *sum += refined as u64;
                }
                let bits =
                    scan.refinements.range.len() / refined.len() * refined.iter().sum::<usize>();
                let some = (whole * rows + bits) / weights.head.rows;
                // A scale, a norm and a residual, and a byte for each anchor.
                let known = 3 * size_of::<f32>() + found.anchors();
                scan.codes.range.len() + known * weights.head.rows + some
            }
            _ => whole,
        } as u64;
    }

    /// Bytes read of the head per token.
    fn head_bytes(&self) -> u64 {
        self.bytes / self.tokens.max(1)
    }

    /// Average bytes of the feed-forward networks that a token does not read.
    fn skipped_bytes(&self, model: &Model) -> u64 {
        let layers = &model.weights().layers;
        let skipped = |fraction: Option<f64>, matrix: fn(&Layer) -> &Matrix| {
            let bytes: usize = layers.iter().map(|layer| matrix(layer).place.range.len()).sum();
            bytes as f64 * (1.0 - fraction.unwrap_or(1.0))
        };
        let rows = skipped(self.live.row_fraction(), |layer| &layer.up);
        let columns = skipped(self.live.column_fraction(), |layer| &layer.down);
        (rows + columns) as u64
    }

    /// Exact rows per token.
    fn mean_rows(&self) -> f64 {
        self.rows as f64 / self.tokens.max(1) as f64
    }

    /// Refined rows per token.
    fn mean_refined(&self) -> [f64; REFINEMENTS] {
        self.refined.map(|rows| rows as f64 / self.tokens.max(1) as f64)
    }
}

/// The results of one thread count.
struct Measured {
    threads: usize,
    prefill: Vec<(usize, Spread)>,
    /// Decoding speed and memory bandwidth.
    decode: Option<(Spread, f64)>,
    /// Decoding speed of several sequences together.
    batches: Vec<(usize, Spread)>,
    /// Energy of a decoded token, if it can be measured.
    joules: Option<Spread>,
    /// Decoding speeds with drafts, if requested.
    speculation: Option<Speeds>,
}

pub(crate) fn run(args: &Bench, global: &Global) -> Result<ExitCode> {
    let model = model::load_to_decode(&args.model, args.threads.iter().max().copied(), global)?;
    ensure!(
        args.n == 0 || !model.only_embeds(),
        "the model gives embeddings only, so there is nothing to decode; -n 0 measures its prefill"
    );
    let context = args.depth.saturating_add(args.n).saturating_add(1);
    let longest = args.prompt.iter().copied().max().unwrap_or(0).max(context);
    ensure!(
        longest <= model.config().context,
        "{longest} tokens were asked for, but the model was made for at most {}",
        model.config().context
    );
    let threads: Vec<usize> = match args.threads.is_empty() {
        true => vec![machine::cores()],
        false => args.threads.iter().map(|&n| n.into()).collect(),
    };

    // Thread counts are interleaved, so that a slow phase of the machine affects all of them.
    let mut prefill = vec![vec![Vec::new(); args.prompt.len()]; threads.len()];
    let mut decode = vec![Vec::new(); threads.len()];
    let mut batches = vec![vec![Vec::new(); args.batch.len()]; threads.len()];
    let mut sessions = Vec::new();
    for &threads in &threads {
        let (context, batch) = (longest, MAX_BATCH);
        let &Bench { kv: cache, activations, plain, .. } = args;
        let options = SessionOptions { threads, context, batch, cache, activations, plain };
        let session = Session::new(Arc::clone(&model), options)?;
        sessions.push((session, batch::Sequences::default()));
    }
    let mut speculation = Vec::new();
    if args.speculate || args.draft.is_some() {
        for ((session, _), &threads) in sessions.iter().zip(&threads) {
            let path = args.draft.as_ref();
            let drafter = path.map(|path| drafter(path, session, threads, args, global));
            speculation.push(Speeds::new(drafter.transpose()?));
        }
    }
    let mut work = Work::default();
    let energy = machine::Energy::counters();
    let mut joules = vec![Vec::new(); threads.len()];
    let mut bandwidths = vec![Vec::new(); threads.len()];
    let (mut peak, mut stream) = (None, None);
    for round in 0..=args.runs {
        if round == 1 {
            // Later runs need no more memory than the first, and the stream does not belong to the
            // model.
            peak = machine::peak_resident_bytes();
            stream = Some(self::stream()?);
        }
        for (slot, (session, sequences)) in sessions.iter_mut().enumerate() {
            if !global.quiet {
                let threads = format!("{} {}", threads[slot], noun(threads[slot]));
                match round {
                    0 => output::say(&format!("warming up, {threads}")),
                    _ => output::say(&format!("run {round} of {}, {threads}", args.runs)),
                }
            }
            for (index, &tokens) in args.prompt.iter().enumerate().filter(|(_, n)| **n > 0) {
                let speed = prefill_speed(session, tokens)?;
                if round > 0 {
                    prefill[slot][index].push(speed);
                }
            }
            if let Some(speeds) = speculation.get_mut(slot).filter(|_| args.n > 0) {
                speeds.measure(session, args, round)?;
            }
            if args.n > 0 {
                let read = || energy.as_ref().and_then(machine::Energy::read);
                let before = read();
                let speed = decode_speed(session, args.depth, args.n, &mut work)?;
                let taken = match (&energy, before, read()) {
                    (Some(energy), Some(before), Some(after)) => energy.joules(&before, &after),
                    _ => None,
                };
                if let Some(stream) = &stream {
                    // Measured next to the speed, since it varies over time.
                    bandwidths[slot].push(bandwidth(stream, threads[slot])?);
                    decode[slot].push(speed);
                    joules[slot].extend(taken.map(|taken| taken / args.n as f64));
                }
                for (index, &count) in args.batch.iter().enumerate() {
                    let speed = sequences.speed(session, args, count.into())?;
                    if round > 0 {
                        batches[slot][index].push(speed);
                    }
                }
            }
        }
    }
    let mut speculation = speculation.into_iter();
    let profiles = match args.profile {
        true => profiles(&mut sessions, &threads, args)?,
        false => Vec::new(),
    };
    drop(sessions);
    /// The spread of the speeds for each number of tokens or sequences that was measured.
    fn spreads(counts: impl Iterator<Item = usize>, speeds: &[Vec<f64>]) -> Vec<(usize, Spread)> {
        let measured = counts.zip(speeds).filter(|(_, speeds)| !speeds.is_empty());
        measured.map(|(count, speeds)| (count, Spread::of(speeds.clone()))).collect()
    }
    let results: Vec<Measured> = threads
        .iter()
        .enumerate()
        .map(|(slot, &threads)| Measured {
            threads,
            prefill: spreads(args.prompt.iter().copied(), &prefill[slot]),
            decode: (!decode[slot].is_empty()).then(|| {
                let bandwidth = Spread::of(bandwidths[slot].clone()).median;
                (Spread::of(decode[slot].clone()), bandwidth)
            }),
            batches: spreads(args.batch.iter().map(|&count| count.into()), &batches[slot]),
            joules: (!joules[slot].is_empty()).then(|| Spread::of(joules[slot].clone())),
            speculation: speculation.next(),
        })
        .collect();

    let bytes = bytes_per_token(&model, &work, args);
    let cache_bytes = args.kv.bytes_for(model.config(), 1);
    let name = model::name(&args.model);
    if args.json {
        let objects = results.iter().map(|result| {
            let mut object = json!({
                "model": name,
                "isa": Kernels::detect()?.isa.name(),
                "layout": layout(&model),
                "threads": result.threads,
                "runs": args.runs,
                "prefill": result.prefill.iter().map(|(tokens, speed)| {
                    json!({"tokens": tokens, "tokens_per_s": speed.json()})
                }).collect::<Vec<_>>(),
                "decode": result.decode.as_ref().map(|(speed, bandwidth)| json!({
                    "tokens": args.n,
                    "depth": args.depth,
                    "tokens_per_s": speed.json(),
                    "joules_per_token": result.joules.as_ref().map(Spread::json),
                    "bytes_per_token": bytes,
                    "head_rows_per_token": work.mean_rows(),
                    "refined_rows_per_token": work.mean_refined(),
                    "live_fraction": work.live.row_fraction(),
                    "live_code_fraction": work.live.column_fraction(),
                    "bandwidth_bytes_per_s": bandwidth,
                    "fraction_of_limit": bytes as f64 * speed.median / bandwidth,
                })),
                "batches": result.batches.iter().map(|(sequences, speed)| {
                    json!({"sequences": sequences, "tokens_per_s": speed.json()})
                }).collect::<Vec<_>>(),
                "cache": args.kv.name(),
                "activations": args.activations.name(),
                "cache_bytes_per_token": cache_bytes,
                "peak_resident_bytes": peak,
                "non_embedding_bytes": model.weights().non_embedding_bytes(),
                "machine": machine::describe(),
            });
            if let Some(speeds) = &result.speculation {
                object["speculation"] = speeds.json();
            }
            if args.profile {
                let own = profiles.iter().filter(|part| part.threads() == result.threads);
                object["profile"] = own.map(profile::StageTimes::json).collect();
            }
            Ok(object)
        });
        output::print_json(&Value::Array(objects.collect::<Result<_>>()?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "{}: {}{}, {}, {}\n",
        output::line(&name),
        layout(&model),
        if args.activations == Activations::default() { "" } else { ", int8 activations" },
        Kernels::detect()?.isa.name(),
        machine::cpu_name().unwrap_or_else(|| std::env::consts::ARCH.into()),
    );
    for result in &results {
        for (tokens, speed) in &result.prefill {
            text += &row(result.threads, &format!("prefill {tokens}"), speed);
        }
        let what = match args.depth {
            0 => format!("decode {}", args.n),
            depth => format!("decode {}@{depth}", args.n),
        };
        if let Some((speed, bandwidth)) = &result.decode {
            text += &row(result.threads, &what, speed);
            text += &format!(
                "  {} read per token at {:.1} GB/s: {:.0} % of the limit\n",
                output::bytes(bytes),
                bandwidth / 1e9,
                100.0 * bytes as f64 * speed.median / bandwidth,
            );
            if let Some(speeds) = &result.speculation {
                text += &speeds.text(result.threads);
            }
            if let Some(joules) = &result.joules {
                text +=
                    &format!("  {:.3} J per token by the processor's counters\n", joules.median);
            }
            text += &format!(
                "  {:.1} of the {} rows of the head computed per token",
                work.mean_rows(),
                model.weights().head.rows
            );
            let refined = work.mean_refined();
            text += &match refined[0] > 0.0 {
                true => {
                    let rows = refined.map(|rows| format!("{rows:.0}")).join(", ");
                    format!(", {rows} read with a fourth, fifth, sixth and seventh bit\n")
                }
                false => "\n".to_owned(),
            };
            if let Some(rows) = work.live.row_fraction() {
                text += &format!("  {:.1} % of the gate activations are not zero", 100.0 * rows);
                text += &match work.live.column_fraction() {
                    Some(columns) => {
                        format!(", {:.1} % of the down projection's inputs\n", 100.0 * columns)
                    }
                    None => "\n".to_owned(),
                };
            }
        }
        for (sequences, speed) in &result.batches {
            text += &row(result.threads, &format!("{sequences} x {what}"), speed);
        }
    }
    text += &format!(
        "weights without the embedding {}",
        output::bytes(model.weights().non_embedding_bytes() as u64)
    );
    let cache = args.kv.name();
    text += &format!(", {cache} cache {} a token", output::bytes(cache_bytes as u64));
    if let Some(peak) = peak {
        text += &format!(", peak resident {}", output::bytes(peak));
    }
    text += "\n";
    if args.profile {
        text += &format!("\n{}", profile::table(&profiles));
    }
    output::print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The time of each stage for each thread count, measured in separate runs.
fn profiles(
    sessions: &mut [(Session, batch::Sequences)],
    threads: &[usize],
    args: &Bench,
) -> Result<Vec<profile::StageTimes>> {
    let mut profiles = Vec::new();
    for ((session, sequences), &threads) in sessions.iter_mut().zip(threads) {
        if args.n > 0 {
            profiles.push(profile::StageTimes::new(
                session,
                threads,
                ("decode", args.n),
                args.n,
                |session| {
                    decode_speed(session, args.depth, args.n, &mut Work::default()).map(|_| ())
                },
            )?);
            for count in args.batch.iter().map(|&count| usize::from(count)) {
                profiles.push(profile::StageTimes::new(
                    session,
                    threads,
                    ("sequences", count),
                    count * args.n,
                    |session| sequences.speed(session, args, count).map(|_| ()),
                )?);
            }
        }
        for &tokens in args.prompt.iter().filter(|tokens| **tokens > 0) {
            profiles.push(profile::StageTimes::new(
                session,
                threads,
                ("prefill", tokens),
                tokens,
                |session| prefill_speed(session, tokens).map(|_| ()),
            )?);
        }
    }
    Ok(profiles)
}

/// Speculation by the model of `--draft`, for a session.
fn drafter(
    path: &Path,
    session: &Session,
    threads: usize,
    args: &Bench,
    global: &Global,
) -> Result<Speculation> {
    let threads = u16::try_from(threads).ok();
    let &Bench { kv, activations, plain, .. } = args;
    let compute = Compute { threads, batch: MAX_BATCH, kv, activations, plain };
    model::drafter(path, session.model(), session, &compute, args.model.no_cache, global)
}

/// Prefill speed in tokens per second, including the logits of the last token.
fn prefill_speed(session: &mut Session, tokens: usize) -> Result<f64> {
    let prompt = prompt(session.model(), tokens);
    session.truncate(0);
    let start = Instant::now();
    match session.model().only_embeds() {
        true => session.read(&prompt)?,
        false => drop(best(session.next_logits(&prompt)?)?),
    }
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// Speed of greedy decoding of `n` tokens in tokens per second, in a context of `depth` tokens and
/// one more.
pub(super) fn decode_speed(
    session: &mut Session,
    depth: usize,
    n: usize,
    work: &mut Work,
) -> Result<f64> {
    let model = Arc::clone(session.model());
    let mut next = prompt(&model, 1);
    // All tokens before position `depth` are those of the prompt.
    session.truncate(depth);
    session.read(&prompt(&model, depth)[session.position()..])?;
    session.take_live();
    let start = Instant::now();
    for _ in 0..n {
        ensure!(!interrupt::seen(), "interrupted");
        let logits = session.next_largest(&next, 1)?;
        work.count(&model, logits);
        next[0] = best(logits)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    work.live += session.take_live();
    Ok(n as f64 / seconds)
}

/// Bytes per decoded token: the weights (of experts, those that the token uses), the keys and
/// values of the tokens before the decoded ones and, on average, those of half of the decoded ones.
fn bytes_per_token(model: &Model, work: &Work, args: &Bench) -> u64 {
    let tokens = args.depth + args.n.div_ceil(2);
    let cache = args.kv.bytes_for(model.config(), tokens);
    let all = (model.weights().non_embedding_bytes() + cache) as u64;
    all - work.skipped_bytes(model) - model.unused_experts().1 + work.head_bytes()
}

/// The storage types of the layers' matrices.
fn layout(model: &Model) -> String {
    let matrices = model.gguf().tensors().iter().filter(|t| is_projection(&t.name));
    let mut names: Vec<&str> = matrices.map(|t| t.ty.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(" + ")
}

/// Memory to read, in large pages if the system has them, like the weights.
fn stream() -> Result<MmapMut> {
    let mut stream = MmapMut::map_anon(STREAM_BYTES)?;
    #[cfg(target_os = "linux")]
    if let Err(error) = stream.advise(memmap2::Advice::HugePage) {
        // The kernel was built without large pages.
        ensure!(error.kind() == std::io::ErrorKind::InvalidInput, error);
    }
    // Pages that were never written share one page of zeros.
    stream.fill(1);
    Ok(stream)
}

/// Bytes per second that all threads together read from memory.
fn bandwidth(stream: &[u8], threads: usize) -> Result<f64> {
    let mut team = Team::new(threads, || ())?;
    let share = stream.len().div_ceil(threads);
    let mut pass = || {
        let start = Instant::now();
        team.run(&|member| {
            black_box(read_all(stream.chunks(share).nth(member).unwrap_or_default()));
        });
        size_of_val(stream) as f64 / start.elapsed().as_secs_f64()
    };
    pass();
    let speeds = (0..STREAM_RUNS).map(|_| pass()).collect();
    Ok(Spread::of(speeds).median)
}

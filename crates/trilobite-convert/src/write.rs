//! Writing a planned file, and checking a written one against its source.

use std::collections::BTreeMap;
use std::io::{self, Write};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trilobite_format::{Gguf, TensorType, Writer, ternary};
use trilobite_kernels::i2_s;

use crate::model::{Data, Plan, Planned};
use crate::options::{Options, Progress, Report, Stage, TypeTotal};
use crate::source::{Checkpoint, Kind};
use crate::trits::{GROUP, Scratch, Ternary};
use crate::{Error, gguf, hf};

/// Converts a checkpoint and writes the GGUF file to `out`.
///
/// Tensors are converted one at a time. The trits of every tensor are unpacked again and compared
/// before they are written. Reading back what has reached the disk is left to
/// [`convert_file`](crate::convert_file).
///
/// # Errors
/// See [`Error`]. What has been written to `out` by then is of no use.
pub fn convert<W: Write>(
    checkpoint: &Checkpoint,
    options: &Options,
    out: W,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, Error> {
    write(plan(checkpoint, options)?, out, progress).map(|(_, report)| report)
}

pub(crate) fn plan<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Plan<'a>, Error> {
    match checkpoint.kind {
        Kind::HuggingFace => hf::plan(checkpoint, options),
        Kind::Gguf => gguf::plan(checkpoint, options),
    }
}

pub(crate) fn write<'a, W: Write>(
    plan: Plan<'a>,
    out: W,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Plan<'a>, Report), Error> {
    let out = Hashing { out, hash: Sha256::new(), bytes: 0 };
    let index = plan.tensors.iter().map(|t| (t.name.clone(), t.ty, t.shape.clone())).collect();
    let mut writer = Writer::new(out, &plan.metadata, index).map_err(Error::Write)?;
    let total = plan.tensors.iter().map(Planned::byte_len).sum();
    let mut done = 0;
    for tensor in &plan.tensors {
        tensor.stream(&mut |piece| {
            writer.piece(&tensor.name, piece).map_err(Error::Write)?;
            done += piece.len() as u64;
            progress(Progress { stage: Stage::Write, tensor: &tensor.name, done, total });
            Ok(())
        })?;
    }
    let out = writer.finish().map_err(Error::Write)?;
    let report = report(&plan, out.bytes, &out.hash.finalize());
    Ok((plan, report))
}

/// Compares a written file with the plan: every name, type, shape and metadata entry, and every
/// ternary weight with the source, decoded once more. Returns what differs.
pub(crate) fn verify(
    plan: &Plan<'_>,
    file: &[u8],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<String>, Error> {
    let Ok(gguf) = Gguf::parse(file) else { return Ok(Some("the header".to_owned())) };
    if *gguf.metadata() != plan.metadata || gguf.tensors().len() != plan.tensors.len() {
        return Ok(Some("the header".to_owned()));
    }
    let total = plan.tensors.iter().map(Planned::byte_len).sum();
    let mut done = 0;
    for (tensor, info) in plan.tensors.iter().zip(gguf.tensors()) {
        let described = (&info.name, info.ty, &info.shape);
        let same = described == (&tensor.name, tensor.ty, &tensor.shape)
            && match &tensor.data {
                Data::Ternary(source) => source.matches(tensor.ty, info.bytes(file))?,
                Data::Dense(_) | Data::Blocks(_) | Data::Values(_) => true,
            };
        if !same {
            return Ok(Some(format!("tensor {}", tensor.name)));
        }
        done += tensor.byte_len();
        progress(Progress { stage: Stage::Verify, tensor: &tensor.name, done, total });
    }
    Ok(None)
}

impl Planned<'_> {
    fn byte_len(&self) -> u64 {
        self.ty.byte_len(&self.shape).unwrap_or(0)
    }

    /// Passes the tensor's bytes on, in order.
    fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        match &self.data {
            Data::Ternary(ternary) => sink(&ternary.pack(self.ty)?),
            Data::Dense(dense) => dense.stream(&self.name, self.ty, sink),
            Data::Blocks(bytes) => sink(bytes),
            Data::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                sink(&bytes)
            }
        }
    }
}

impl Ternary<'_> {
    /// The bytes of the tensor as I2_S or I2_R.
    fn pack(&self, ty: TensorType) -> Result<Vec<u8>, Error> {
        let trits = self.open()?;
        let layout = layout(ty);
        let (rows, cols) = (self.rows, self.cols);
        let len = i2_s::packed_len(rows, cols, layout).unwrap_or(0);
        let mut out = vec![0; len + ternary::TAIL];
        let (codes, tail) = out.split_at_mut(len);
        tail.copy_from_slice(&ternary::tail(trits.scale));
        let failed = codes
            .par_chunks_mut(group_bytes(cols, layout))
            .enumerate()
            .map_init(Default::default, |buffers: &mut Buffers, (i, codes)| {
                let group = i * GROUP..((i + 1) * GROUP).min(rows);
                let weights = group.len() * cols;
                buffers.source.resize(weights, 0);
                trits.decode(group, &mut buffers.scratch, &mut buffers.source)?;
                i2_s::pack(&buffers.source, cols, layout, codes);
                buffers.packed.resize(weights, 0);
                i2_s::unpack(codes, cols, layout, &mut buffers.packed);
                if buffers.packed == buffers.source { Ok(()) } else { Err(self.changed()) }
            })
            .find_map_first(Result::err);
        failed.map_or(Ok(out), Err)
    }

    /// Whether the bytes of a written tensor hold exactly this tensor's trits and scale.
    fn matches(&self, ty: TensorType, written: &[u8]) -> Result<bool, Error> {
        let trits = self.open()?;
        let layout = layout(ty);
        let (rows, cols) = (self.rows, self.cols);
        let Some((codes, scale)) = ternary::split(written) else { return Ok(false) };
        let len = i2_s::packed_len(rows, cols, layout);
        if len != Some(codes.len()) || scale.to_bits() != trits.scale.to_bits() {
            return Ok(false);
        }
        let differs = codes
            .par_chunks(group_bytes(cols, layout))
            .enumerate()
            .map_init(Default::default, |buffers: &mut Buffers, (i, codes)| {
                let group = i * GROUP..((i + 1) * GROUP).min(rows);
                let weights = group.len() * cols;
                buffers.source.resize(weights, 0);
                buffers.packed.resize(weights, 0);
                trits.decode(group, &mut buffers.scratch, &mut buffers.source)?;
                i2_s::unpack(codes, cols, layout, &mut buffers.packed);
                Ok(buffers.packed != buffers.source)
            })
            .find_map_first(|result: Result<bool, Error>| match result {
                Ok(false) => None,
                other => Some(other),
            });
        differs.map_or(Ok(true), |result| result.map(|differs| !differs))
    }

    fn changed(&self) -> Error {
        Error::Changed { file: self.file.to_owned(), tensor: self.name.clone() }
    }
}

#[derive(Default)]
struct Buffers {
    scratch: Scratch,
    /// Trits of a group of rows, from the source.
    source: Vec<i8>,
    /// The same, from the packed codes.
    packed: Vec<i8>,
}

fn layout(ty: TensorType) -> i2_s::Rows {
    if ty == TensorType::I2S { i2_s::Rows::Flat } else { i2_s::Rows::Padded }
}

/// Code bytes of a group of rows, which are whole blocks in both layouts.
fn group_bytes(cols: usize, layout: i2_s::Rows) -> usize {
    i2_s::packed_len(GROUP, cols, layout).unwrap_or(1)
}

fn report(plan: &Plan<'_>, file_bytes: u64, hash: &[u8]) -> Report {
    let mut types: BTreeMap<u32, TypeTotal> = BTreeMap::new();
    for tensor in &plan.tensors {
        let total = types.entry(tensor.ty.id()).or_insert(TypeTotal {
            ty: tensor.ty,
            tensors: 0,
            weights: 0,
            bytes: 0,
        });
        total.tensors += 1;
        total.weights += tensor.shape.iter().product::<u64>();
        total.bytes += tensor.byte_len();
    }
    let types: Vec<TypeTotal> = types.into_values().collect();
    let bits = |ternary_only: bool| {
        let counted = types.iter().filter(|total| !ternary_only || total.ty.is_ternary());
        let (bytes, weights) =
            counted.fold((0, 0), |(b, w), total| (b + total.bytes, w + total.weights));
        (weights > 0).then(|| bytes as f64 * 8.0 / weights as f64)
    };
    Report {
        architecture: plan
            .metadata
            .str("general.architecture")
            .ok()
            .flatten()
            .unwrap_or_default()
            .to_owned(),
        ternary_bits_per_weight: bits(true),
        bits_per_weight: bits(false).unwrap_or(0.0),
        types,
        file_bytes,
        sha256: hex(hash),
        notes: plan.notes.clone(),
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Passes bytes on, and keeps their number and hash.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(bytes.get(..n).unwrap_or_default());
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

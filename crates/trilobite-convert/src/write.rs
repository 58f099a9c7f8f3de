//! Writing the planned file.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::OnceLock;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trilobite_format::model::{Hyperparameters, is_projection, zeros_note};
use trilobite_format::{Gguf, TensorType, Writer, ternary};
use trilobite_kernels::source::{has_one_magnitude, trits};
use trilobite_kernels::{DenseMatrix, Kernels, Layout, i2_s};

use crate::blocks::blocks;
use crate::dense::Dense;
use crate::grouped::Grouped;
use crate::layouts::Layouts;
use crate::model::{Data, Plan, Planned};
use crate::options::{self, Options, Progress, Report, Stage, TypeTotal};
use crate::source::{Checkpoint, Kind};
use crate::trits::{GROUP, Rounding, Scratch, Trits, layout};
use crate::{Error, gguf, hf};

/// Converts a checkpoint and writes the GGUF file to `out`.
///
/// Tensors are converted one at a time. The trits of every tensor are unpacked again and compared
/// before they are written. Only [`convert_file`](crate::convert_file) also reads back the file on
/// disk.
///
/// # Errors
/// See [`Error`]. After an error the data written to `out` are useless.
pub fn convert<W: Write>(
    checkpoint: &Checkpoint,
    options: &Options,
    out: W,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Report, Error> {
    start_threads(0)?;
    write(plan(checkpoint, options)?, out, progress).map(|(_, report)| report)
}

/// Starts the threads shared by all conversions of the process; 0 means one for each core. The first
/// call decides: a conversion starts them too.
///
/// # Errors
/// The threads cannot be started.
pub fn start_threads(threads: usize) -> Result<(), Error> {
    // Rayon would start them itself, but panics if it cannot.
    static FAILED: OnceLock<Option<io::ErrorKind>> = OnceLock::new();
    let failed = FAILED.get_or_init(|| {
        let error = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().err()?;
        // An error without a cause means that another part of the program has started them.
        Some(error.source()?.downcast_ref::<io::Error>()?.kind())
    });
    match failed {
        Some(kind) => Err(Error::Threads((*kind).into())),
        None => Ok(()),
    }
}

/// The layouts that the ternary weights of a checkpoint can have. `None` if it has no ternary
/// weights.
///
/// # Errors
/// See [`Error`].
pub fn layouts(checkpoint: &Checkpoint) -> Result<Option<Layouts>, Error> {
    // A layout that every ternary model can have, and that transposes nothing.
    let options = Options { layout: options::Layout::T5_3, ..Options::default() };
    match plan(checkpoint, &options) {
        Ok(plan) => Ok(Some(Layouts::of(&plan.tensors, &plan.model))),
        Err(Error::LayoutOfDense(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a GGUF file already has the tensors of its conversion, in the same types.
///
/// # Errors
/// See [`Error`].
pub fn is_converted(checkpoint: &Checkpoint, options: &Options) -> Result<bool, Error> {
    if checkpoint.kind != Kind::Gguf {
        return Ok(false);
    }
    let mut tensors = BTreeSet::new();
    for file in &checkpoint.files {
        let gguf =
            Gguf::parse(file).map_err(|source| Error::Gguf { file: file.name.clone(), source })?;
        tensors.extend(gguf.tensors().iter().map(|t| (t.name.clone(), t.ty, t.shape.clone())));
    }
    let plan = plan(checkpoint, options)?;
    let planned = plan.tensors.into_iter().map(|t| (t.name, t.ty, t.shape));
    Ok(planned.collect::<BTreeSet<_>>() == tensors)
}

pub(crate) fn plan<'a>(checkpoint: &'a Checkpoint, options: &Options) -> Result<Plan<'a>, Error> {
    let plan = match checkpoint.kind {
        Kind::HuggingFace => hf::plan(checkpoint, options),
        Kind::Gguf => gguf::plan(checkpoint, options),
    }?;
    // The check that opening the file will make.
    match Hyperparameters::read(&plan.metadata, None) {
        Ok(read) if read == plan.model => Ok(plan),
        Ok(_) => Err(Error::Undescribed),
        Err(source) => Err(Error::Unrunnable { source }),
    }
}

pub(crate) fn write<'a, W: Write>(
    mut plan: Plan<'a>,
    out: W,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<(Plan<'a>, Report), Error> {
    let out = Hashing { out, hash: Sha256::new(), bytes: 0 };
    let index = plan.tensors.iter().map(|t| (t.name.clone(), t.ty, t.shape.clone())).collect();
    let mut writer = Writer::new(out, &plan.metadata, index).map_err(Error::Write)?;
    let total = plan.tensors.iter().map(Planned::byte_len).sum();
    let mut done = 0;
    let (mut exactly, mut by_absmean) = (0, 0);
    let mut zeros = Vec::new();
    for tensor in &plan.tensors {
        let Streamed { rounding, zero } = tensor.stream(&mut |piece| {
            writer.piece(&tensor.name, piece).map_err(Error::Write)?;
            done += piece.len() as u64;
            let flow =
                progress(Progress { stage: Stage::Write, tensor: &tensor.name, done, total });
            if flow.is_break() {
                return Err(Error::Interrupted);
            }
            Ok(())
        })?;
        for source in tensor.data.sources() {
            plan.files.iter().for_each(|file| file.release(source));
        }
        match rounding {
            Some(Rounding::Exact) => exactly += 1,
            Some(Rounding::Absmean) => by_absmean += 1,
            None => {}
        }
        if zero {
            zeros.push(&tensor.name[..]);
        }
    }
    plan.notes.extend(zeros_note(&zeros));
    if exactly > 0 {
        plan.notes.push(format!("{exactly} dense projections were ternary and kept exactly"));
    }
    if by_absmean > 0 {
        plan.notes.push(format!("{by_absmean} dense projections were quantised by absmean"));
    }
    let out = writer.finish().map_err(Error::Write)?;
    let report = report(&plan, out.bytes, &out.hash.finalize());
    Ok((plan, report))
}

impl Planned<'_> {
    pub(crate) fn byte_len(&self) -> u64 {
        self.ty.byte_len(&self.shape).expect("types are chosen to hold their shapes")
    }

    /// Passes the tensor's bytes to `sink`, in order.
    fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<Streamed, Error> {
        match &self.data {
            Data::Ternary(ternary) => {
                let trits = ternary.open()?;
                let bytes = trits.pack(self.ty)?;
                let zero = trits.is_zero(&bytes, layout(self.ty))?;
                sink(&bytes)?;
                return Ok(Streamed { rounding: trits.rounding, zero });
            }
            Data::Dense(dense) => dense.stream(&self.name, self.ty, sink)?,
            Data::Stack(stack) => stack.stream(&self.name, self.ty, sink)?,
            Data::Blocks(bytes) => sink(bytes)?,
            Data::Bytes(bytes) => sink(bytes)?,
            Data::Grouped(grouped) => grouped.stream(self.ty, sink)?,
            Data::Mlx(mlx) => mlx.stream(sink)?,
            Data::Scan(scan) => scan.stream(sink)?,
            Data::Values(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                sink(&bytes)?;
            }
        }
        Ok(Streamed { rounding: None, zero: is_projection(&self.name) && self.is_zero() })
    }

    /// Whether all weights of a dense matrix are zero.
    fn is_zero(&self) -> bool {
        let &[rows, cols] = self.shape.as_slice() else { return false };
        let (rows, cols) = (rows as usize, cols as usize);
        match &self.data {
            Data::Dense(Dense { view, .. }) | Data::Grouped(Grouped { view, .. }) => {
                let mut row = Vec::new();
                (0..view.count()).step_by(cols).all(|start| {
                    view.widen(start..start + cols, &mut row);
                    has_one_magnitude(&row, 0.0)
                })
            }
            Data::Blocks(bytes) => {
                let Some(ty) = blocks(self.ty) else { return false };
                let matrix = DenseMatrix::new(ty, bytes, rows, cols);
                matrix.is_some_and(|matrix| Kernels::best().dense_is_zero(&matrix))
            }
            _ => false,
        }
    }
}

/// What was learnt about a tensor while writing it.
struct Streamed {
    /// How dense weights became ternary.
    rounding: Option<Rounding>,
    /// Whether it is a projection with only zero weights.
    zero: bool,
}

impl Trits<'_> {
    /// Whether all weights of the packed tensor are zero. If not, a scale of 0 is an error.
    fn is_zero(&self, bytes: &[u8], layout: Layout) -> Result<bool, Error> {
        let codes = &bytes[..bytes.len() - ternary::TAIL];
        let zero = layout.is_zero(codes, self.tensor.cols);
        if self.scale == 0.0 && !zero {
            let (file, tensor) = (self.tensor.file.to_owned(), self.tensor.scale_name());
            return Err(Error::Scale { file, tensor, found: self.scale });
        }
        Ok(zero)
    }

    /// The bytes of the tensor in one of the ternary types that are written.
    fn pack(&self, ty: TensorType) -> Result<Vec<u8>, Error> {
        let layout = layout(ty);
        if layout == Layout::I2T {
            return self.pack_transposed();
        }
        let (rows, cols) = (self.tensor.rows, self.tensor.cols);
        let len = layout.packed_len(rows, cols).expect("layouts are chosen to hold their shapes");
        let mut out = vec![0; len + ternary::TAIL];
        let (codes, tail) = out.split_at_mut(len);
        tail.copy_from_slice(&ternary::tail(self.scale));
        let failed = codes
            .par_chunks_mut(group_bytes(cols, layout))
            .enumerate()
            .map_init(Default::default, |buffers: &mut Buffers, (i, codes)| {
                let group = i * GROUP..((i + 1) * GROUP).min(rows);
                let weights = group.len() * cols;
                set_len(&mut buffers.source, weights);
                self.decode(group, &mut buffers.scratch, &mut buffers.source)?;
                layout.pack(&buffers.source, cols, codes);
                set_len(&mut buffers.packed, weights);
                layout.unpack(codes, cols, &mut buffers.packed);
                if buffers.packed == buffers.source { Ok(()) } else { Err(self.changed()) }
            })
            .find_map_first(Result::err);
        failed.map_or(Ok(out), Err)
    }

    /// The bytes of the transposed tensor as I2_R.
    fn pack_transposed(&self) -> Result<Vec<u8>, Error> {
        let (rows, cols) = (self.tensor.rows, self.tensor.cols);
        let source = self.decode_all()?;
        let len = Layout::I2T.packed_len(rows, cols).expect("I2_R holds every shape");
        let mut out = vec![0; len + ternary::TAIL];
        let (codes, tail) = out.split_at_mut(len);
        tail.copy_from_slice(&ternary::tail(self.scale));
        let group = len / cols * GROUP;
        codes.par_chunks_mut(group).enumerate().for_each_init(
            Vec::new,
            |columns: &mut Vec<i8>, (i, codes)| {
                // Some columns, one after the other.
                let first = i * GROUP;
                columns.clear();
                for col in first..cols.min(first + GROUP) {
                    trits::push_column(&source, cols, col, columns);
                }
                i2_s::pack(columns, rows, i2_s::Rows::Padded, codes);
            },
        );
        match transposed_equals(codes, &source, cols) {
            true => Ok(out),
            false => Err(self.changed()),
        }
    }

    /// The trits of the whole tensor, row-major.
    pub(crate) fn decode_all(&self) -> Result<Vec<i8>, Error> {
        let (rows, cols) = (self.tensor.rows, self.tensor.cols);
        let mut trits = vec![0; rows * cols];
        let failed = trits
            .par_chunks_mut((GROUP * cols).max(1))
            .enumerate()
            .map_init(Scratch::default, |scratch, (i, out)| {
                self.decode(i * GROUP..((i + 1) * GROUP).min(rows), scratch, out)
            })
            .find_map_first(Result::err);
        failed.map_or(Ok(trits), Err)
    }

    fn changed(&self) -> Error {
        Error::Changed { file: self.tensor.file.to_owned(), tensor: self.tensor.name.clone() }
    }
}

/// Whether the codes of a transposed matrix encode the given row-major trits, in rows of `cols`.
pub(crate) fn transposed_equals(codes: &[u8], row_major: &[i8], cols: usize) -> bool {
    let rows = row_major.len() / cols;
    let differs = codes.par_chunks(codes.len() / cols).enumerate().map_init(
        Default::default,
        |(packed, source): &mut (Vec<i8>, Vec<i8>), (col, codes)| {
            set_len(packed, rows);
            i2_s::unpack(codes, rows, i2_s::Rows::Padded, packed);
            source.clear();
            trits::push_column(row_major, cols, col, source);
            packed != source
        },
    );
    !differs.any(|differs| differs)
}

/// The buffers of a thread.
#[derive(Default)]
pub(crate) struct Buffers {
    pub(crate) scratch: Scratch,
    /// Trits of a group of rows, from the source.
    pub(crate) source: Vec<i8>,
    /// Trits of the same rows, unpacked from the codes.
    pub(crate) packed: Vec<i8>,
}

/// Sets the length of a buffer that will be overwritten. Without optimisation, `resize` writes one
/// element after another.
pub(crate) fn set_len<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() != len {
        *buffer = vec![T::default(); len];
    }
}

/// Code bytes of a group of rows, which is whole blocks in every layout.
pub(crate) fn group_bytes(cols: usize, layout: Layout) -> usize {
    layout.packed_len(GROUP, cols).expect("a group of rows is whole blocks")
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
        // The coarse copy and outliers repeat weights: count their bytes only.
        if tensor.ty != TensorType::I8 && !matches!(tensor.data, Data::Scan(_)) {
            total.weights += tensor.shape.iter().product::<u64>();
        }
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
        architecture: plan.model.arch.name().to_owned(),
        ternary_bits_per_weight: bits(true),
        bits_per_weight: bits(false).unwrap_or(0.0),
        types,
        file_bytes,
        sha256: hex(hash),
        notes: plan.notes.clone(),
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Forwards bytes to a writer, and computes their number and hash.
struct Hashing<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

//! Reading back a written file and comparing it with its source.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use trilobite_format::{Gguf, TensorInfo, TensorType, ternary};
use trilobite_kernels::Layout;

use crate::model::{Data, Plan, Planned};
use crate::options::{Progress, Stage};
use crate::trits::{GROUP, Ternary, layout};
use crate::write::{Buffers, group_bytes, hex, set_len, transposed_equals};
use crate::{Error, source};

/// Compares a written file with the plan: every name, type, shape and metadata entry, and every
/// ternary weight, decoded from the source once more. Returns the first difference. A file that
/// cannot be read is an error, not a difference.
pub(crate) fn verify(
    plan: &Plan<'_>,
    mut file: File,
    unread: &dyn Fn(io::Error) -> Error,
    progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Result<Option<String>, Error> {
    // Only the header's pages of the map are touched; tensors are read one at a time.
    let header = Gguf::parse(&source::map(&file).map_err(unread)?).ok();
    let same = |gguf: &Gguf| {
        *gguf.metadata() == plan.metadata && gguf.tensors().len() == plan.tensors.len()
    };
    let Some(gguf) = header.filter(same) else { return Ok(Some("the header".to_owned())) };

    let total = plan.tensors.iter().map(Planned::byte_len).sum();
    let mut done = 0;
    let mut bytes = Vec::new();
    for (tensor, info) in plan.tensors.iter().zip(gguf.tensors()) {
        let described = (&info.name, info.ty, &info.shape);
        let same = described == (&tensor.name, tensor.ty, &tensor.shape)
            && match &tensor.data {
                Data::Ternary(source) => {
                    read(&mut file, info, &mut bytes).map_err(unread)?;
                    source.matches(info.ty, &bytes)?
                }
                Data::Stack(stack) if info.ty == TensorType::Tq2_0 => {
                    read(&mut file, info, &mut bytes).map_err(unread)?;
                    stack.matches(&bytes)
                }
                // The hash of the file covers these.
                Data::Dense(_) | Data::Stack(_) => true,
                Data::Blocks(_) | Data::Values(_) | Data::Scan(_) => true,
                Data::Grouped(_) | Data::Mlx(_) | Data::Bytes(_) => true,
            };
        for source in tensor.data.sources() {
            plan.files.iter().for_each(|file| file.release(source));
        }
        if !same {
            return Ok(Some(format!("tensor {}", tensor.name)));
        }
        done += tensor.byte_len();
        let flow = progress(Progress { stage: Stage::Verify, tensor: &tensor.name, done, total });
        if flow.is_break() {
            return Err(Error::Interrupted);
        }
    }
    Ok(None)
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(mut file: File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn read(file: &mut File, info: &TensorInfo, bytes: &mut Vec<u8>) -> io::Result<()> {
    set_len(bytes, info.range.len());
    file.seek(SeekFrom::Start(info.range.start as u64))?;
    file.read_exact(bytes)
}

impl Ternary<'_> {
    /// Whether the bytes of a written tensor hold exactly the trits and scale of this tensor.
    fn matches(&self, ty: TensorType, written: &[u8]) -> Result<bool, Error> {
        let trits = self.open()?;
        let layout = layout(ty);
        let (rows, cols) = (self.rows, self.cols);
        let Some((codes, scale)) = ternary::split(written) else { return Ok(false) };
        let len = layout.packed_len(rows, cols);
        if len != Some(codes.len()) || scale.to_bits() != trits.scale.to_bits() {
            return Ok(false);
        }
        if layout == Layout::I2T {
            return Ok(transposed_equals(codes, &trits.decode_all()?, cols));
        }
        let differs = codes
            .par_chunks(group_bytes(cols, layout))
            .enumerate()
            .map_init(Default::default, |buffers: &mut Buffers, (i, codes)| {
                let group = i * GROUP..((i + 1) * GROUP).min(rows);
                let weights = group.len() * cols;
                set_len(&mut buffers.source, weights);
                set_len(&mut buffers.packed, weights);
                trits.decode(group, &mut buffers.scratch, &mut buffers.source)?;
                layout.unpack(codes, cols, &mut buffers.packed);
                Ok(buffers.packed != buffers.source)
            })
            .find_map_first(|result: Result<bool, Error>| match result {
                Ok(false) => None,
                other => Some(other),
            });
        differs.map_or(Ok(true), |result| result.map(|differs| !differs))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::testing::Tiny;
    use crate::write::{plan, write};
    use crate::{Options, ignore_progress};

    #[test]
    fn a_file_that_cannot_be_read_back_is_not_said_to_differ() {
        let checkpoint = Tiny::bitnet().checkpoint();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.gguf");
        let plan = plan(&checkpoint, &Options::default()).unwrap();
        let out = File::create(&path).unwrap();
        let (plan, _) = write(plan, out, &mut ignore_progress).unwrap();
        let unread = |source| Error::ReadBack { path: PathBuf::new(), source };
        let found = |file| verify(&plan, file, &unread, &mut ignore_progress);
        assert!(matches!(found(File::open(&path).unwrap()), Ok(None)));
        // A file opened for writing only can be neither mapped nor read.
        let write_only = File::options().write(true).open(&path).unwrap();
        assert!(matches!(found(write_only), Err(Error::ReadBack { .. })));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&path, bytes).unwrap();
        let differs = found(File::open(&path).unwrap()).unwrap();
        assert_eq!(differs.as_deref(), Some("the header"));
    }
}

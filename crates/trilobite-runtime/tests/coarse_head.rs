//! A coarse copy of the head that this version does not know.

use std::error::Error;
use std::path::Path;

use trilobite_convert::{Checkpoint, HeadScan, Options, convert, ignore_progress};
use trilobite_format::{Gguf, TensorType, Writer};
use trilobite_runtime::Model;

#[test]
fn a_coarse_head_of_another_form_is_refused() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/bitnet_online");
    let mut file = Vec::new();
    let options = Options { head_scan: HeadScan::Always, ..Options::default() };
    convert(&Checkpoint::open(folder)?, &options, &mut file, &mut ignore_progress)?;
    Model::from_bytes(file.clone())?;
    for part in ["weight", "refine", "bounds", "factors"] {
        let name = &format!("output_scan.{part}");
        let at = file.windows(name.len()).position(|bytes| bytes == name.as_bytes());
        let at = at.ok_or("a coarse head")?;
        // Behind the name are the number of dimensions and the first of them, columns.
        let columns = at + name.len() + 4;
        let mut shorter = file.clone();
        shorter[columns] -= 1;
        let Err(error) = Model::from_bytes(shorter) else { return Err("another shape".into()) };
        let message = error.to_string();
        assert!(message.contains(name) && message.contains("convert the model again"), "{message}");
    }
    // Without it, its other tensors are not known.
    let mut other = file.clone();
    let at = file.windows(18).position(|bytes| bytes == b"output_scan.refine").ok_or("bits")?;
    other[at + 17] = b'x';
    let Err(error) = Model::from_bytes(other) else { return Err("another name".into()) };
    assert!(error.to_string().contains("tensor output_scan.refine is missing"), "{error}");
    Ok(())
}

#[test]
fn a_coarse_head_of_an_earlier_form_is_not_used() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden/bitnet_online");
    let mut file = Vec::new();
    let options = Options { head_scan: HeadScan::None, ..Options::default() };
    convert(&Checkpoint::open(folder)?, &options, &mut file, &mut ignore_progress)?;
    let gguf = Gguf::parse(&file)?;
    let head = Model::from_bytes(file.clone())?.weights().head.clone();
    let (rows, blocks) = (head.rows as u64, head.cols.div_ceil(256) as u64);
    let earlier = [
        ("weight", TensorType::I8, vec![rows, 160 * blocks]),
        ("refine", TensorType::I8, vec![rows, 64 * blocks]),
        ("bounds", TensorType::F32, vec![rows, 5]),
    ];
    let earlier = earlier.map(|(part, ty, shape)| (format!("output_scan.{part}"), ty, shape));
    let tensors = gguf.tensors().iter().map(|t| (t.name.clone(), t.ty, t.shape.clone()));
    let index = tensors.chain(earlier.clone()).collect();
    let mut writer = Writer::new(Vec::new(), gguf.metadata(), index)?;
    for tensor in gguf.tensors() {
        writer.tensor(&tensor.name, tensor.bytes(&file))?;
    }
    for (name, ty, shape) in earlier {
        let bytes = ty.byte_len(&shape).ok_or("a size")?;
        writer.tensor(&name, &vec![0; bytes as usize])?;
    }
    let model = Model::from_bytes(writer.finish()?)?;
    assert!(model.weights().head_scan.is_none());
    let note = model.notes().iter().find(|note| note.contains("convert the model again"));
    assert!(note.is_some(), "{:?}", model.notes());
    Ok(())
}

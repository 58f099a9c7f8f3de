//! A coarse copy of the head that this version does not know.

use std::error::Error;
use std::path::Path;

use trilobite_convert::{Checkpoint, HeadScan, Options, convert, ignore_progress};
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

//! A decoded token allocates nothing.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use trilobite_convert::{Checkpoint, HeadScan, Layout, Options, convert, ignore_progress};
use trilobite_runtime::{CacheType, Model, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Tokens that are decoded.
const TOKENS: u32 = 40;

#[test]
fn decoding_allocates_nothing() -> Result<(), Box<dyn Error>> {
    let _profiler = dhat::Profiler::builder().testing().build();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden");
    for name in ["bitnet_online", "bitnet_odd_shape", "llama_bitnet"] {
        let layouts = [
            (Layout::Auto, HeadScan::Int8),
            (Layout::T5_3, HeadScan::None),
            (Layout::Sparse, HeadScan::None),
        ];
        for (layout, head_scan) in layouts {
            if layout == Layout::Sparse && name == "llama_bitnet" {
                continue;
            }
            let mut file = Vec::new();
            let options = Options { layout, head_scan, ..Options::default() };
            let checkpoint = Checkpoint::open(folder.join(name))?;
            convert(&checkpoint, &options, &mut file, &mut ignore_progress)?;
            let model = Arc::new(Model::from_bytes(file)?);
            for (threads, cache) in [(1, CacheType::F32), (2, CacheType::F16), (4, CacheType::F32)]
            {
                let options =
                    SessionOptions { threads, context: 128, batch: 16, cache, plain: false };
                let mut session = Session::new(Arc::clone(&model), options)?;
                let decode = |session: &mut Session| -> Result<(), Box<dyn Error>> {
                    for token in 0..TOKENS {
                        session.next_largest(&[token], 1)?;
                        session.next_logits(&[token])?;
                    }
                    Ok(())
                };
                // Once so that every thread has what it needs.
                decode(&mut session)?;
                session.truncate(0);
                let before = dhat::HeapStats::get().total_blocks;
                decode(&mut session)?;
                let allocated = dhat::HeapStats::get().total_blocks - before;
                assert_eq!(allocated, 0, "{name}, {layout:?}, {threads} threads");
            }
        }
    }
    Ok(())
}

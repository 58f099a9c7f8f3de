//! A decoded token allocates nothing but pages for keys and values.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use trilobite_convert::{Checkpoint, HeadScan, Layout, Options, convert, ignore_progress};
use trilobite_runtime::{CacheType, Model, Session, SessionOptions};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Tokens of a context, and those that are decoded in pairs after them: the way that attention is
/// divided changes in between.
const PROMPT: [u32; 220] = [1; 220];
const PAIRS: u32 = 40;
/// Pages that begin among these: at 224, 256 and 288.
const PAGES: u64 = 3;

#[test]
fn decoding_allocates_pages_alone() -> Result<(), Box<dyn Error>> {
    let _profiler = dhat::Profiler::builder().testing().build();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/golden");
    for name in ["bitnet_online", "bitnet_odd_shape", "llama_bitnet"] {
        let layouts = [
            (Layout::Auto, HeadScan::Always),
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
            for (threads, cache) in [(1, CacheType::F32), (2, CacheType::F16), (4, CacheType::Q8)] {
                let options = SessionOptions {
                    threads,
                    context: 300,
                    batch: 16,
                    cache,
                    ..SessionOptions::default()
                };
                let mut session = Session::new(Arc::clone(&model), options)?;
                let decode = |session: &mut Session| -> Result<(), Box<dyn Error>> {
                    for token in 0..PAIRS {
                        session.next_largest(&[token], 1)?;
                        session.next_logits(&[token])?;
                    }
                    Ok(())
                };
                // Once so that every thread has what it needs.
                session.read(&PROMPT)?;
                decode(&mut session)?;
                session.truncate(PROMPT.len());
                let before = dhat::HeapStats::get().total_blocks;
                decode(&mut session)?;
                let allocated = dhat::HeapStats::get().total_blocks - before;
                // Pages, in the memory of the former ones.
                assert_eq!(allocated, PAGES, "{name}, {layout:?}, {threads} threads");
            }
        }
    }
    Ok(())
}

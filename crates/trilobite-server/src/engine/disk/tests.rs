use std::sync::Arc;

use trilobite_runtime::{CacheType, Model, SessionOptions};

use super::super::tests::{Ask, assert_alone, model, options, read};
use super::super::{Engine, EngineOptions, PromptFolder};
use super::*;
use crate::metrics::Metrics;

/// Answers prompts one after another with a folder that takes at most `bytes`. Returns the tokens of
/// each prompt that were not computed, and the metrics.
fn answer(
    model: &Arc<Model>,
    options: EngineOptions,
    (path, bytes): (&Path, u64),
    prompts: &[&[u32]],
) -> (Vec<usize>, ModelMetrics) {
    let metrics = Metrics::new().of_model("test");
    let folder = PromptFolder { path: path.to_owned(), bytes };
    let engine = Engine::start(model, options, metrics.clone(), Some(&folder)).unwrap();
    let cached = prompts.iter().map(|prompt| {
        let ask = Ask::greedy(prompt, 4);
        let whole = read(engine.submit(vec![ask.job(model)]).unwrap().remove(0)).unwrap();
        assert_alone(model, &ask, &whole);
        whole.cached
    });
    let cached = cached.collect();
    drop(engine);
    (cached, metrics)
}

fn sizes(folder: &Path) -> Vec<u64> {
    files(folder).into_iter().map(|(_, size, _)| size).collect()
}

#[test]
fn what_one_server_computes_another_reads() {
    let folder = tempfile::tempdir().unwrap();
    let (model, place) = (model(), (folder.path(), u64::MAX));
    let prompt: Vec<u32> = (0..100).map(|id| id * 2).collect();
    let other = [&prompt[..70], &[1, 2, 3]].concat();
    let (cached, metrics) = answer(&model, options(), place, &[&prompt]);
    assert_eq!((cached, metrics.loaded_pages.get()), (vec![0], 0));
    assert_eq!(sizes(folder.path()).len(), 3);
    // Whole pages; the second prompt continues those of the first in memory.
    let (cached, metrics) = answer(&model, options(), place, &[&prompt, &other]);
    assert_eq!((cached, metrics.loaded_pages.get()), (vec![96, 70], 3));
    let (cached, _) = answer(&model, options(), place, &[&other]);
    assert_eq!(cached, [64]);
    // With another cache type no pages are found.
    let session = SessionOptions { cache: CacheType::Q8, ..options().session };
    let forward = Forward::new(Arc::clone(&model), session).unwrap();
    let disk =
        DiskCache::new(folder.path().to_owned(), u64::MAX, &forward, metrics.clone()).unwrap();
    let mut sequence = forward.sequence();
    disk.extend(&mut sequence, &prompt, 100);
    assert!(sequence.is_empty());
    // Only as many pages as fit.
    let forward = Forward::new(Arc::clone(&model), options().session).unwrap();
    let disk = DiskCache::new(folder.path().to_owned(), u64::MAX, &forward, metrics).unwrap();
    let mut sequence = forward.sequence();
    disk.extend(&mut sequence, &prompt, 2);
    assert_eq!(sequence.tokens(), &prompt[..64]);
}

#[test]
fn damaged_files_are_removed_and_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let (model, place) = (model(), (folder.path(), u64::MAX));
    let prompt: Vec<u32> = (0..100).collect();
    answer(&model, options(), place, &[&prompt]);
    let forward = Forward::new(Arc::clone(&model), options().session).unwrap();
    let second = TextKey::new(&forward).then(&prompt[..32]).then(&prompt[32..64]);
    let second = path(folder.path(), second);
    let whole = std::fs::read(&second).unwrap();
    for damaged in [&whole[..whole.len() - 1], &[], &[&whole[1..], &[0]].concat()] {
        std::fs::write(&second, damaged).unwrap();
        let (cached, metrics) = answer(&model, options(), place, &[&prompt]);
        // The first page, and the third after the second has been computed.
        assert_eq!((cached, metrics.damaged_pages.get()), (vec![64], 1));
        assert_eq!(std::fs::read(&second).unwrap(), whole);
    }
}

#[test]
fn the_least_recently_used_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let model = model();
    let [first, second, third] = [0, 1, 2].map(|begin| vec![7 + begin; 40]);
    answer(&model, options(), (folder.path(), u64::MAX), &[&first]);
    let page = sizes(folder.path())[0];
    // Room for two pages. The first is used again before the third comes.
    let place = (folder.path(), 2 * page);
    answer(&model, options(), place, &[&second]);
    let (cached, _) = answer(&model, options(), place, &[&first]);
    assert_eq!(cached, [32]);
    answer(&model, options(), place, &[&third]);
    assert_eq!(sizes(folder.path()), [page; 2]);
    let (cached, _) = answer(&model, options(), place, &[&first, &third, &second]);
    assert_eq!(cached, [32, 32, 0]);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "").unwrap();
    let folder = PromptFolder { path, bytes: 1 };
    let metrics = Metrics::new().of_model("test");
    let error = Engine::start(&model(), options(), metrics, Some(&folder)).err().unwrap();
    assert!(error.to_string().starts_with("cannot write to the folder "), "{error}");
}

//! The parts of an embedding model, as sentence-transformers lists them.

use std::path::{Component, Path};

use serde_json::Value;

use crate::Error;
use crate::hf::brief;

/// The list of the parts.
pub(crate) const MODULES: &str = "modules.json";
/// The usual description of the pooling.
pub(super) const USUAL_POOLING: &str = "1_Pooling/config.json";

/// The file that describes the pooling of an embedding model with these modules.
pub(super) fn pooling_file(modules: &Value) -> Result<Option<String>, Error> {
    let bad = |key: String, expected: &str, found: &Value| Error::Value {
        file: MODULES.to_owned(),
        key,
        expected: expected.to_owned(),
        found: brief(found),
    };
    let list = modules.as_array();
    let list = list.filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| bad("content".to_owned(), "a list of modules", modules))?;
    let mut pooling = None;
    for (index, module) in list.iter().enumerate() {
        let field = |key: &str| {
            let text = module.get(key).and_then(Value::as_str);
            text.ok_or_else(|| bad(index.to_string(), "an object with `type` and `path`", module))
        };
        let (kind, path) = (field("type")?, field("path")?);
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" if is_inside(path) => pooling = Some(format!("{path}/config.json")),
            "Pooling" => {
                return Err(bad(format!("{index}.path"), "a folder of the checkpoint", module));
            }
            _ => {
                return Err(Error::Unsupported {
                    file: MODULES.to_owned(),
                    what: format!("the module {kind:?}"),
                });
            }
        }
    }
    Ok(pooling)
}

/// Whether a path names a place below the folder of a checkpoint.
fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

//! The modules that `modules_to_not_convert` keeps dense.

use std::collections::HashSet;

use crate::Error;
use crate::hf::json::Object;
use crate::source::{Dtype, Shards};

/// The modules in `modules_to_not_convert`.
///
/// An entry plainly names the modules whose names end in it, and those inside the module of this name.
/// It loosely names others: transformers 4 takes it for any part of a name, and transformers 5 for any
/// beginning, so that `model.layers.1` is also layer 10.
#[derive(Debug)]
pub(crate) struct Excluded {
    names: Vec<String>,
    /// The modules that are named loosely, and are dense.
    dense: HashSet<String>,
}

impl Excluded {
    /// Reads the list. `None` if there is none.
    pub(super) fn read(settings: &Object<'_>) -> Result<Option<Self>, Error> {
        const KEY: &str = "modules_to_not_convert";
        let Some(list) = settings.get(KEY) else { return Ok(None) };
        let names: Option<Vec<String>> = list
            .as_array()
            .and_then(|list| list.iter().map(|name| Some(name.as_str()?.to_owned())).collect());
        let names = names.ok_or_else(|| settings.bad(KEY, "a list of module names"))?;
        // transformers treats them as regular expressions; published files use plain names only.
        if names
            .iter()
            .any(|name| name.is_empty() || name.contains(|c| "*+?[](){}|^$\\".contains(c)))
        {
            return Err(settings.bad(KEY, "plain module names"));
        }
        Ok(Some(Self { names, dense: HashSet::new() }))
    }

    /// Whether a module is kept dense.
    pub(super) fn contains(&self, module: &str) -> bool {
        self.dense.contains(module) || self.names.iter().any(|name| plainly(name, module))
    }

    /// Decides about the modules that are named loosely. What is stored with a module tells whether it
    /// was converted: packed weights or their scale, or the norm of its input. Nothing tells in a model
    /// that is quantised on loading and has no norms: there a beginning counts, as do whole parts.
    pub(super) fn settle(
        &mut self,
        modules: &[String],
        offline: bool,
        input_norms: bool,
        shards: &Shards<'_>,
    ) {
        let converted = |module: &&String| {
            let stored = |suffix: &str| shards.get(&format!("{module}.{suffix}"));
            match (offline, input_norms) {
                (true, _) => {
                    stored("weight").is_some_and(|weight| weight.dtype == Dtype::U8)
                        || stored("weight_scale").is_some()
                }
                (false, true) => stored("rms_norm.weight").is_some(),
                (false, false) => !self
                    .names
                    .iter()
                    .any(|name| module.starts_with(name) || module.contains(&format!(".{name}."))),
            }
        };
        let named = |module: &&String| self.names.iter().any(|name| module.contains(name));
        let dense = modules.iter().filter(named).filter(|module| !converted(module));
        self.dense = dense.cloned().collect();
    }
}

fn plainly(name: &str, module: &str) -> bool {
    module.ends_with(name) || module.starts_with(&format!("{name}."))
}

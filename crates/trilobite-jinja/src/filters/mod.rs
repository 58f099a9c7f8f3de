//! Filters, as Jinja2 and transformers define them.

mod json;
mod numbers;
mod select;
mod sequences;
mod strings;

use super::arguments::Args;
use super::error::{Result, TemplateError};
use super::machine::Machine;
use super::value::Value;

type Filter = fn(&mut dyn Machine, Value, Args) -> Result<Value>;

/// The filter with a name.
fn filter(name: &str) -> Option<Filter> {
    Some(match name {
        "abs" => numbers::abs,
        "attr" => sequences::attr,
        "batch" => sequences::batch,
        "capitalize" => |m, v, a| strings::method(m, v, a, "capitalize"),
        "center" => |m, v, a| strings::method(m, v, a, "center"),
        "count" | "length" => sequences::length,
        "d" | "default" => sequences::default,
        "dictsort" => sequences::dictsort,
        "e" | "escape" => strings::escape,
        "first" => sequences::first,
        "float" => numbers::float,
        "forceescape" => strings::force_escape,
        "format" => strings::format,
        "groupby" => sequences::groupby,
        "indent" => strings::indent,
        "int" => numbers::int,
        "items" => sequences::items,
        "join" => strings::join,
        "last" => sequences::last,
        "list" => sequences::list,
        "lower" => |m, v, a| strings::method(m, v, a, "lower"),
        "map" => select::map,
        "max" => |m, v, a| sequences::extreme(m, v, a, true),
        "min" => |m, v, a| sequences::extreme(m, v, a, false),
        "reject" => |m, v, a| select::select(m, v, a, false, false),
        "rejectattr" => |m, v, a| select::select(m, v, a, true, false),
        "replace" => strings::replace,
        "reverse" => sequences::reverse,
        "round" => numbers::round,
        "safe" => strings::safe,
        "select" => |m, v, a| select::select(m, v, a, false, true),
        "selectattr" => |m, v, a| select::select(m, v, a, true, true),
        "slice" => sequences::slice,
        "sort" => sequences::sort,
        "string" => strings::string,
        "sum" => numbers::sum,
        "title" => strings::title,
        "tojson" => json::tojson,
        "trim" => |m, v, a| strings::method(m, v, a, "strip"),
        "truncate" => strings::truncate,
        "unique" => sequences::unique,
        "upper" => |m, v, a| strings::method(m, v, a, "upper"),
        "wordcount" => strings::wordcount,
        _ => return None,
    })
}

pub(super) fn exists(name: &str) -> bool {
    filter(name).is_some()
}

/// The error of an unknown filter.
pub(super) fn unknown(name: &str) -> TemplateError {
    TemplateError::new(match name {
        "filesizeformat" | "pprint" | "random" | "striptags" | "urlencode" | "urlize"
        | "wordwrap" | "xmlattr" => {
            format!("the filter {name} is not supported")
        }
        _ => format!("there is no filter {name}"),
    })
}

/// `value|name(args)`
pub(super) fn apply(
    machine: &mut dyn Machine,
    name: &str,
    value: Value,
    args: Args,
) -> Result<Value> {
    let filter = filter(name).ok_or_else(|| unknown(name))?;
    filter(machine, value, args).map_err(|error| error.within(|| name.to_owned()))
}

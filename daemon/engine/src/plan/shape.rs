//! What the state of a node depends on, as a hash: a run that goes on with it must have the same.

use millstream_core::{NodeKind, Role, Uses, type_name};
use serde_json::{Value as Json, json};

use super::InputPort;

/// The hash for a node with these settings, at which these columns arrive, and which looks at those that it `uses`.
///
/// Other columns come and go with what other nodes read. Where a node keeps whole rows, these have their columns with them.
/// The state of an input is positions, which mean the same whatever its settings.
pub fn shape(kind: &NodeKind, table: &Json, inputs: &[InputPort], uses: &[Uses]) -> String {
    if kind.role == Role::Input {
        return String::new();
    }
    let shaping = |(key, _): &(&String, &Json)| !kind.free_settings.contains(&key.as_str());
    let settings: std::collections::BTreeMap<_, _> = table.as_object().into_iter().flatten().filter(shaping).collect();
    let columns = |(port, uses): (&InputPort, &Uses)| -> Vec<_> {
        let fields = port.schema.fields().iter();
        let used = fields.filter(|field| uses.columns.as_ref().is_none_or(|columns| columns.contains(field.name())));
        used.map(|field| json!([field.name(), type_name(field.data_type()), field.is_nullable()])).collect()
    };
    let columns: Vec<_> = inputs.iter().zip(uses).map(columns).collect();
    let text = json!({ "settings": settings, "columns": columns }).to_string();
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

//! What the configuration may hold, as a JSON schema, and the two questions that good messages ask of it.

use schemars::JsonSchema;
use serde_json::Value;

use super::keys::KeyPath;

/// How deep a configuration may nest; a bound for schemas that refer to themselves.
const DEPTH: usize = 16;

/// The JSON schema of a configuration, for editors and for `arable config schema`.
pub fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// Whether the schema wants an array at `path`.
pub(super) fn wants_array(root: &Value, path: &KeyPath) -> bool {
    let mut places = branches(root, root, DEPTH);
    for segment in path.segments() {
        places = places.iter().flat_map(|place| children(root, place, segment)).collect();
    }
    places.iter().any(|place| is_type(place, "array"))
}

/// Where else a key of this name exists, each place as a path in which `<name>` stands for a key that varies.
pub(super) fn places_of(root: &Value, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    collect(root, root, "", DEPTH, &mut |path, name| {
        if name == key && !found.contains(path) {
            found.push(path.clone());
        }
    });
    found
}

fn collect(root: &Value, schema: &Value, path: &str, depth: usize, visit: &mut dyn FnMut(&String, &str)) {
    if depth == 0 {
        return;
    }
    for place in branches(root, schema, DEPTH) {
        for (name, child) in place["properties"].as_object().into_iter().flatten() {
            let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            visit(&below, name);
            collect(root, child, &below, depth - 1, visit);
        }
        for many in ["items", "additionalProperties"] {
            if place[many].is_object() {
                collect(root, &place[many], &format!("{path}.<name>"), depth - 1, visit);
            }
        }
    }
}

/// The schemas that a place in the configuration may follow: references followed, choices laid out.
fn branches<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> Vec<&'a Value> {
    if depth == 0 {
        return Vec::new();
    }
    let mut all = vec![schema];
    let target = schema["$ref"].as_str().and_then(|name| root.pointer(name.strip_prefix('#')?));
    all.extend(target.into_iter().flat_map(|target| branches(root, target, depth - 1)));
    for choice in ["oneOf", "anyOf", "allOf"] {
        let members = schema[choice].as_array().into_iter().flatten();
        all.extend(members.flat_map(|member| branches(root, member, depth - 1)));
    }
    all
}

fn children<'a>(root: &'a Value, place: &'a Value, segment: &str) -> Vec<&'a Value> {
    let named = place["properties"].get(segment);
    let many = ["items", "additionalProperties"].into_iter().map(|many| &place[many]).find(|many| many.is_object());
    named.or(many).map_or_else(Vec::new, |child| branches(root, child, DEPTH))
}

fn is_type(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(only) => only == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    }
}

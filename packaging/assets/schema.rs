//! The JSON schema of the configuration, from the key table: names, kinds, ranges, words, and what the manual says of
//! them. What keys mean together, and what a text has to look like in detail, `vipd check` judges.

use super::manual::{self, Block};
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use vipd_core::config::reference::{self, Key, Section, Shape};

/// Where a package puts the schema, as editors with the language servers of TOML want to read it.
pub(crate) const EDITOR_HINT: &str = "#:schema /usr/share/vipd/vipd.schema.json";
/// Names of hosts, instances, checks, ...
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

/// The schema.
///
/// # Errors
/// When a key takes what [`Shape`] does not know, or the manual lacks a section or a key.
pub(crate) fn schema() -> anyhow::Result<Value> {
    let blocks = manual::configuration();
    let mut definitions = Map::new();
    for section in reference::sections() {
        let text = manual::section(&blocks, section.heading)
            .with_context(|| format!("docs/configuration.md has no section {}", section.heading))?;
        let object = object(&section, text, &blocks)
            .with_context(|| format!("section {}", section.heading))?;
        definitions.insert(Place::of(section.heading).definition, object);
    }
    let mut top = Map::new();
    for key in reference::top() {
        let place = reference::sections().into_iter().map(|s| Place::of(s.heading));
        let place = place.into_iter().find(|p| p.path == [key.name]);
        let place = place.with_context(|| format!("no section for {}", key.name))?;
        let reference = place.reference();
        top.insert(key.name.to_owned(), if place.named { named(reference) } else { reference });
    }
    Ok(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of vipd",
        "type": "object",
        "additionalProperties": false,
        "properties": top,
        "$defs": definitions,
    }))
}

/// A table whose keys are names.
fn named(value: Value) -> Value {
    json!({ "type": "object", "propertyNames": { "pattern": NAME }, "additionalProperties": value })
}

/// Where a section stands, from its heading.
struct Place {
    /// Its names without `NAME`.
    path: Vec<String>,
    /// What the schema calls it: the last name.
    definition: String,
    /// Is it a table of such sections by name?
    named: bool,
}

impl Place {
    fn of(heading: &str) -> Self {
        let path = heading.trim_matches(['[', ']']).split('.');
        let path: Vec<String> = path.filter(|n| *n != "NAME").map(str::to_owned).collect();
        let named = heading.ends_with(".NAME]");
        let definition = path.join(".");
        Self { path, definition, named }
    }

    fn reference(&self) -> Value {
        json!({ "$ref": format!("#/$defs/{}", self.definition) })
    }
}

fn object(section: &Section, text: &[Block], all: &[Block]) -> anyhow::Result<Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    let instance = manual::section(all, "[instance.NAME]").unwrap_or_default();
    for key in section.keys.iter().chain(&section.borrowed) {
        let row = manual::row(text, key.name).or_else(|| manual::row(instance, key.name));
        let row = row.with_context(|| format!("docs/configuration.md has no key {}", key.name))?;
        properties.insert(key.name.to_owned(), property(section, key, row)?);
        // What is needed of a check depends on its kind, and what a pool lends out on the pool.
        let own = section.keys.iter().any(|own| own.name == key.name);
        let always = section.one_of.is_empty() && (own || key.name == "interface");
        if row.default == "needed" && always {
            required.push(key.name);
        }
    }
    let mut object =
        json!({ "type": "object", "additionalProperties": false, "properties": properties });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    if !section.one_of.is_empty() {
        let each = section.one_of.iter().map(|key| json!({ "required": [key] }));
        object["oneOf"] = each.collect();
    }
    Ok(object)
}

fn property(section: &Section, key: &Key, row: manual::Row<'_>) -> anyhow::Result<Value> {
    let shape = key.shape();
    let shape = shape.with_context(|| format!("{}: what is \"{}\"?", key.name, key.expect))?;
    let below = section_of(section, key);
    let one = value(&shape, below.as_ref());
    let mut property =
        if section.by_host(key) { json!({ "anyOf": [one, named(one)] }) } else { one };
    let default = match row.default {
        "" | "needed" => String::new(),
        other => format!(" Default: {other}."),
    };
    let meaning = row.meaning.trim_end_matches(", below").trim_end_matches('.');
    let text = format!("{meaning}. Takes {}.{default}", key.expect);
    property["description"] = json!(manual::plain(&text));
    property["examples"] = json!([example(key)?]);
    Ok(property)
}

/// The section that a table of `section` opens.
fn section_of(section: &Section, key: &Key) -> Option<Place> {
    // What a pool borrows is described where an instance has it.
    let owner = match section.heading {
        "[pool.NAME]" => "instance".to_owned(),
        heading => Place::of(heading).path.swap_remove(0),
    };
    let path = [owner, key.name.to_owned()];
    reference::sections().iter().map(|s| Place::of(s.heading)).find(|place| place.path == path)
}

fn value(shape: &Shape, below: Option<&Place>) -> Value {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer(low, high) => json!({ "type": "integer", "minimum": low, "maximum": high }),
        Shape::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Shape::Text("") => json!({ "type": "string", "minLength": 1 }),
        Shape::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
        Shape::Words(words) => json!({ "enum": words }),
        Shape::List(item) => json!({ "type": "array", "items": value(item, below) }),
        Shape::Map(item) => json!({ "type": "object", "additionalProperties": value(item, below) }),
        Shape::Table => below.map_or_else(|| json!({ "type": "object" }), Place::reference),
        Shape::Any(shapes) => {
            let shapes = shapes.iter().map(|shape| value(shape, below));
            json!({ "anyOf": shapes.collect::<Vec<_>>() })
        }
    }
}

/// The example of the key table as JSON.
fn example(key: &Key) -> anyhow::Result<Value> {
    let text = format!("value = {}", key.example);
    let table: Map<String, Value> = toml::from_str(&text).with_context(|| key.name.to_owned())?;
    Ok(table.into_iter().next().map(|(_, value)| value).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::process::{Command, Stdio};

    #[test]
    fn every_key_of_every_section_is_in_the_schema() {
        let schema = schema().unwrap();
        for section in reference::sections() {
            let definition = &schema["$defs"][Place::of(section.heading).definition.as_str()];
            for key in section.keys.iter().chain(&section.borrowed) {
                assert!(
                    definition["properties"][key.name].is_object(),
                    "{} {}",
                    section.heading,
                    key.name
                );
            }
        }
        for key in reference::top() {
            assert!(schema["properties"][key.name].is_object(), "{}", key.name);
        }
    }

    #[test]
    fn tables_lead_to_their_sections() {
        let schema = schema().unwrap();
        let instance = &schema["$defs"]["instance"]["properties"];
        assert_eq!(instance["route"]["anyOf"][0]["items"]["$ref"], "#/$defs/instance.route");
        assert_eq!(instance["damping"]["anyOf"][0]["anyOf"][0]["$ref"], "#/$defs/instance.damping");
        assert_eq!(
            schema["$defs"]["pool"]["properties"]["hmac"]["anyOf"][0]["$ref"],
            "#/$defs/instance.hmac"
        );
        assert_eq!(schema["properties"]["cluster"]["$ref"], "#/$defs/cluster");
    }

    /// Judges files given by name with a validator that is not ours: one line for each, empty when it is valid.
    const JUDGE: &str = "
import json, sys, tomllib, jsonschema
schema = json.loads(sys.stdin.read())
jsonschema.Draft202012Validator.check_schema(schema)
judge = jsonschema.Draft202012Validator(schema)
for name in sys.argv[1:]:
    errors = judge.iter_errors(tomllib.load(open(name, 'rb')))
    print('; '.join(e.message[:200].replace('\\n', ' ') for e in errors))
";

    fn judge(files: &[PathBuf]) -> Option<Vec<String>> {
        let python = || Command::new("python3");
        if !python().args(["-c", "import tomllib, jsonschema"]).output().ok()?.status.success() {
            eprintln!(
                "SKIPPED: python3 3.11 with jsonschema (Debian: python3-jsonschema) is not installed"
            );
            return None;
        }
        let mut child = python()
            .args(["-c", JUDGE])
            .args(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(schema().unwrap().to_string().as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        Some(String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect())
    }

    #[test]
    fn every_example_is_valid() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let config = std::fs::read_dir(root.join("config")).unwrap();
        let mut files: Vec<_> = config.map(|entry| entry.unwrap().path()).collect();
        files.push(root.join("core/tests/config/full.toml"));
        let Some(said) = judge(&files) else { return };
        for (file, said) in files.iter().zip(said) {
            assert_eq!(said, "", "{}", file.display());
        }
    }

    #[test]
    fn mistakes_are_found() {
        let full = include_str!("../../core/tests/config/full.toml");
        let mistakes = [
            ("vrid = 51", "vrid = 256"),
            ("vrid = 51", ""),
            ("claim = \"address\"", "claim = \"adress\""),
            ("strict = true", "strict = \"yes\""),
            ("capacity = 100", "capacty = 100"),
            ("settle = \"35s\"", "settle = 35"),
            ("half-life = \"5m\"", "half-live = \"5m\""),
            ("tcp = \"[::1]:443\"", "tcp = \"[::1]:443\"\nunix = \"/run/x\""),
            ("[hook.lines]", "[hooks.lines]"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let files = mistakes.iter().enumerate().map(|(at, (right, wrong))| {
            assert!(full.contains(right), "{right}");
            let file = dir.path().join(format!("{at}.toml"));
            std::fs::write(&file, full.replacen(right, wrong, 1)).unwrap();
            file
        });
        let said = judge(&files.collect::<Vec<_>>());
        for ((_, wrong), said) in mistakes.iter().zip(said.into_iter().flatten()) {
            assert_ne!(said, "", "{wrong}");
        }
    }
}

//! The file format as data: its sections, their keys, what each takes. For those who write it down for people and
//! editors (the manual page vipd.toml(5), the JSON schema), so that neither can say anything else than the reader.
//!
//! Called by the generator in `packaging/assets`; nothing at run time needs it.

use super::keys;

pub use super::keys::Key;
pub use super::shape::Shape;

/// A section of the file.
#[derive(Clone, Debug)]
pub struct Section {
    /// As the manual writes it: `[cluster]`, `[instance.NAME]`, `[[instance.NAME.route]]`.
    pub heading: &'static str,
    /// Its own keys, in the order of the manual.
    pub keys: &'static [Key],
    /// Keys of `[instance.NAME]` that it takes as well.
    pub borrowed: Vec<Key>,
    /// Exactly one of these is written; empty: no such rule.
    pub one_of: Vec<&'static str>,
}

impl Section {
    /// May a value of this key be a table by host?
    #[must_use]
    pub fn by_host(&self, key: &Key) -> bool {
        match self.heading {
            "[instance.NAME]" | "[check.NAME]" | "[hook.NAME]" => true,
            "[pool.NAME]" => !self.keys.iter().any(|own| own.name == key.name),
            _ => false,
        }
    }
}

/// The sections at the top of the file: names and what they take.
#[must_use]
pub const fn top() -> &'static [Key] {
    keys::file::ALL
}

/// Every section, in the order of the manual.
#[must_use]
pub fn sections() -> Vec<Section> {
    keys::SECTIONS
        .iter()
        .map(|(heading, own)| {
            let borrowed = match *heading {
                "[pool.NAME]" => keys::pool_keys().split_off(own.len()),
                _ => Vec::new(),
            };
            let one_of = match *heading {
                "[check.NAME]" => keys::KINDS.iter().map(|(kind, _)| kind.name).collect(),
                _ => Vec::new(),
            };
            Section { heading, keys: own, borrowed, one_of }
        })
        .collect()
}

impl Key {
    /// What it takes, for programs; `None`: the words of [`Key::expect`] are not known to [`Shape`].
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        Shape::of(self.expect)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use toml::de::DeValue;

    #[test]
    fn every_key_has_a_shape_that_fits_its_example() {
        let sections = sections();
        for key in sections.iter().flat_map(|s| s.keys).chain(top()) {
            let shape = key.shape();
            let shape = shape.unwrap_or_else(|| {
                panic!("{}: teach `Shape` the words \"{}\"", key.name, key.expect)
            });
            let example = DeValue::parse(key.example).unwrap();
            let by_host = match example.get_ref() {
                DeValue::Table(hosts) => hosts.values().all(|v| shape.fits(v.get_ref())),
                _ => false,
            };
            assert!(
                shape.fits(example.get_ref()) || by_host,
                "{}: {shape:?} does not fit {}",
                key.name,
                key.example
            );
        }
    }

    #[test]
    fn a_pool_borrows_from_an_instance() {
        let sections = sections();
        let pool = sections.iter().find(|s| s.heading == "[pool.NAME]").unwrap();
        assert!(pool.borrowed.iter().any(|k| k.name == "checks"));
        assert!(!pool.borrowed.iter().any(|k| k.name == "vrid"));
        assert!(pool.by_host(&pool.borrowed[0]) && !pool.by_host(&pool.keys[0]));
    }
}

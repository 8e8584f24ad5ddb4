//! What one host's file becomes, before the hosts are brought together.
//!
//! Values are TOML already: bringing hosts together compares and lists them, and need not know what they mean.

/// Keys of a section with their TOML values, in the order in which they are written.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Keys(pub(super) Vec<(&'static str, String)>);

impl Keys {
    /// Adds a key, or replaces its value.
    pub(super) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        let value = value.into();
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| *k == key).map(|(_, value)| value.as_str())
    }

    /// The names of the keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().map(|(key, _)| *key)
    }

    /// As an inline table.
    pub(super) fn inline(&self) -> String {
        let all: Vec<_> = self.0.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        format!("{{ {} }}", all.join(", "))
    }
}

/// `[instance.NAME]` of one host.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) vrid: u8,
    /// Has IPv4 addresses; else IPv6. There are never both: keepalived's instances have one family.
    pub(super) is_v4: bool,
    pub(super) priority: u8,
    /// All but `priority`, `checks`, routes and rules.
    pub(super) keys: Keys,
    pub(super) checks: Vec<String>,
    pub(super) routes: Vec<Keys>,
    pub(super) rules: Vec<Keys>,
    /// For addresses that keepalived claims with another instance's and does not advertise.
    pub(super) is_satellite: bool,
}

/// `[check.NAME]` or `[hook.NAME]` of one host.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) keys: Keys,
}

/// `[sync.NAME]`.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) members: Vec<String>,
}

/// Everything of one host.
#[derive(Default, Debug)]
pub(super) struct Side {
    pub(super) host: String,
    pub(super) instances: Vec<Instance>,
    pub(super) checks: Vec<Named>,
    pub(super) hooks: Vec<Named>,
    pub(super) groups: Vec<Group>,
}

//! Walks one table of the parsed file: finds keys, resolves per-host tables, tells what is unknown,
//! missing or of the wrong kind, always with the place.
//!
//! Used by `read` and `read_instance`. It knows nothing of what keys mean.

use super::diagnostic::Findings;
use super::keys::Key;
use super::value::{Wrong, describe};
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Octets of the text.
pub(super) type Span = Range<usize>;

/// A value with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

/// A parsed value of the file.
pub(super) type Node<'d> = &'d Spanned<DeValue<'d>>;

/// For whom per-host tables are resolved.
#[derive(Copy, Clone)]
pub(super) struct Scope<'d> {
    /// Every `[hosts.NAME]`.
    pub(super) hosts: &'d [Arc<str>],
    /// Those of them that take part in the instance.
    pub(super) taking_part: &'d [Arc<str>],
    /// The host whose values are wanted.
    pub(super) me: &'d str,
    /// Why the others take no part, and what would make them.
    pub(super) left_out: LeftOut,
}

/// Why a host takes no part in a section.
#[derive(Copy, Clone)]
pub(super) enum LeftOut {
    /// `priority` is a table without that host.
    ByPriority,
    /// `hosts` of the pool does not name it.
    ByPool,
    /// No instance of that host uses the check.
    Unused,
}

impl LeftOut {
    fn why(self) -> &'static str {
        match self {
            Self::ByPriority => "priority leaves that host out",
            Self::ByPool => "hosts leaves that host out",
            Self::Unused => "no instance of that host uses the check",
        }
    }

    fn fix(self, host: &str) -> String {
        match self {
            Self::ByPriority => format!("give {host} a priority, or remove it here"),
            Self::ByPool => format!("add {host} to hosts, or remove it here"),
            Self::Unused => format!("remove {host} here"),
        }
    }
}

/// A table, or the word that stands for none.
pub(super) enum TableOr<'d> {
    Word,
    Table(Section<'d>),
}

/// One table of the file.
#[derive(Clone)]
pub(super) struct Section<'d> {
    /// As the operator writes it, `[instance.web]`.
    pub(super) title: String,
    /// Where it begins.
    pub(super) span: Span,
    table: &'d DeTable<'d>,
    scope: Option<Scope<'d>>,
}

impl<'d> Section<'d> {
    pub(super) fn new(title: impl Into<String>, span: Span, table: &'d DeTable<'d>) -> Self {
        Self { title: title.into(), span, table, scope: None }
    }

    /// The same table with per-host tables allowed as values.
    pub(super) fn per_host<'s>(&self, scope: Scope<'s>) -> Section<'s>
    where
        'd: 's,
    {
        Section { scope: Some(scope), ..self.clone() }
    }

    /// The subtable under `name`, with the same scope.
    fn below(&self, title: String, span: Span, table: &'d DeTable<'d>) -> Self {
        Self { title, span, table, scope: self.scope }
    }

    /// The place of a key that is not written: the section itself.
    pub(super) fn at<T>(&self, value: T) -> At<T> {
        At { value, span: self.span.clone() }
    }

    /// Reports every key that is not in `known`.
    pub(super) fn refuse_unknown(&self, known: &[Key], findings: &mut Findings<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if known.iter().any(|k| k.name == name) {
                continue;
            }
            let allowed = || known.iter().map(|k| k.name);
            let list = allowed().collect::<Vec<_>>().join(", ");
            let help = match closest(name, allowed()) {
                Some(near) => format!("did you mean \"{near}\"? {} takes: {list}", self.title),
                None => format!("{} takes: {list}", self.title),
            };
            findings.error(
                &key.span(),
                format!("unknown key \"{}\" in {}", name.escape_debug(), self.title),
                help,
            );
        }
    }

    /// The raw value of `key`.
    pub(super) fn raw(&self, key: &Key) -> Option<Node<'d>> {
        self.table.get(key.name)
    }

    /// Where `key` is written; the section itself when it is not.
    pub(super) fn key_span(&self, key: &Key) -> Span {
        self.table.get_key_value(key.name).map_or_else(|| self.span.clone(), |(k, _)| k.span())
    }

    /// Entries of a table of names, with the span of each name.
    pub(super) fn entries(&self) -> impl Iterator<Item = (At<&'d str>, Node<'d>)> + use<'d> {
        self.table.iter().map(|(k, v)| (At { value: k.get_ref().as_ref(), span: k.span() }, v))
    }

    /// The value of `key`, which takes no table by itself: any table is one by host. `None`: not
    /// written, or reported.
    fn pick(&self, key: &Key, findings: &mut Findings<'_>) -> Option<Node<'d>> {
        let node = self.raw(key)?;
        match (self.scope, node.get_ref()) {
            (Some(scope), DeValue::Table(table)) => self.of_host(key, node, table, scope, findings),
            _ => Some(node),
        }
    }

    /// The value of `key`, which takes a table or tables: a table is one by host when it names a host.
    fn pick_table(&self, key: &Key, findings: &mut Findings<'_>) -> Option<Node<'d>> {
        let node = self.raw(key)?;
        match (self.scope, node.get_ref()) {
            (Some(scope), DeValue::Table(table))
                if scope.hosts.iter().any(|host| table.contains_key(host.as_ref())) =>
            {
                self.of_host(key, node, table, scope, findings)
            }
            _ => Some(node),
        }
    }

    /// The entry of the host in question in `table`, the value `node` of `key`.
    fn of_host(
        &self,
        key: &Key,
        node: Node<'d>,
        table: &'d DeTable<'d>,
        scope: Scope<'d>,
        findings: &mut Findings<'_>,
    ) -> Option<Node<'d>> {
        self.check_hosts(key, table, scope, findings);
        let found = table.get(scope.me);
        if found.is_none() {
            findings.error(
                &node.span(),
                format!("{} has no value for host {}", key.name, scope.me),
                format!("add {} = {} to the table", scope.me, first_example(key)),
            );
        }
        found
    }

    /// Reports entries of the table by host `key` that no host reads.
    pub(super) fn check_hosts(
        &self,
        key: &Key,
        table: &DeTable<'_>,
        scope: Scope<'_>,
        findings: &mut Findings<'_>,
    ) {
        for host in table.keys() {
            let name = host.get_ref().as_ref();
            if scope.taking_part.iter().any(|h| h.as_ref() == name) {
                continue;
            }
            if scope.hosts.iter().any(|h| h.as_ref() == name) {
                findings.warning(
                    &host.span(),
                    format!("{} for {name} is not used: {}", key.name, scope.left_out.why()),
                    scope.left_out.fix(name),
                );
            } else {
                unknown_name(
                    "host",
                    At { value: name, span: host.span() },
                    &format!("{} of {}", key.name, self.title),
                    "[hosts.NAME]",
                    scope.hosts,
                    findings,
                );
            }
        }
    }

    /// The value of `key`, or `None` when it is not written or was refused with a finding.
    pub(super) fn optional<T>(
        &self,
        key: &Key,
        findings: &mut Findings<'_>,
        parse: impl FnOnce(&DeValue<'d>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        let node = self.pick(key, findings)?;
        match parse(node.get_ref()) {
            Ok(value) => Some(At { value, span: node.span() }),
            Err(wrong) => {
                refuse(key, node.span(), wrong, findings);
                None
            }
        }
    }

    /// As [`Self::optional`], with a finding when it is not written.
    pub(super) fn required<T>(
        &self,
        key: &Key,
        findings: &mut Findings<'_>,
        parse: impl FnOnce(&DeValue<'d>) -> Result<T, Wrong>,
    ) -> Option<At<T>> {
        self.demand(key, findings);
        self.optional(key, findings, parse)
    }

    /// Reports that `key` is not written.
    pub(super) fn demand(&self, key: &Key, findings: &mut Findings<'_>) {
        if self.raw(key).is_none() {
            findings.error(
                &self.span,
                format!("{} has no {}", self.title, key.name),
                format!("add {} = {} ({})", key.name, key.example, key.expect),
            );
        }
    }

    /// The elements of the list `key`; those that were refused are left out. `None`: not written, or
    /// not a list.
    pub(super) fn list<T>(
        &self,
        key: &Key,
        findings: &mut Findings<'_>,
        parse: impl Fn(&DeValue<'d>) -> Result<T, Wrong>,
    ) -> Option<At<Vec<At<T>>>> {
        let node = self.pick(key, findings)?;
        let DeValue::Array(array) = node.get_ref() else {
            refuse(key, node.span(), Wrong::Not(describe(node.get_ref())), findings);
            return None;
        };
        let mut list = Vec::with_capacity(array.len());
        for item in array.iter() {
            match parse(item.get_ref()) {
                Ok(value) => list.push(At { value, span: item.span() }),
                Err(Wrong::Not(found)) => {
                    let why = format!("{found} does not fit into {}: {}", key.name, key.expect);
                    let fix = format!("for example: {} = {}", key.name, key.example);
                    findings.error(&item.span(), why, fix);
                }
                Err(wrong) => refuse(key, item.span(), wrong, findings),
            }
        }
        Some(At { value: list, span: node.span() })
    }

    /// As [`Self::list`]; an empty list is refused.
    pub(super) fn nonempty_list<T>(
        &self,
        key: &Key,
        findings: &mut Findings<'_>,
        parse: impl Fn(&DeValue<'d>) -> Result<T, Wrong>,
    ) -> Option<At<Vec<At<T>>>> {
        let before = findings.count();
        let list = self.list(key, findings, parse)?;
        if list.value.is_empty() && findings.count() == before {
            let wrong = Wrong::Not("an empty one".to_owned());
            refuse(key, list.span.clone(), wrong, findings);
        }
        Some(list)
    }

    /// The value of `key`, which takes one thing or a list of them.
    pub(super) fn one_or_list<T>(
        &self,
        key: &Key,
        findings: &mut Findings<'_>,
        parse: impl Fn(&DeValue<'d>) -> Result<T, Wrong>,
    ) -> Vec<At<T>> {
        match self.pick(key, findings) {
            Some(node) if !node.get_ref().is_array() => {
                self.optional(key, findings, parse).into_iter().collect()
            }
            _ => self.list(key, findings, parse).map_or_else(Vec::new, |list| list.value),
        }
    }

    /// The table `key`, which keeps the scope of this one.
    pub(super) fn table(&self, key: &Key, findings: &mut Findings<'_>) -> Option<Self> {
        let node = self.pick_table(key, findings)?;
        self.as_table(key, node, findings)
    }

    /// As [`Self::table`], but `word` may stand for none.
    pub(super) fn table_or(
        &self,
        key: &Key,
        word: &str,
        findings: &mut Findings<'_>,
    ) -> Option<TableOr<'d>> {
        let node = self.pick_table(key, findings)?;
        if node.get_ref().as_str() == Some(word) {
            return Some(TableOr::Word);
        }
        self.as_table(key, node, findings).map(TableOr::Table)
    }

    fn as_table(&self, key: &Key, node: Node<'d>, findings: &mut Findings<'_>) -> Option<Self> {
        match node.get_ref() {
            DeValue::Table(table) => {
                let title = match self.title.strip_suffix(']') {
                    Some(outer) => format!("{outer}.{}]", key.name),
                    None => format!("[{}]", key.name),
                };
                Some(self.below(title, self.key_span(key), table))
            }
            other => {
                refuse(key, node.span(), Wrong::Not(describe(other)), findings);
                None
            }
        }
    }

    /// The tables of the list `key` (`[[instance.NAME.route]]`), which keep the scope of this one.
    pub(super) fn tables(&self, key: &Key, findings: &mut Findings<'_>) -> Vec<Self> {
        let Some(node) = self.pick_table(key, findings) else { return Vec::new() };
        let title = format!("[{}.{}]]", self.title.trim_end_matches(']'), key.name);
        let DeValue::Array(array) = node.get_ref() else {
            let found = describe(node.get_ref());
            findings.error(
                &node.span(),
                format!("{} must be {}, not {found}", key.name, key.expect),
                format!("write {title}, or {} = {}", key.name, key.example),
            );
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(self.below(title.clone(), item.span(), table));
                }
                other => refuse(key, item.span(), Wrong::Not(describe(other)), findings),
            }
        }
        sections
    }
}

/// Reports that the value of `key` was refused.
pub(super) fn refuse(key: &Key, span: Span, wrong: Wrong, findings: &mut Findings<'_>) {
    match wrong {
        Wrong::Not(found) => findings.error(
            &span,
            format!("{} must be {}, not {found}", key.name, key.expect),
            format!("for example: {} = {}", key.name, key.example),
        ),
        Wrong::Because(why, fix) => findings.error(&span, format!("{}: {why}", key.name), fix),
    }
}

/// Reports a reference to something that does not exist, with the nearest name that does.
pub(super) fn unknown_name(
    what: &str,
    name: At<&str>,
    place: &str,
    define: &str,
    existing: &[Arc<str>],
    findings: &mut Findings<'_>,
) {
    let list = existing.join(", ");
    let help = match closest(name.value, existing.iter().map(AsRef::as_ref)) {
        Some(near) => format!("did you mean \"{near}\"? {what}s in the file: {list}"),
        None if existing.is_empty() => format!("add {define}"),
        None => format!("use one of the {what}s in the file: {list}; or add {define}"),
    };
    findings.error(
        &name.span,
        format!("{place} names {what} \"{}\", which is not in the file", name.value.escape_debug()),
        help,
    );
}

/// What `name` was probably meant to be.
fn closest<'n>(name: &str, among: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    among
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// An example of one host's value where the example of the key is a table by host.
fn first_example(key: &Key) -> &'static str {
    match key.example.strip_prefix("{ lb1 = ").and_then(|rest| rest.split_once(',')) {
        Some((value, _)) => value,
        None => key.example,
    }
}

//! `vipd import`: keepalived.conf, one for each host, becomes one vipd.toml and a report of every line.

use super::create::create;
use super::{Exit, Failure, Place, say};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use vipd_core::config::import::{self, Import, ImportError, Line, Source, include_of};

/// Files that include each other are read this deep.
const DEPTH_MAX: usize = 16;
/// Most lines of one host: files that include each other grow fast.
const LINES_MAX: usize = 1_000_000;

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files of keepalived, one for each host: NAME=FILE, where NAME is the hostname. FILE alone: of this host
    #[arg(value_name = "NAME=FILE", required = true)]
    files: Vec<String>,
    /// Write the new file here; an existing one is never touched [default: standard output, the report on standard error]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the report here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) fn run(place: &Place, args: &ImportArgs) -> Result<Exit, Failure> {
    let sources = args.files.iter().map(|file| source(place, file));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let made = import::import(&sources).map_err(|error| match error {
        ImportError::Host(_) => Failure::new(Exit::Usage, error),
        ImportError::Syntax(_) | ImportError::Nothing(_) => Failure::new(Exit::Config, error),
    })?;
    write(args, &made)?;
    Ok(if made.report.is_exact() { Exit::Done } else { Exit::Failed })
}

/// The new file and the report, to where they belong.
fn write(args: &ImportArgs, made: &Import) -> Result<(), Failure> {
    let report = made.report.render();
    if let Some(path) = &args.report {
        create(path, &report, 0o644)?;
    }
    let Some(path) = &args.output else {
        if args.report.is_none() {
            eprintln!("{}", report.trim_end());
        }
        say(made.toml.trim_end());
        return Ok(());
    };
    // A password may be in it.
    create(path, &made.toml, 0o640)?;
    if args.report.is_none() {
        say(report.trim_end());
    }
    let path = path.display();
    say(format_args!(
        "\n{path}: written, the same for every host. Next: vipd check {path}; docs/migration.md has the way there"
    ));
    Ok(())
}

/// What keepalived reads on the host of `NAME=FILE`.
fn source(place: &Place, argument: &str) -> Result<Source, Failure> {
    let (host, file) = match argument.split_once('=') {
        Some((host, file)) if !host.contains('/') => (host.to_owned(), file),
        _ => (place.host()?, argument),
    };
    let mut lines = Vec::new();
    read(Path::new(file), 0, &mut lines)?;
    Ok(Source { host, lines })
}

/// Adds the lines of a file, with those of files that it includes in place.
fn read(path: &Path, depth: usize, lines: &mut Vec<Line>) -> Result<(), Failure> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|e| {
        Failure::new(Exit::Config, format!("{shown}: {e}: name keepalived's file as NAME=FILE"))
    })?;
    // A comment in another encoding is no reason to stop.
    let text = String::from_utf8_lossy(&bytes);
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    for mut line in import::lines(&shown.to_string(), &text) {
        let Some(pattern) = include_of(&line.text) else {
            lines.push(line);
            continue;
        };
        let files = matching(&folder.join(pattern));
        let number = line.number;
        line.expanded = !files.is_empty();
        lines.push(line);
        if depth >= DEPTH_MAX || lines.len() > LINES_MAX {
            return Err(Failure::new(
                Exit::Config,
                format!(
                    "{shown}:{number}: files include each other without end\nfix: remove this include"
                ),
            ));
        }
        for file in files {
            read(&file, depth + 1, lines)?;
        }
    }
    Ok(())
}

/// The files that fit a pattern with `*`, `?`, `[...]` and `{a,b}`, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let Some(pattern) = pattern.to_str() else { return Vec::new() };
    let mut found: Vec<PathBuf> = Vec::new();
    for pattern in braces(pattern) {
        let mut folders = vec![PathBuf::from(if pattern.starts_with('/') { "/" } else { "." })];
        for part in pattern.split('/').filter(|part| !part.is_empty()) {
            folders = folders.iter().flat_map(|folder| below(folder, part)).collect();
        }
        found.extend(folders.into_iter().filter(|path| path.is_file()));
    }
    found
}

/// What a folder has that fits one part of a pattern.
fn below(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !part.contains(['*', '?', '[']) {
        let path = if folder == Path::new(".") { PathBuf::from(part) } else { folder.join(part) };
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let pattern: Vec<char> = part.chars().collect();
    // As a shell does it, a leading dot has to be written.
    let visible = |name: &String| !name.starts_with('.') || part.starts_with('.');
    let mut names: Vec<String> = names
        .filter(visible)
        .filter(|name| fits(&pattern, &name.chars().collect::<Vec<_>>()))
        .collect();
    names.sort();
    let join =
        |name: String| if folder == Path::new(".") { name.into() } else { folder.join(name) };
    names.into_iter().map(join).collect()
}

/// `a{b,c}d` as `abd` and `acd`.
fn braces(pattern: &str) -> Vec<String> {
    let parts = pattern.split_once('{').and_then(|(head, rest)| {
        let (inner, tail) = rest.split_once('}')?;
        inner.contains(',').then_some((head, inner, tail))
    });
    match parts {
        None => vec![pattern.to_owned()],
        Some((head, inner, tail)) => {
            inner.split(',').flat_map(|one| braces(&format!("{head}{one}{tail}"))).collect()
        }
    }
}

/// Does `name` fit `pattern`? Steps back to the last star only, so that no pattern takes long.
fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some('[') => {
                if let Some((true, length)) = one_of(&pattern[p..], name[n]) {
                    (p, n) = (p + length, n + 1);
                    continue;
                }
            }
            Some(c) if *c == '?' || *c == name[n] => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            _ => {}
        }
        let Some((at, from)) = star else { return false };
        star = Some((at, from + 1));
        (p, n) = (at + 1, from + 1);
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// `[abc]`, `[a-z]`, `[!a]` at the start of `pattern`: does `c` fit, and how long is it? `None`: never closed.
fn one_of(pattern: &[char], c: char) -> Option<(bool, usize)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let length = pattern.iter().skip(first + 1).position(|c| *c == ']')? + first + 1;
    let inner = &pattern[first..length];
    let mut found = false;
    let mut at = 0;
    while at < inner.len() {
        if let (Some('-'), Some(last)) = (inner.get(at + 1), inner.get(at + 2)) {
            found |= (inner[at]..=*last).contains(&c);
            at += 3;
        } else {
            found |= inner[at] == c;
            at += 1;
        }
    }
    Some((found != negated, length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_a_shell_reads_them() {
        let fits = |pattern: &str, name: &str| {
            fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in [
            ("*.conf", "a.conf"),
            ("a*b*c", "aXbYbc"),
            ("[a-c]?", "b1"),
            ("[!x]", "y"),
            ("*", ""),
            ("[]]", "]"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.conf", "a.conf~"), ("[a-c]", "d"), ("[!x]", "x"), ("?", ""), ("[a", "a")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert_eq!(braces("x{a,b}{1,2}"), ["xa1", "xa2", "xb1", "xb2"]);
        assert_eq!(braces("${A}"), ["${A}"]);
    }
}

//! Writes what a package carries beside the program: completions of three shells, the manual pages vipd(8) and
//! vipd.toml(5), the JSON schema of the configuration.
//!
//! Called by `packaging/build`: `cargo run --example assets -- DIR`. Everything is made from what the program itself
//! reads with (the command line's parser, the key table of the configuration) and from `docs/configuration.md`, whose
//! tables are tested against that key table; none of it is in the binary.

mod manual;
mod page;
mod schema;
mod toml5;
mod vipd8;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::{Path, PathBuf};
use vipd_agent::cli::Args;

fn main() -> anyhow::Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.context("usage: assets DIR")?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    write(&dir, "vipd.8", &vipd8::page())?;
    write(&dir, "vipd.toml.5", &toml5::page()?)?;
    write(&dir, "vipd.schema.json", &format!("{:#}\n", schema::schema()?))?;
    for (shell, file) in
        [(Shell::Bash, "vipd.bash"), (Shell::Zsh, "_vipd"), (Shell::Fish, "vipd.fish")]
    {
        write(&dir, file, &completion(shell)?)?;
    }
    Ok(())
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn completion(shell: Shell) -> anyhow::Result<String> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "vipd", &mut text);
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_shell_completes_every_verb_that_is_shown() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completion(shell).unwrap();
            for verb in Args::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(text.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}

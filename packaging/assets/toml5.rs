//! vipd.toml(5): `docs/configuration.md` with the values that the key table takes.

use super::manual::{self, Block};
use super::page;
use anyhow::Context as _;
use clap_mangen::roff::{Roff, roman};
use vipd_core::config::reference::{self, Key};

const PAIR: &str = include_str!("../../config/pair.toml");

/// The page.
///
/// # Errors
/// When the manual lacks a section or a key.
pub(crate) fn page() -> anyhow::Result<String> {
    let blocks = manual::configuration();
    let mut out = page::begin("vipd.toml", "5", "configuration of the virtual-IP agent vipd");
    let first = blocks.iter().position(|b| matches!(b, Block::Heading(_)));
    page::section(&mut out, "DESCRIPTION", &blocks[..first.unwrap_or(blocks.len())]);
    page::write(&mut out, &[
        Block::Paragraph(
            "Editors that know JSON schemas of TOML files complete and check it with this as its first line:".into(),
        ),
        Block::Code(super::schema::EDITOR_HINT.into()),
    ]);
    for section in reference::sections() {
        let text = manual::section(&blocks, section.heading)
            .with_context(|| format!("docs/configuration.md has no section {}", section.heading))?;
        // Up to the first table of keys as it stands there.
        let keys = text.iter().position(|b| matches!(b, Block::Table(h, _) if manual::is_keys(h)));
        let (before, rest) = text.split_at(keys.unwrap_or(text.len()));
        page::section(&mut out, section.heading, before);
        for block in rest {
            match block {
                Block::Table(header, _) if manual::is_keys(header) => {
                    for key in section.keys {
                        let row = manual::row(text, key.name).with_context(|| {
                            format!(
                                "docs/configuration.md: {} has no {}",
                                section.heading, key.name
                            )
                        })?;
                        entry(&mut out, key, row);
                    }
                }
                other => page::write(&mut out, std::slice::from_ref(other)),
            }
        }
    }
    page::section(&mut out, "EXAMPLE", &[Block::Code(PAIR.trim_end().into())]);
    out.control("SH", ["FILES"]);
    page::tagged(&mut out, "/etc/vipd/vipd.toml");
    out.text([roman("Where the agent looks, unless --config says otherwise.")]);
    page::tagged(&mut out, "/usr/share/doc/vipd/examples/");
    out.text([roman("Examples for pairs, pools, dual stack, checks, standbys.")]);
    out.control("SH", ["SEE ALSO"]);
    out.text([roman("vipd(8)")]);
    Ok(out.render())
}

fn entry(out: &mut Roff, key: &Key, row: manual::Row<'_>) {
    page::tagged(out, key.name);
    let mut text = row.meaning.to_owned();
    if !text.is_empty() && !text.ends_with(['.', ':']) {
        text.push('.');
    }
    let default = match row.default {
        "" => String::new(),
        "needed" => " Needed.".to_owned(),
        other => format!(" Default: {other}."),
    };
    // What the table of the manual adds to the words of the error message.
    let range = match manual::plain(row.range) {
        range if range.is_empty() || key.expect.contains(&range) => String::new(),
        _ => format!(" ({})", row.range),
    };
    out.text(page::inline(&format!("{text} Takes {}{range}.{default}", key.expect)));
    out.control("br", []).text(page::inline(&format!("`{} = {}`", key.name, key.example)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_page_has_every_section_and_every_key_with_its_example() {
        let page = page().unwrap().replace("\\-", "-");
        for section in reference::sections() {
            assert!(page.contains(section.heading), "{}", section.heading);
            for key in section.keys {
                let example = format!("{} = {}", key.name, key.example);
                assert!(page.contains(&example), "{}: {example}", section.heading);
            }
        }
    }
}

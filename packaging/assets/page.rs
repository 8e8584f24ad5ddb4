//! Blocks of a manual as roff (man(7)).
//!
//! A paragraph right after a heading has no macro of its own: the heading begins one.

use super::manual::{Block, is_keys};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Begins a page.
pub(crate) fn begin(name: &str, section: &str, what: &str) -> Roff {
    let mut out = Roff::new();
    let version = concat!("vipd ", env!("CARGO_PKG_VERSION"));
    // Without a date: the same source makes the same page.
    out.control("TH", [name.to_uppercase().as_str(), section, " ", version, "vipd"]);
    out.control("SH", ["NAME"]).text([roman(format!("{name} - {what}"))]);
    out
}

/// A section: its heading and its blocks.
pub(crate) fn section(out: &mut Roff, heading: &str, blocks: &[Block]) {
    out.control("SH", [heading]);
    match blocks.split_first() {
        Some((Block::Paragraph(text), rest)) => {
            out.text(inline(text));
            write(out, rest);
        }
        _ => write(out, blocks),
    }
}

/// Writes blocks; headings begin sections.
pub(crate) fn write(out: &mut Roff, blocks: &[Block]) {
    for (at, block) in blocks.iter().enumerate() {
        if let Block::Heading(text) = block {
            return section(out, &text.replace('`', "").to_uppercase(), &blocks[at + 1..]);
        }
        match block {
            Block::Heading(_) => {}
            Block::Paragraph(text) => {
                out.control("PP", []).text(inline(text));
            }
            Block::Item(text) => {
                out.control("IP", ["\u{2022}", "2"]).text(inline(text));
            }
            Block::Table(header, rows) => rows.iter().for_each(|row| entry(out, header, row)),
            Block::Code(text) => {
                out.control("PP", []).control("RS", ["4"]).control("nf", []);
                for line in text.lines() {
                    out.text([roman(line)]);
                }
                out.control("fi", []).control("RE", []);
            }
        }
    }
}

/// A row as a tagged paragraph: the first cell is the tag, the others follow with their headings where these say more
/// than the cell.
fn entry(out: &mut Roff, header: &[String], row: &[String]) {
    let Some((tag, cells)) = row.split_first() else { return };
    tagged(out, tag);
    let quiet = header.len() <= 2 || is_keys(header);
    let named = header.iter().skip(1).zip(cells).filter(|(_, cell)| !cell.is_empty());
    let text: Vec<String> = named
        .map(|(name, cell)| if quiet { cell.clone() } else { format!("{name}: {cell}.") })
        .collect();
    out.text(inline(&text.join(" ")));
}

/// Begins a tagged paragraph.
pub(crate) fn tagged(out: &mut Roff, tag: &str) {
    out.control("TP", []).text([bold(tag.replace('`', ""))]);
}

/// Text with its marks: `` `code` `` and `**strong**` are bold, links are their text.
pub(crate) fn inline(text: &str) -> Vec<Inline> {
    let mut parts = Vec::new();
    for (at, part) in unlinked(text).replace("**", "`").split('`').enumerate() {
        if !part.is_empty() {
            parts.push(if at % 2 == 1 { bold(part) } else { roman(part) });
        }
    }
    parts
}

/// The value that stands for something, as in `FILE`.
pub(crate) fn placeholder(name: &str) -> Inline {
    italic(name)
}

/// `[text](target)` is `text`.
fn unlinked(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once("](") {
        let (head, label) = before.rsplit_once('[').unwrap_or((before, ""));
        out.push_str(head);
        out.push_str(label);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_links() {
        assert_eq!(unlinked("see [a b](c.md), or [d](e)."), "see a b, or d.");
        assert_eq!(inline("a `b` **c**"), [roman("a "), bold("b"), roman(" "), bold("c")]);
    }

    #[test]
    fn a_line_that_begins_with_a_dot_is_no_control_line() {
        let mut out = Roff::new();
        write(&mut out, &[Block::Paragraph(".so /etc/passwd".into()), Block::Code("'x".into())]);
        assert!(!out.render().contains("\n.so") && !out.render().contains("\n'x"));
    }
}

//! The part of Markdown in which our manuals are written: headings, paragraphs, lists, tables, code. Read into blocks,
//! for `page` to write as roff and for `schema` to take the words of a key from.

/// A piece of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// `## Heading`, or deeper.
    Heading(String),
    /// Lines that belong together.
    Paragraph(String),
    /// An item of a list.
    Item(String),
    /// A table: its header and its rows.
    Table(Vec<String>, Vec<Vec<String>>),
    /// Between fences, as it is.
    Code(String),
}

/// The manual of the configuration, which says where a package puts its examples.
pub(crate) fn configuration() -> Vec<Block> {
    let text = include_str!("../../docs/configuration.md");
    blocks(&text.replace("`config/*.toml`", "`/usr/share/doc/vipd/examples/*.toml`"))
}

/// The blocks of `text`, in order. The title (`# ...`) is left out.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.starts_with("# ") {
            continue;
        }
        if line.starts_with("```") {
            let code: Vec<&str> = lines.by_ref().take_while(|l| !l.starts_with("```")).collect();
            found.push(Block::Code(code.join("\n")));
        } else if line.starts_with('#') {
            found.push(Block::Heading(line.trim_start_matches('#').trim().to_owned()));
        } else if line.starts_with('|') {
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|l| l.starts_with('|')) {
                rows.push(cells(row));
            }
            // The first of them is the line of dashes.
            found.push(Block::Table(cells(line), rows.split_off(rows.len().min(1))));
        } else {
            let item = line.strip_prefix("- ");
            let mut whole = item.unwrap_or(line).to_owned();
            while let Some(more) = lines.next_if(|l| continues(l)) {
                whole.push(' ');
                whole.push_str(more.trim());
            }
            found.push(if item.is_some() { Block::Item(whole) } else { Block::Paragraph(whole) });
        }
    }
    found
}

/// Does a line go on with the paragraph before it?
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && !["- ", "|", "#", "```"].iter().any(|begin| line.starts_with(begin))
}

/// The cells of a row; `\|` is a bar.
fn cells(row: &str) -> Vec<String> {
    let bars = row.trim().trim_matches('|').replace("\\|", "\u{0}");
    bars.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// What follows the heading `` `heading` `` up to the next one; `None`: there is no such heading.
pub(crate) fn section<'a>(blocks: &'a [Block], heading: &str) -> Option<&'a [Block]> {
    let wanted = Block::Heading(format!("`{heading}`"));
    let from = blocks.iter().position(|block| *block == wanted)? + 1;
    let rest = &blocks[from..];
    let to = rest.iter().position(|block| matches!(block, Block::Heading(_)));
    Some(&rest[..to.unwrap_or(rest.len())])
}

/// A row of a table of keys.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Row<'a> {
    /// What it takes.
    pub(crate) range: &'a str,
    /// What it is when it is not written; `needed`: it has to be.
    pub(crate) default: &'a str,
    /// What it does.
    pub(crate) meaning: &'a str,
}

/// The row of `key` in the table of keys of a section.
pub(crate) fn row<'a>(section: &'a [Block], key: &str) -> Option<Row<'a>> {
    let name = format!("`{key}`");
    section.iter().find_map(|block| match block {
        Block::Table(header, rows) if is_keys(header) => {
            let row = rows.iter().find(|row| row.first() == Some(&name))?;
            let [_, _, range, default, meaning] = row.as_slice() else { return None };
            Some(Row { range, default, meaning })
        }
        _ => None,
    })
}

/// Is it the header of a table of keys?
pub(crate) fn is_keys(header: &[String]) -> bool {
    header.first().is_some_and(|first| first == "Key")
}

/// Text without its marks, for where nothing can be marked.
pub(crate) fn plain(text: &str) -> String {
    text.replace('`', "").replace("**", "")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn reads_what_our_manuals_use() {
        let text = "# T\n\none\ntwo\n\n- a\n  b\n- c\n\n## `[x]`\n\n| Key | Type | Range | Default | Meaning |\n\
                    |---|---|---|---|---|\n| `k` | s | 1 | `2` | A \\| B |\n\n```sh\ncode\n```\n";
        let read = blocks(text);
        assert_eq!(read[0], Block::Paragraph("one two".into()));
        assert_eq!(read[1..3], [Block::Item("a b".into()), Block::Item("c".into())]);
        let x = section(&read, "[x]").unwrap();
        let k = row(x, "k").unwrap();
        assert_eq!((k.range, k.default, k.meaning), ("1", "`2`", "A | B"));
        assert_eq!(x.last(), Some(&Block::Code("code".into())));
        assert!(section(&read, "[y]").is_none() && row(x, "l").is_none());
    }
}

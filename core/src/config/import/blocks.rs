//! Logical lines -> a tree of blocks.
//!
//! Called by `import`. Every node has a number, by which the report knows whether something was said of it.

use super::lexer::Token;
use super::preprocess::Logical;
use super::{Place, SyntaxError};

/// Blocks in blocks; keepalived knows four.
const DEPTH_MAX: usize = 32;

/// A line, with the block that it opens.
#[derive(Debug)]
pub(super) struct Node {
    /// Unique in its tree.
    pub(super) id: usize,
    pub(super) place: Place,
    pub(super) words: Vec<String>,
    /// Empty when there is none.
    pub(super) children: Vec<Self>,
    pub(super) is_block: bool,
}

impl Node {
    /// The first word.
    pub(super) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The words after the first.
    pub(super) fn args(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// The word after the first, empty when there is none.
    pub(super) fn arg(&self) -> &str {
        self.args().first().map_or("", String::as_str)
    }
}

/// The blocks of a file.
pub(super) fn tree(lines: Vec<Logical>) -> Result<Vec<Node>, SyntaxError> {
    let mut open: Vec<Node> = Vec::new();
    let mut top: Vec<Node> = Vec::new();
    let mut next_id = 0;
    for Logical { place, tokens } in lines {
        let mut words = Vec::new();
        let mut tokens = tokens.into_iter().peekable();
        loop {
            let token = tokens.next();
            let ends = !matches!(token, Some(Token::Word(_)));
            if ends && !words.is_empty() {
                let words = std::mem::take(&mut words);
                let (children, is_block) = (Vec::new(), false);
                siblings(&mut top, &mut open).push(Node {
                    id: next_id,
                    place: place.clone(),
                    words,
                    children,
                    is_block,
                });
                next_id += 1;
            }
            match token {
                None => break,
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Open) => {
                    // The line before, when the brace stands alone.
                    let head = siblings(&mut top, &mut open).pop_if(|node| !node.is_block);
                    let Some(mut head) = head else {
                        return Err(error(
                            &place,
                            "a block begins without a keyword",
                            "remove the {",
                        ));
                    };
                    if open.len() >= DEPTH_MAX {
                        return Err(error(
                            &place,
                            "blocks are nested too deeply",
                            "close blocks with }",
                        ));
                    }
                    head.is_block = true;
                    open.push(head);
                }
                Some(Token::Close) => {
                    let Some(done) = open.pop() else {
                        let help = "remove the }, or look for a block above that ends too early";
                        return Err(error(&place, "a block ends that never began", help));
                    };
                    siblings(&mut top, &mut open).push(done);
                }
            }
        }
    }
    match open.pop() {
        None => Ok(top),
        Some(block) => {
            let message = format!("the block \"{}\" is never closed", block.words.join(" "));
            Err(error(&block.place, &message, "add a line with } at its end"))
        }
    }
}

fn siblings<'t>(top: &'t mut Vec<Node>, open: &'t mut [Node]) -> &'t mut Vec<Node> {
    open.last_mut().map_or(top, |block| &mut block.children)
}

fn error(place: &Place, message: &str, help: &str) -> SyntaxError {
    SyntaxError { place: place.clone(), message: message.into(), help: help.into() }
}

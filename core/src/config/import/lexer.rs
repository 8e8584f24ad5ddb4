//! One logical line of keepalived's file -> words and braces.
//!
//! Called by `preprocess`, after variables were put in. It knows nothing of keywords.

/// A part of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Word(String),
    /// `{`
    Open,
    /// `}`
    Close,
}

/// The words and braces of `line`, without its comment.
///
/// As keepalived reads it: `#` and `!` begin a comment anywhere, inside of a word too; only double quotes and a
/// backslash protect them.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn tokens(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut chars = line.chars().peekable();
    let mut word = String::new();
    // Was a part of the word in quotes? Then it is a word even if empty, and its braces are text.
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '#' | '!' => break,
            c if c.is_whitespace() => {
                finish(&mut tokens, &mut word, &mut quoted);
            }
            '"' => {
                quoted = true;
                quote(&mut chars, &mut word)?;
            }
            '\'' if word.is_empty() && !quoted => {
                quoted = true;
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a single quote is not closed on its line"),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => {
                    if !matches!(c, '#' | '!' | '\\' | '"' | '\'' | ' ' | '{' | '}') {
                        word.push('\\');
                    }
                    quoted |= matches!(c, '{' | '}');
                    word.push(c);
                }
                None => word.push('\\'),
            },
            c => word.push(c),
        }
    }
    finish(&mut tokens, &mut word, &mut quoted);
    Ok(tokens)
}

/// The rest of a text in double quotes, with the escapes of C.
fn quote(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    word: &mut String,
) -> Result<(), &'static str> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some('n') => word.push('\n'),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some(c) => {
                    if !matches!(c, '"' | '\\' | '#' | '!' | '\'') {
                        word.push('\\');
                    }
                    word.push(c);
                }
                None => return Err(OPEN_QUOTE),
            },
            Some(c) => word.push(c),
            None => return Err(OPEN_QUOTE),
        }
    }
}

const OPEN_QUOTE: &str = "a double quote is not closed on its line";

/// Adds the word that ended, with the braces that hang on it (`VI_1{`, `eth0}`).
fn finish(tokens: &mut Vec<Token>, word: &mut String, quoted: &mut bool) {
    let text = std::mem::take(word);
    if std::mem::take(quoted) {
        tokens.push(Token::Word(text));
        return;
    }
    let mut rest = text.as_str();
    loop {
        if let Some(tail) = rest.strip_prefix('{') {
            tokens.push(Token::Open);
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix('}') {
            tokens.push(Token::Close);
            rest = tail;
        } else {
            break;
        }
    }
    if rest.is_empty() {
        return;
    }
    // A variable that nobody defined stays as it is written.
    let inner = rest.trim_end_matches(['{', '}']);
    if inner.contains('{') {
        tokens.push(Token::Word(rest.to_owned()));
        return;
    }
    tokens.push(Token::Word(inner.to_owned()));
    for brace in rest[inner.len()..].chars() {
        tokens.push(if brace == '{' { Token::Open } else { Token::Close });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn words(line: &str) -> Vec<String> {
        let text = |token| match token {
            Token::Word(word) => word,
            Token::Open => "<".into(),
            Token::Close => ">".into(),
        };
        tokens(line).unwrap().into_iter().map(text).collect()
    }

    #[test]
    fn comments_quotes_and_braces() {
        assert_eq!(words("priority 100 # high"), ["priority", "100"]);
        assert_eq!(words("auth_pass se!cret"), ["auth_pass", "se"]);
        assert_eq!(words("auth_pass \"se!cret\""), ["auth_pass", "se!cret"]);
        assert_eq!(words(r"auth_pass se\!cret"), ["auth_pass", "se!cret"]);
        assert_eq!(words("script \"a 'b c' \\\"d\\\"\""), ["script", "a 'b c' \"d\""]);
        assert_eq!(words("notify_master ''"), ["notify_master", ""]);
        assert_eq!(words("vrrp_instance VI_1{"), ["vrrp_instance", "VI_1", "<"]);
        assert_eq!(words("track_interface {eth0}"), ["track_interface", "<", "eth0", ">"]);
        assert_eq!(words("}}"), [">", ">"]);
        assert_eq!(words("interface ${NOBODY}"), ["interface", "${NOBODY}"]);
        assert_eq!(words("script \"curl -w %{http_code}\""), ["script", "curl -w %{http_code}"]);
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert!(tokens("script \"/bin/true").is_err());
        assert!(tokens("script '/bin/true").is_err());
        assert!(tokens("script \"/bin/true\\").is_err());
    }
}

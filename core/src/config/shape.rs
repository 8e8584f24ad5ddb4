//! What a key takes, understood from the words of the key table: the sentence that an error prints is also what the
//! JSON schema says.
//!
//! Called by `reference`. It knows kinds, ranges and words; what a text has to look like (an address, a URL) is the
//! reader's business, as is everything that keys mean together.

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number, from and to.
    Integer(i64, i64),
    /// A number with or without a fraction, from and to.
    Number(i64, i64),
    /// A text that this regular expression matches; empty: any.
    Text(&'static str),
    /// One of these texts.
    Words(Vec<String>),
    /// A list of values of one shape.
    List(Box<Self>),
    /// A table whose keys are names or numbers, with values of one shape.
    Map(Box<Self>),
    /// A table that is a section of its own.
    Table,
    /// One of these.
    Any(Vec<Self>),
}

const NAME: &str = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";
const PATH: &str = "^/";
const DURATION: &str = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h)$";
const RATE: &str = r"^[0-9]+([kMGT]B|[KMGT]iB)/s$";
const SIZE: &str = r"^[0-9]+([kMGT]B|[KMGT]iB)$";
const ANY: &str = "";

/// Texts by the words with which they begin.
const TEXTS: &[(&str, &str)] = &[
    ("1 to 64 letters, digits", NAME),
    ("1 to 8 printable ASCII characters", r"^[ -~]{1,8}$"),
    ("an absolute path", PATH),
    ("an interface name of 1 to 15 characters", "^.{1,15}$"),
    ("a duration from ", DURATION),
    ("the name of a check", NAME),
    ("the name of an instance", NAME),
    ("the name of ", ANY),
    ("the address of ", ANY),
    ("an address", ANY),
    ("a prefix ", ANY),
    ("a URL that begins with http:// or https://", "^https?://"),
    ("an HTTP method in capital letters", "^[A-Z]+$"),
    ("a Host header", ANY),
    ("a host name", ANY),
    ("a domain name", ANY),
    ("a text of ", ANY),
];

/// Items of lists by the words that follow "a list of ".
const ITEMS: &[(&str, &str)] = &[
    ("addresses", ANY),
    ("absolute paths", PATH),
    ("shell patterns", ANY),
    ("check names", NAME),
    ("instance names", NAME),
    ("host names", NAME),
    ("\"N in DURATION\"", r"^[0-9]+ in [0-9]+(\.[0-9]+)?(ms|s|m|h)$"),
];

impl Shape {
    /// The shape that `expect` describes; `None`: words that are not known here.
    pub(super) fn of(expect: &str) -> Option<Self> {
        let expect = expect.strip_suffix(", or a table of them by host").unwrap_or(expect);
        for (begin, pattern) in [("a size such as ", SIZE), ("a rate such as ", RATE)] {
            if let Some((_, octets)) =
                expect.strip_prefix(begin).and_then(|e| e.split_once(", or octets "))
            {
                return Some(Self::Any(vec![Self::Text(pattern), range(octets, Self::Integer)?]));
            }
        }
        if let Some((shape, word)) = expect.split_once(", or \"") {
            let word = Self::Words(vec![word.strip_suffix('"')?.to_owned()]);
            return Some(Self::Any(vec![Self::of(shape)?, word]));
        }
        if let Some((shape, list)) = expect.split_once(", or a list of ") {
            let item = match list {
                "integers and ranges" => Self::integer_or_range(shape)?,
                _ => Self::of(shape)?,
            };
            return Some(Self::Any(vec![item.clone(), Self::List(Box::new(item))]));
        }
        if let Some(items) = expect.strip_prefix("a list of ") {
            return Self::items(items).map(|item| Self::List(Box::new(item)));
        }
        if let Some(map) = expect.strip_prefix("a table of ") {
            let value = match map {
                _ if map.starts_with("absolute paths by key id") => Self::Text(PATH),
                "texts by name" => Self::Text(ANY),
                _ => Self::Table,
            };
            return Some(Self::Map(Box::new(value)));
        }
        Some(match expect {
            "true or false" => Self::Boolean,
            "a table" => Self::Table,
            "a list: the absolute path of a program, and its arguments" => {
                Self::List(Box::new(Self::Text(ANY)))
            }
            "2 or 3" => Self::Integer(2, 3),
            _ if expect.starts_with('"') => Self::Words(words(expect)),
            _ if expect.starts_with("a status or range of statuses") => {
                Self::integer_or_range(expect)?
            }
            _ if expect.contains("a number of percent") => range(expect, Self::Number)?,
            _ if expect.contains("integer") || expect.starts_with("the id of ") => {
                range(expect, Self::Integer)?
            }
            _ => Self::Text(known(TEXTS, expect)?),
        })
    }

    fn items(words_of_them: &str) -> Option<Self> {
        Some(match words_of_them {
            "tables" => Self::Table,
            quoted if quoted.contains("\" and \"") => Self::Words(words(quoted)),
            other => Self::Text(known(ITEMS, other)?),
        })
    }

    fn integer_or_range(expect: &str) -> Option<Self> {
        let text = Self::Text(r"^[0-9]+(-[0-9]+)?$");
        Some(Self::Any(vec![range(expect, Self::Integer)?, text]))
    }
}

/// The expression for the longest known beginning of `words`; the tables have the longer ones first.
fn known(table: &[(&str, &'static str)], words: &str) -> Option<&'static str> {
    table.iter().find(|(begin, _)| words.starts_with(begin)).map(|(_, pattern)| *pattern)
}

/// `... 1 to 255 ...`: the numbers around the first "to".
fn range(expect: &str, make: fn(i64, i64) -> Shape) -> Option<Shape> {
    let (low, high) = expect.split_once(" to ")?;
    let low = low.rsplit(' ').next()?.parse().ok()?;
    let high = high.split([' ', ',']).next()?.parse().ok()?;
    Some(make(low, high))
}

/// What stands in quotes.
fn words(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
impl Shape {
    /// Is a parsed value of this shape? Expressions are not tried.
    pub(super) fn fits(&self, value: &toml::de::DeValue<'_>) -> bool {
        use toml::de::DeValue as V;
        let whole = |text: &str| text.parse::<i64>().ok();
        match (self, value) {
            (Self::Boolean, V::Boolean(_)) | (Self::Table, V::Table(_)) => true,
            (Self::Text(_), V::String(_)) => true,
            (Self::Integer(low, high), V::Integer(n)) => {
                whole(n.as_str()).is_some_and(|n| (*low..=*high).contains(&n))
            }
            (Self::Number(..), V::Integer(_) | V::Float(_)) => true,
            (Self::Words(words), V::String(text)) => words.iter().any(|w| w == text),
            (Self::List(item), V::Array(list)) => list.iter().all(|v| item.fits(v.get_ref())),
            (Self::Map(item), V::Table(map)) => map.values().all(|v| item.fits(v.get_ref())),
            (Self::Any(shapes), _) => shapes.iter().any(|shape| shape.fits(value)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn understands_ranges_words_and_alternatives() {
        let of = |words| Shape::of(words).unwrap();
        assert_eq!(
            of("an integer from 1 to 255, or a table of them by host"),
            Shape::Integer(1, 255)
        );
        assert_eq!(
            of("a speed in Mbit/s, an integer from 1 to 1000000"),
            Shape::Integer(1, 1_000_000)
        );
        assert_eq!(of("the id of one of the keys, 1 to 255"), Shape::Integer(1, 255));
        let words = |list: &[&str]| Shape::Words(list.iter().map(|w| (*w).to_owned()).collect());
        assert_eq!(of("\"hot\", \"warm\" or \"cold\""), words(&["hot", "warm", "cold"]));
        let off = vec![Shape::Text(DURATION), words(&["off"])];
        assert_eq!(of("a duration from 0s to 10m, or \"off\""), Shape::Any(off));
        assert_eq!(
            of("a list of \"active\", \"backup\" and \"stop\""),
            Shape::List(Box::new(words(&["active", "backup", "stop"])))
        );
        assert_eq!(Shape::of("something that nobody has described"), None);
    }
}

//! Any wrong value of a full file is found on its line; any text at all never panics.

use proptest::prelude::*;
use std::ops::Range;
use toml::de::{DeTable, DeValue};
use vipd_core::config::{load, load_all_hosts};

const FULL: &str = include_str!("full.toml");

/// Any text fits here: arguments of programs, variables, what an answer has to contain.
const FREE_TEXT: [&str; 3] = ["body", "SITE", "exclude"];
/// Here any text fits but in the first place.
const ARGUMENTS: [&str; 2] = ["run", "script"];

/// Every value that is not a table, lists and their elements included. `free`: any text fits.
fn leaves(
    value: &DeValue<'_>,
    span: Range<usize>,
    free: bool,
    out: &mut Vec<(Range<usize>, &'static str)>,
) {
    match value {
        DeValue::String(_) if free => out.push((span, "free text")),
        DeValue::Table(table) => {
            for (key, v) in table.iter() {
                let key = key.get_ref().as_ref();
                match v.get_ref().as_array().filter(|_| ARGUMENTS.contains(&key)) {
                    Some(list) => list.iter().enumerate().for_each(|(n, v)| {
                        leaves(v.get_ref(), v.span(), n > 0, out);
                    }),
                    None => leaves(v.get_ref(), v.span(), FREE_TEXT.contains(&key), out),
                }
            }
        }
        DeValue::Array(array) => {
            // The value of [[...]] has no text of its own.
            if array.iter().all(|v| !v.get_ref().is_table()) {
                out.push((span, value.type_str()));
            }
            array.iter().for_each(|v| leaves(v.get_ref(), v.span(), free, out));
        }
        _ => out.push((span, value.type_str())),
    }
}

#[test]
fn the_full_file_is_legal() {
    let (_, warnings) = load_all_hosts(FULL, "full.toml").unwrap();
    assert_eq!(warnings, []);
}

#[test]
fn any_single_wrong_value_is_found_on_its_line() {
    let mut values = Vec::new();
    let document = DeTable::parse(FULL).unwrap();
    document.get_ref().iter().for_each(|(_, v)| leaves(v.get_ref(), v.span(), false, &mut values));
    assert!(values.len() > 60, "{}", values.len());
    for (span, kind) in values {
        let wrong: &[&str] = match kind {
            "string" => &["7.5", "true", "1979-05-27", "\"\"", "\"?? no such thing\"", "[[]]"],
            "integer" => &["-1", "99999999999", "99999999999999999999", "1.5", "\"1\"", "[1]"],
            "free text" => &["7.5", "true", "1979-05-27", "[[]]", "\"\\u0000\""],
            "boolean" => &["\"maybe\"", "1", "[]"],
            _ => &["true", "\"\"", "[7]", "[[]]"],
        };
        for replacement in wrong {
            let text = format!("{}{replacement}{}", &FULL[..span.start], &FULL[span.end..]);
            let line = FULL[..span.start].matches('\n').count() + 1;
            let what = format!("line {line}: {} -> {replacement}", &FULL[span.clone()]);
            let errors = load_all_hosts(&text, "full.toml").expect_err(&what);
            assert!(
                errors.iter().any(|e| e.is_error() && e.line == line && !e.help.is_empty()),
                "{what}: {errors:#?}"
            );
            for error in &errors {
                assert!(error.render(&text, "full.toml").contains("\nfix: "), "{what}");
            }
        }
    }
}

#[test]
fn any_misspelt_key_is_found_with_the_right_one() {
    for (number, line) in FULL.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let text: String = FULL
            .lines()
            .enumerate()
            .map(
                |(n, l)| {
                    if n == number { l.replacen(key, &format!("{key}_"), 1) } else { l.into() }
                },
            )
            .map(|l: String| l + "\n")
            .collect();
        let errors = load_all_hosts(&text, "full.toml").unwrap_err();
        let found = errors.iter().find(|e| e.message.starts_with("unknown key")).unwrap();
        assert_eq!(found.line, number + 1);
        assert!(found.help.contains(&format!("\"{key}\"")), "{key}: {}", found.help);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        if let Err(errors) = load(&text, "x", "lb1") {
            prop_assert!(errors.iter().any(|e| e.is_error()));
            for error in errors {
                error.render(&text, "x");
            }
        }
    }

    #[test]
    fn a_cut_or_overwritten_file_never_panics(
        at in 0..FULL.len(),
        length in 0usize..40,
        replacement in "[\\[\\]{}=.,\"'#\n a-z0-9/:-]{0,20}",
    ) {
        let end = (at + length).min(FULL.len());
        let text = format!("{}{replacement}{}", &FULL[..at], &FULL[end..]);
        match load(&text, "x", "lb1") {
            Ok((model, warnings)) => {
                prop_assert_eq!(&*model.hosts[usize::from(model.host.0)].name, "lb1");
                prop_assert!(warnings.iter().all(|w| !w.is_error()));
            }
            Err(errors) => {
                prop_assert!(errors.iter().any(|e| e.is_error()));
                for error in errors {
                    error.render(&text, "x");
                }
            }
        }
    }
}

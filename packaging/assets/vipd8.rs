//! vipd(8): the verbs and options of the command line's parser, and what `vipd.8.md` says about the rest.

use super::{manual, page};
use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::roff::{Inline, Roff, bold, roman};
use vipd_agent::cli::Args;

const REST: &str = include_str!("vipd.8.md");

/// The page.
pub(crate) fn page() -> String {
    let mut command = Args::command();
    command.build();
    let mut out = page::begin("vipd", "8", "virtual-IP high-availability agent");
    out.control("SH", ["SYNOPSIS"]);
    out.text([bold("vipd"), roman(" [options] "), page::placeholder("VERB"), roman(" ...")]);
    let rest = manual::blocks(REST);
    let first = rest.iter().position(|b| matches!(b, manual::Block::Heading(_)));
    let (description, rest) = rest.split_at(first.unwrap_or(rest.len()));
    page::section(&mut out, "DESCRIPTION", description);
    out.control("SH", ["OPTIONS"]).text([roman("With every verb:")]);
    options(&mut out, &command, |arg| arg.is_global_set());
    out.control("SH", ["VERBS"]);
    verbs(&mut out, &command, "vipd");
    page::write(&mut out, rest);
    out.render()
}

/// The verbs below `of`, but the one that prints what this page says.
fn verbs(out: &mut Roff, of: &Command, name: &str) {
    for verb in of.get_subcommands().filter(|v| !v.is_hide_set() && v.get_name() != "help") {
        verb_section(out, verb, name);
    }
}

/// A verb, and the verbs below it.
fn verb_section(out: &mut Roff, verb: &Command, above: &str) {
    let name = format!("{above} {}", verb.get_name());
    let operands = verb.get_positionals().map(|arg| {
        let value = value_name(arg);
        if arg.is_required_set() { format!(" {value}") } else { format!(" [{value}]") }
    });
    let operands: String = operands.collect();
    out.control("SS", [format!("{name}{operands}").as_str()]);
    if let Some(about) = verb.get_long_about().or_else(|| verb.get_about()) {
        for (at, paragraph) in about.to_string().split("\n\n").enumerate() {
            if at > 0 {
                out.control("PP", []);
            }
            out.text(page::inline(&sentence(paragraph)));
        }
    }
    options(out, verb, |arg| !arg.is_global_set());
    verbs(out, verb, &name);
}

fn options(out: &mut Roff, of: &Command, wanted: fn(&Arg) -> bool) {
    let listed =
        |arg: &&Arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str());
    for arg in of.get_arguments().filter(listed).filter(|arg| wanted(arg)) {
        out.control("TP", []).text(tag(arg));
        let help = arg.get_long_help().or_else(|| arg.get_help());
        let mut text = help.map(|help| sentence(&help.to_string())).unwrap_or_default();
        let words: Vec<_> =
            arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
        if !words.is_empty() && takes_value(arg) {
            text.push_str(&format!(" One of {}.", words.join(", ")));
        }
        let defaults: Vec<_> =
            arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        if !defaults.is_empty() && takes_value(arg) {
            text.push_str(&format!(" Default: {}.", defaults.join(",")));
        }
        out.text(page::inline(&text));
    }
}

/// How an option or an operand is written.
fn tag(arg: &Arg) -> Vec<Inline> {
    if arg.is_positional() {
        return vec![page::placeholder(&value_name(arg))];
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let names: Vec<_> = short.into_iter().chain(long).collect();
    let mut tag = vec![bold(names.join(", "))];
    if takes_value(arg) {
        tag.extend([roman(" "), page::placeholder(&value_name(arg))]);
    }
    tag
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

fn value_name(arg: &Arg) -> String {
    let given = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
    given.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())
}

/// Help texts are written without a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.ends_with(['.', ':']) { text.to_owned() } else { format!("{text}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_and_every_option_that_is_shown() {
        fn look(page: &str, command: &Command) {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long() {
                    let known = ["help", "version"].contains(&long);
                    assert!(known || page.contains(&format!("--{long}")), "--{long}");
                }
            }
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                assert!(page.contains(verb.get_name()), "{}", verb.get_name());
                look(page, verb);
            }
        }
        look(&page().replace("\\-", "-"), &Args::command());
    }
}

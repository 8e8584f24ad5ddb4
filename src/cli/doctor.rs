//! `vipd doctor`: what works against vipd on this host and its networks, what shows it, and what mends it.

use super::change::time;
use super::screen::{BAD, FAINT, GOOD, PLAIN, Screen, TITLE, WARN, show};
use super::status::{ask, say_json};
use super::{Exit, Failure, Place};
use crate::doctor::{self, Patient, Report};
use crate::runtime::{keys, load};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Listen on the service interfaces for adverts of others, for so long
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "15s", value_parser = time)]
    scan: Option<Duration>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Ends with 1 when something works against vipd.
pub(super) fn run(place: &Place, args: &DoctorArgs) -> Result<Exit, Failure> {
    let host = place.host()?;
    let model = load::for_host(&place.config, &host).map(|loaded| loaded.meaning);
    let keys = model.as_ref().ok().and_then(|model| keys::secrets(model).err());
    let patient = Patient {
        model: model.map_err(|error| error.to_string()),
        status: ask(place).map_err(|failure| failure.message),
        keys: keys.map(|error| error.to_string()),
        root: PathBuf::from("/"),
        scan: args.scan,
    };
    let report = doctor::examine(&patient);
    if args.json {
        say_json(&report)?;
    } else {
        show(&screen(&host, &report));
    }
    let sick = report.findings.iter().any(|finding| finding.problem);
    Ok(if sick { Exit::Failed } else { Exit::Done })
}

fn screen(host: &str, report: &Report) -> String {
    let mut screen = Screen::default();
    let problems = report.findings.iter().filter(|finding| finding.problem).count();
    let notes = report.findings.len() - problems;
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    screen.line(
        &format!("vipd doctor on {host}: {}, {}", count(problems, "problem"), count(notes, "note")),
        TITLE,
    );
    let sorted = report
        .findings
        .iter()
        .filter(|f| f.problem)
        .chain(report.findings.iter().filter(|f| !f.problem));
    for finding in sorted {
        let (mark, style) = if finding.problem { ("!", BAD) } else { ("-", WARN) };
        screen.gap();
        screen.entry(&format!("{mark} {:<11}", finding.probe), &finding.what, style);
        for (title, text) in [("seen", &finding.evidence), ("fix", &finding.fix)] {
            for (n, line) in text.lines().enumerate() {
                let title = if n == 0 { title } else { "" };
                screen.entry(&format!("  {title:<11}"), line, PLAIN);
            }
        }
    }
    let well: Vec<&str> = report
        .probes
        .iter()
        .copied()
        .filter(|probe| !report.findings.iter().any(|finding| finding.probe == *probe))
        .collect();
    screen.gap();
    if !well.is_empty() {
        screen.entry("nothing found by  ", &well.join(", "), GOOD);
    }
    if !report.probes.contains(&"network") {
        screen.entry("not looked at     ", "foreign VRIDs: vipd doctor --scan", FAINT);
    }
    screen.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Finding;

    #[test]
    fn every_finding_has_evidence_and_fix_on_80_columns() {
        let finding = |problem, probe| Finding {
            probe,
            problem,
            what: "nftables drops adverts that arrive on eth0 (IPv4)".into(),
            evidence:
                "no rule of chain inet filter input accepts them, and its policy is drop; more"
                    .into(),
            fix: "nft insert rule inet filter input meta l4proto 112 accept\nand in the file"
                .into(),
        };
        let report = Report {
            probes: vec!["config", "filter", "managers"],
            findings: vec![finding(false, "managers"), finding(true, "filter")],
        };
        let text = anstream::adapter::strip_str(&screen("lb1", &report)).to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let place = |wanted: &str| text.find(wanted);
        assert!(text.starts_with("vipd doctor on lb1: 1 problem, 1 note\n"), "{text}");
        assert!(place("! filter     nftables drops") < place("- managers"), "{text}");
        assert!(text.contains("\n             and in the file\n"), "{text}");
        assert!(text.contains("nothing found by  config\n"), "{text}");
    }
}

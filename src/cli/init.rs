//! `vipd init`: five questions, and the first vipd.toml of a pair with them; what to do next.
//!
//! The rooms below do one thing each: `answer` (what was asked and given), `machine` (what this host has), `scan`
//! (which VRIDs are used), `file` (the texts).

mod answer;
mod file;
mod machine;
mod scan;

use super::create::{create, exists};
use super::{Exit, Failure, Place, say};
use answer::{Host, Questions};
use clap::Args;
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use vipd_core::time::Duration;

/// The VRID that is proposed first.
const FIRST_VRID: u8 = 51;
/// Where the unit of the agent looks for more.
const DROP_IN: &str = "/etc/systemd/system/vipd.service.d/fronts.conf";

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Ask nothing: what is not given has its default
    #[arg(long)]
    yes: bool,
    /// Interface on which clients reach the address
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Virtual address, with the prefix length of its network; may be repeated
    #[arg(long = "address", value_name = "ADDRESS/LENGTH")]
    addresses: Vec<String>,
    /// This host: name and address, and its address on a second network if there is one
    #[arg(long = "this-host", value_name = "NAME=ADDRESS[,ADDRESS]")]
    this_host: Option<String>,
    /// The other host, in the same way
    #[arg(long, value_name = "NAME=ADDRESS[,ADDRESS]")]
    peer: Option<String>,
    /// Unit of the service behind the address: checked, and stopped after vipd; may be repeated
    #[arg(long = "unit", value_name = "UNIT")]
    units: Vec<String>,
    /// Virtual router identifier [default: one that is not heard]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    vrid: Option<u8>,
    /// Listen this long for VRIDs that are used, seconds; 0: do not
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(..=600))]
    scan: u64,
    /// File to write; an existing one is never touched [default: that of --config]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Everything that the file says.
struct Plan {
    interface: String,
    addresses: Vec<IpAddr>,
    /// By address.
    lengths: BTreeMap<IpAddr, u8>,
    this: Host,
    peer: Host,
    units: Vec<String>,
    vrid: u8,
}

pub(super) fn run(place: &Place, args: &InitArgs) -> Result<Exit, Failure> {
    let output = args.output.as_ref().unwrap_or(&place.config);
    let drop_in = drop_in_beside(place, output);
    // Before anybody has answered five questions for nothing.
    for path in
        [Some(output), Some(&drop_in).filter(|_| !args.units.is_empty())].into_iter().flatten()
    {
        refuse_existing(path)?;
    }
    let plan = ask(place, args)?;
    let text = file::vipd_toml(&plan);
    judge(&text)?;
    create(output, &text, 0o644)?;
    if !plan.units.is_empty() {
        refuse_existing(&drop_in)?;
        if let Some(folder) = drop_in.parent() {
            fs::create_dir_all(folder).map_err(|e| {
                Failure::new(
                    Exit::Failed,
                    format!("{}: {e}: run as root, or use --output", folder.display()),
                )
            })?;
        }
        create(&drop_in, &file::drop_in(&plan.units), 0o644)?;
    }
    say(format_args!("\n{}", file::next_steps(&plan, output, &drop_in, Path::new(DROP_IN))));
    Ok(Exit::Done)
}

/// Where the drop-in goes: to the unit if the file goes to where the unit reads it, else beside the file.
fn drop_in_beside(place: &Place, output: &Path) -> PathBuf {
    if output == place.config && output.starts_with("/etc/vipd") {
        DROP_IN.into()
    } else {
        output.with_file_name("fronts.conf")
    }
}

fn refuse_existing(path: &Path) -> Result<(), Failure> {
    if path.exists() { Err(exists(path)) } else { Ok(()) }
}

fn ask(place: &Place, args: &InitArgs) -> Result<Plan, Failure> {
    let mut questions = Questions::new(args.yes);
    let interface = questions.ask(
        "Interface on which clients reach the address",
        ("--interface", args.interface.as_deref()),
        machine::default_interface().as_deref(),
        answer::interface,
    )?;
    let own = machine::addresses_of(&interface);
    let given = (!args.addresses.is_empty()).then(|| args.addresses.join(" "));
    let addresses = questions.ask(
        "Virtual address that moves between the hosts, like 192.0.2.10/24; several with a space between",
        ("--address", given.as_deref()),
        None,
        answer::addresses,
    )?;
    let host = place.host()?;
    let first = own.iter().find(|(ip, _)| !addresses.iter().any(|(vip, _)| vip == ip));
    let default = first.map(|(ip, _)| format!("{host}={ip}"));
    let this = questions.ask(
        "This host, NAME=ADDRESS; its address on a second network after a comma, if there is one",
        ("--this-host", args.this_host.as_deref()),
        default.as_deref(),
        answer::host,
    )?;
    let peer = questions.ask(
        "The other host, in the same way",
        ("--peer", args.peer.as_deref()),
        None,
        |text| answer::peer(text, &this),
    )?;
    let given = (!args.units.is_empty()).then(|| args.units.join(" "));
    let units = questions.ask(
        "Units of the service behind the address, like nginx.service; empty for none",
        ("--unit", given.as_deref()),
        Some(""),
        answer::units,
    )?;
    let vrid = vrid(args, &interface, &this)?;
    let of_network = |vip: &IpAddr| {
        own.iter()
            .find(|(ip, length)| answer::same_network(*ip, *vip, *length))
            .map(|(_, length)| *length)
    };
    let lengths = addresses
        .iter()
        .filter_map(|(vip, length)| Some((*vip, length.or_else(|| of_network(vip))?)))
        .collect();
    let addresses = addresses.into_iter().map(|(vip, _)| vip).collect();
    Ok(Plan { interface, addresses, lengths, this, peer, units, vrid })
}

/// A VRID that nobody uses on the interface, as far as can be heard.
fn vrid(args: &InitArgs, interface: &str, this: &Host) -> Result<u8, Failure> {
    if args.scan == 0 {
        return Ok(args.vrid.unwrap_or(FIRST_VRID));
    }
    say(format_args!("\nListening on {interface} for {} s: which VRIDs are used?", args.scan));
    let heard = match scan::listen(interface, Duration::from_secs(args.scan)) {
        Ok(heard) => heard,
        Err(why) => {
            let vrid = args.vrid.unwrap_or(FIRST_VRID);
            say(format_args!(
                "not known: {why}\nVRID {vrid} is written: make sure that nobody else on the segment uses it"
            ));
            return Ok(vrid);
        }
    };
    for (vrid, senders) in &heard {
        let senders: Vec<String> = senders.iter().map(ToString::to_string).collect();
        say(format_args!("  VRID {vrid}: {}", senders.join(", ")));
    }
    let free = (FIRST_VRID..=u8::MAX).chain(1..FIRST_VRID).find(|vrid| !heard.contains_key(vrid));
    let Some(free) = free else {
        return Err(Failure::new(
            Exit::Refused,
            format!("{interface}: all 255 VRIDs are used: choose another segment"),
        ));
    };
    match args.vrid {
        Some(vrid) if heard.contains_key(&vrid) => Err(Failure::new(
            Exit::Refused,
            format!(
                "VRID {vrid} is used on {interface}: {free} is free (--vrid {free}), seen from {}",
                this.name
            ),
        )),
        Some(vrid) => Ok(vrid),
        None => {
            let what = if heard.is_empty() { "nobody uses one" } else { "the first free one" };
            say(format_args!("VRID {free}: {what}"));
            Ok(free)
        }
    }
}

/// What was answered is a file that vipd takes, or the answers were wrong.
fn judge(text: &str) -> Result<(), Failure> {
    let name = "vipd.toml";
    let findings = match vipd_core::config::load_all_hosts(text, name) {
        Ok((_, warnings)) => {
            for warning in &warnings {
                say(warning.render(text, name));
            }
            return Ok(());
        }
        Err(findings) => findings,
    };
    let rendered: String = findings.iter().map(|finding| finding.render(text, name)).collect();
    Err(Failure::new(Exit::Usage, format!("the answers do not go together:\n{rendered}")))
}

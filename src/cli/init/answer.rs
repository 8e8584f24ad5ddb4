//! Questions, and what their answers mean.

use super::super::{Exit, Failure, say};
use std::io::{BufRead as _, Write as _};
use std::net::IpAddr;

/// A wrong answer may be given again this often.
const TRIES: usize = 3;

/// A host of the pair.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    /// For heartbeats, the one on the service network first.
    pub(super) paths: Vec<IpAddr>,
}

/// Asks on the terminal, or takes what was given on the command line.
pub(super) struct Questions {
    silent: bool,
}

impl Questions {
    /// `silent`: what is not given has its default.
    pub(super) const fn new(silent: bool) -> Self {
        Self { silent }
    }

    /// The answer: what the option gives, else what is typed, else the default.
    ///
    /// # Errors
    /// Usage: a given answer is wrong, or there is none.
    pub(super) fn ask<T>(
        &mut self,
        question: &str,
        (option, given): (&str, Option<&str>),
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        let usage = |why: String| Failure::new(Exit::Usage, format!("{option}: {why}"));
        if let Some(given) = given {
            return read(given).map_err(usage);
        }
        let missing = || usage(format!("needed: {question}"));
        if self.silent {
            return read(default.ok_or_else(missing)?).map_err(usage);
        }
        let shown = default
            .filter(|text| !text.is_empty())
            .map_or_else(String::new, |text| format!(" [{text}]"));
        for _ in 0..TRIES {
            prompt(&format!("{question}{shown}: "))?;
            let mut line = String::new();
            let read_octets = std::io::stdin().lock().read_line(&mut line);
            let ended =
                read_octets.map_err(|e| usage(format!("cannot read the answer: {e}")))? == 0;
            let typed = line.trim();
            let answer = if typed.is_empty() { default } else { Some(typed) };
            match answer.map(&read) {
                Some(Ok(value)) => return Ok(value),
                Some(Err(why)) => {
                    say(format_args!("{why}"));
                }
                None => {}
            }
            if ended {
                break;
            }
        }
        Err(missing())
    }
}

fn prompt(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot ask: {e}")))
}

/// A name that Linux accepts for an interface.
pub(super) fn interface(text: &str) -> Result<String, String> {
    let legal = (1..=15).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic() && !"/:\"\\".contains(c));
    if legal {
        Ok(text.to_owned())
    } else {
        Err(format!("\"{text}\" is no name of an interface: ip link lists them"))
    }
}

/// Addresses with or without prefix length.
pub(super) fn addresses(text: &str) -> Result<Vec<(IpAddr, Option<u8>)>, String> {
    let one = |word: &str| {
        let (addr, length) = match word.split_once('/') {
            Some((addr, length)) => (addr, Some(length)),
            None => (word, None),
        };
        let wrong = || format!("\"{word}\" is no address: write it like 192.0.2.10/24");
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let length = length.map(|length| length.parse::<u8>().map_err(|_| wrong())).transpose()?;
        Ok((addr, length))
    };
    let found = text
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(one)
        .collect::<Result<Vec<_>, String>>()?;
    if found.is_empty() {
        Err("an address is needed, like 192.0.2.10/24".into())
    } else {
        Ok(found)
    }
}

/// `lb1=192.0.2.11,10.9.0.11`.
pub(super) fn host(text: &str) -> Result<Host, String> {
    let wrong = || {
        format!("\"{text}\" is no host: write it like lb1=192.0.2.11 or lb1=192.0.2.11,10.9.0.11")
    };
    let (name, paths) = text.split_once('=').ok_or_else(wrong)?;
    let name = name.trim();
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_name = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(legal);
    let paths =
        paths.split(',').map(|path| path.trim().parse()).collect::<Result<Vec<IpAddr>, _>>();
    match paths {
        Ok(paths) if is_name => Ok(Host { name: name.to_owned(), paths }),
        _ => Err(wrong()),
    }
}

/// The other host: with as many addresses as this one.
pub(super) fn peer(text: &str, this: &Host) -> Result<Host, String> {
    let peer = host(text)?;
    if peer.name == this.name {
        return Err(format!("{} is this host: the other one has another name", peer.name));
    }
    if peer.paths.len() != this.paths.len() {
        return Err(format!(
            "{} has {} addresses and {} has {}: give both one for each network",
            this.name,
            this.paths.len(),
            peer.name,
            peer.paths.len()
        ));
    }
    Ok(peer)
}

/// Names of units; the ending may be left out.
pub(super) fn units(text: &str) -> Result<Vec<String>, String> {
    let one = |word: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_@:.".contains(&b);
        if word.len() > 200 || !word.bytes().all(legal) || word.starts_with('.') {
            return Err(format!("\"{word}\" is no name of a unit: write it like nginx.service"));
        }
        Ok(if word.contains('.') { word.to_owned() } else { format!("{word}.service") })
    };
    let mut units = text
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(one)
        .collect::<Result<Vec<_>, _>>()?;
    units.dedup();
    Ok(units)
}

/// Are two addresses in one network of this prefix length?
pub(super) fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    let net = |ip| ipnet::IpNet::new(ip, length).map(|net| net.trunc());
    matches!((net(a), net(b)), (Ok(a), Ok(b)) if a == b)
}

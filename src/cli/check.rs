//! `vipd check`: is the file valid, and what does it mean for each host?

use super::{Exit, Failure, Place, say};
use crate::runtime::keys;
use crate::runtime::load::{self, LoadError};
use clap::Args;
use std::path::PathBuf;
use vipd_core::config::model::Model;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// File to check instead of the one of --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(place: &Place, args: &CheckArgs) -> Result<Exit, Failure> {
    let file = args.file.as_ref().unwrap_or(&place.config);
    let failed = |error: LoadError| Failure::new(Exit::Config, error);
    // Without --host the file may be checked anywhere, also where no host of it runs.
    let (models, warnings) = match &place.host {
        Some(host) => {
            let loaded = load::for_host(file, host).map_err(failed)?;
            (vec![loaded.meaning], loaded.warnings)
        }
        None => {
            let loaded = load::for_all(file).map_err(failed)?;
            (loaded.meaning, loaded.warnings)
        }
    };
    for warning in &warnings {
        say(warning);
    }
    // What only the machine knows, where it is the machine of that host.
    let here = place.host().ok();
    for model in
        models.iter().filter(|model| here.as_deref() == Some(model.host_name(model.host).as_ref()))
    {
        if let Err(error) = keys::secrets(model) {
            say(format_args!("warning: on this host `vipd run` will refuse to start: {error}\n"));
        }
    }
    say(format_args!("{}: valid", file.display()));
    for model in &models {
        say(summary(model).trim_end());
    }
    Ok(Exit::Done)
}

fn summary(model: &Model) -> String {
    let mut text = format!("\n{}:\n", model.host_name(model.host));
    if model.instances.is_empty() {
        text.push_str("  takes part in no instance\n");
    }
    for instance in &model.instances {
        let link =
            model.links.get(usize::from(instance.link.0)).map_or("?", |link| link.name.as_ref());
        let addresses: Vec<String> = instance.claimed().map(ToString::to_string).collect();
        text.push_str(&format!(
            "  {}: VRID {} on {link}, priority {}, every {}: {}\n",
            instance.name,
            instance.vrid,
            instance.priority,
            instance.interval,
            addresses.join(" "),
        ));
    }
    text
}

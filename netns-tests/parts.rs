//! A suite as several processes, four of them at once where that is fair: most trials wait nearly all of the time.
//!
//! The mains of the suites call it first. A run that was asked for some trials, or for a list, stays one process. Rooms of
//! two processes share nothing but processors: each has processes, mounts and a network of its own. Trials that count
//! lost probes, or that load the machine, must stay in [`Part::Alone`].

use libtest_mimic::{Arguments, Trial};
use std::io::Write as _;
use std::process::{Child, Command, ExitCode, Output, Stdio};

/// Says which part a process plays.
const PART: &str = "VIPD_TEST_PART";
/// So many rooms of patient trials at once. With their clients, who probe each millisecond, they leave most of two cores
/// idle: those of interop took 50 s of processor time in 230 s.
const LANES: usize = 4;

/// What one process plays.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// Trials that nothing else may run beside.
    Alone,
    /// A share of the patient ones, by its number below [`LANES`].
    Lane(usize),
}

impl Part {
    /// The part that this process was started for, if it was.
    pub(crate) fn ours() -> Option<Self> {
        let word = std::env::var(PART).ok()?;
        std::iter::once(Self::Alone).chain(Self::lanes()).find(|part| part.name() == word)
    }

    fn lanes() -> impl Iterator<Item = Self> {
        (0..LANES).map(Self::Lane)
    }

    fn name(self) -> String {
        match self {
            Self::Alone => "alone".to_owned(),
            Self::Lane(n) => format!("lane {n}"),
        }
    }

    /// Its trials. Neighbours are in different lanes, and each round of dealing begins one lane further: suites list
    /// variants of one mode in a row, the longest at the same place.
    pub(crate) fn choose(self, alone: Vec<Trial>, patient: Vec<Trial>) -> Vec<Trial> {
        match self {
            Self::Alone => alone,
            Self::Lane(ours) => {
                let all = patient.into_iter().enumerate();
                let dealt = all.filter(|(n, _)| (n + n / LANES) % LANES == ours);
                dealt.map(|(_, trial)| trial).collect()
            }
        }
    }

    /// This program again, with the same arguments.
    fn start(self, output: fn() -> Stdio) -> std::io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).env(PART, self.name());
        command.stdout(output()).stderr(output()).spawn()
    }
}

/// Is everything asked for?
pub(crate) const fn is_whole(arguments: &Arguments) -> bool {
    arguments.filter.is_none() && !arguments.list
}

/// Plays the trials that stand alone, then the lanes beside each other. What a second lane says stands behind what the
/// first one says.
pub(crate) fn play() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for stage in [vec![Part::Alone], Part::lanes().collect()] {
        match beside(&stage) {
            Ok(true) => {}
            Ok(false) => code = ExitCode::FAILURE,
            Err(e) => {
                eprintln!("the tests cannot start themselves: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    code
}

/// Did all of them succeed?
fn beside(stage: &[Part]) -> std::io::Result<bool> {
    let Some((first, others)) = stage.split_first() else { return Ok(true) };
    let mut readers = Vec::new();
    for part in others {
        let child = part.start(Stdio::piped)?;
        // Its pipes are read while the first one plays.
        readers.push(std::thread::spawn(move || child.wait_with_output()));
    }
    let mut all = first.start(Stdio::inherit)?.wait()?.success();
    for reader in readers {
        let ended = reader.join().map_err(|_| std::io::Error::other("its reader panicked"))?;
        let Output { status, stdout, stderr } = ended?;
        std::io::stdout().write_all(&stdout)?;
        std::io::stderr().write_all(&stderr)?;
        all &= status.success();
    }
    Ok(all)
}

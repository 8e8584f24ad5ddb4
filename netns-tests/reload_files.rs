//! Configuration files for reloads: valid ones at random, and mistakes of every kind with the line that must be named.

/// Numbers from a seed (xorshift).
pub(crate) struct Draw {
    state: u64,
    said: Vec<String>,
}

impl Draw {
    pub(crate) fn of(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, said: Vec::new() }
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % n
    }

    fn chance(&mut self, percent: u64, what: &str) -> bool {
        let yes = self.below(100) < percent;
        if yes {
            self.said.push(what.to_owned());
        }
        yes
    }

    /// What the last edit was made of.
    pub(crate) fn said(&self) -> String {
        self.said.join(", ")
    }

    /// A valid file, in which `web` is changed only in ways that nobody may notice.
    pub(crate) fn edit(&mut self, base: &str) -> String {
        self.said.clear();
        let mut text = base.to_owned();
        let mut web = String::new();
        if self.chance(50, "hold-down") {
            let secs = self.below(30);
            text = text.replace("hold-down = \"0s\"", &format!("hold-down = \"{secs}s\""));
        }
        if self.chance(30, "priority") {
            let (high, low) = (101 + self.below(150), 1 + self.below(100));
            text = text.replacen(
                "priority = { h1 = 150, h2 = 100 }",
                &format!("priority = {{ h1 = {high}, h2 = {low} }}"),
                1,
            );
        }
        if self.chance(30, "interval") {
            let ms = [100, 200, 500, 1000][self.below(4) as usize];
            text = text.replacen(
                "advert-interval = \"200ms\"",
                &format!("advert-interval = \"{ms}ms\""),
                1,
            );
        }
        if self.chance(40, "addresses") {
            let more: Vec<String> =
                (0..1 + self.below(4)).map(|n| format!(", \"192.0.2.{}/24\"", 130 + n)).collect();
            text = text.replacen(
                "\"192.0.2.100/24\"",
                &format!("\"192.0.2.100/24\"{}", more.concat()),
                1,
            );
        }
        if self.chance(30, "unadvertised") {
            web += "unadvertised = [\"192.0.2.140-143/24\"]\n";
        }
        if self.chance(30, "stickiness") {
            web += &format!("stickiness = {}\n", self.below(30));
        }
        if self.chance(20, "targets") {
            web += "targets = [\"192.0.2.2\"]\n";
        }
        if self.chance(20, "route") {
            web += &format!(
                "route = [{{ to = \"198.51.100.0/24\", via = \"192.0.2.{}\", table = 77 }}]\n",
                2 + self.below(2)
            );
        }
        if self.chance(20, "rule") {
            web += &format!(
                "rule = [{{ from = \"192.0.2.100/32\", table = 77, preference = {} }}]\n",
                1000 + self.below(3)
            );
        }
        let mut sections = String::new();
        if self.chance(40, "check") {
            let severity = ["info", "degrade", "fail"][self.below(3) as usize];
            let every = 200 + 100 * self.below(10);
            web += "checks = [\"switch\"]\n";
            sections += &format!(
                "[check.switch]\nabsent = \"/nonexistent/switch\"\ninterval = \"{every}ms\"\nseverity = \"{severity}\"\n"
            );
            if severity == "degrade" {
                sections += "weight = 20\n";
            }
        }
        if self.chance(60, "dns") {
            let vrid = 60 + self.below(3);
            let first = 110 + self.below(3);
            sections += &format!(
                "[instance.dns]\nvrid = {vrid}\ninterface = \"eth0\"\naddresses = [\"192.0.2.{first}/24\"]\n\
                 priority = {{ h1 = {}, h2 = {} }}\nadvert-interval = \"{}ms\"\npreempt-delay = \"0s\"\n",
                1 + self.below(200),
                1 + self.below(200),
                100 * (1 + self.below(5)),
            );
            if self.chance(30, "dns by route") {
                sections += "claim = \"route\"\n";
            }
        }
        if self.chance(30, "abc") {
            // Sorts before the others: their numbers change.
            sections += &format!(
                "[instance.abc]\nvrid = 70\ninterface = \"eth0\"\naddresses = [\"192.0.2.{}/24\"]\n\
                 priority = {{ h1 = 90, h2 = 120 }}\nadvert-interval = \"300ms\"\nhold-down = \"{}s\"\n",
                115 + self.below(2),
                self.below(20),
            );
        }
        if self.chance(30, "hook") {
            sections += &format!(
                "[hook.note]\non = [\"active\", \"backup\", \"stop\"]\nrun = [\"/bin/true\", \"{}\"]\n",
                self.below(3)
            );
        }
        if self.chance(30, "telemetry") {
            sections += &format!("[telemetry]\nlisten = \"127.0.0.1:{}\"\n", 9650 + self.below(2));
        }
        if self.chance(20, "another host") {
            sections += "[hosts.a9]\npaths = [\"192.0.2.99\", \"10.9.0.99\"]\n";
        }
        // Into the section of `web`, which comes last in the file.
        format!("{}\n{web}{sections}", text.trim_end())
    }
}

/// A mistake.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Mistake {
    /// Instead of this text, which is there once, that; the mistake is in its line, so many further down.
    Instead(&'static str, &'static str, usize),
    /// At the end of the file, as so many lines; the mistake is in the one with this number.
    Append(&'static str, usize),
    /// At the end of the file; it does not go with the line that has this text, which is there once.
    Beside(&'static str, &'static str),
}

impl Mistake {
    /// The file with the mistake, and its line.
    pub(crate) fn apply(self, base: &str) -> (String, usize) {
        match self {
            Self::Beside(more, with) => {
                let line = 1 + base.lines().position(|line| line.contains(with)).unwrap();
                (format!("{}\n{more}\n", base.trim_end()), line)
            }
            Self::Instead(old, new, down) => {
                let at = base.find(old).unwrap_or_else(|| panic!("no {old} in {base}"));
                let line =
                    base[..at].lines().count().max(1) + usize::from(base[..at].ends_with('\n'));
                (base.replacen(old, new, 1), line + down)
            }
            Self::Append(more, line) => {
                let text = format!("{}\n", base.trim_end());
                (format!("{text}{more}\n"), text.lines().count() + line)
            }
        }
    }
}

use Mistake::{Append, Beside, Instead};

/// Fifty and more.
pub(crate) const INVALID: &[Mistake] = &[
    // Not TOML.
    Instead("vrid = 51", "vrid = ", 0),
    Instead("vrid = 51", "vrid 51", 0),
    Instead("interface = \"eth0\"", "interface = \"eth0", 0),
    Instead("[instance.web]", "[instance.web", 0),
    Instead("addresses = [\"192.0.2.100/24\"]", "addresses = [\"192.0.2.100/24\"", 1),
    Instead("vrid = 51", "vrid = 51\nvrid = 52", 1),
    Append("[instance.web]\nvrid = 52", 1),
    Append("\u{0}", 1),
    // Unknown names.
    Instead("vrid = 51", "vrdi = 51", 0),
    Instead("advert-interval", "advert_interval", 0),
    Append("[instances.dns]\nvrid = 60", 1),
    Append("[telemetry]\nlisten-on = \"127.0.0.1:1\"", 2),
    Append("[clusters]\nname = \"x\"", 1),
    // Wrong kinds of values.
    Instead("vrid = 51", "vrid = \"51\"", 0),
    Instead("vrid = 51", "vrid = 51.0", 0),
    Instead("vrid = 51", "vrid = true", 0),
    Instead("interface = \"eth0\"", "interface = 0", 0),
    Instead("addresses = [\"192.0.2.100/24\"]", "addresses = \"192.0.2.100/24\"", 0),
    Instead("hold-down = \"0s\"", "hold-down = 0", 0),
    Append("[check.x]\nfall = \"three\"\ndisk = \"/\"", 2),
    // Out of range.
    Instead("vrid = 51", "vrid = 0", 0),
    Instead("vrid = 51", "vrid = 256", 0),
    Instead("vrid = 51", "vrid = -1", 0),
    Instead("h1 = 150, h2 = 100", "h1 = 150, h2 = 0", 0),
    Instead("h1 = 150, h2 = 100", "h1 = 300, h2 = 100", 0),
    Instead("advert-interval = \"200ms\"", "advert-interval = \"5ms\"", 0),
    Instead("advert-interval = \"200ms\"", "advert-interval = \"41s\"", 0),
    Instead("advert-interval = \"200ms\"", "advert-interval = \"15ms\"", 0),
    Instead("advert-interval = \"200ms\"", "advert-interval = \"fast\"", 0),
    Instead("hold-down = \"0s\"", "hold-down = \"25h\"", 0),
    Instead("hold-down = \"0s\"", "hold-down = \"-1s\"", 0),
    Instead("interface = \"eth0\"", "interface = \"an-interface-name-too-long\"", 0),
    Instead("interface = \"eth0\"", "interface = \"\"", 0),
    // Addresses.
    Instead("192.0.2.100/24", "192.0.2.300/24", 0),
    Instead("192.0.2.100/24", "192.0.2.100/33", 0),
    Instead("192.0.2.100/24", "example.org", 0),
    Instead("[\"192.0.2.100/24\"]", "[]", 0),
    Instead("[\"192.0.2.100/24\"]", "[\"192.0.2.100/24\", \"192.0.2.100/24\"]", 0),
    Instead("192.0.2.100/24", "224.0.0.18/24", 0),
    Instead("192.0.2.100/24", "127.0.0.1/8", 0),
    Beside(
        "[instance.dns]\nvrid = 60\ninterface = \"eth0\"\naddresses = [\"192.0.2.100/24\"]",
        "192.0.2.100/24",
    ),
    // What belongs together and does not.
    Beside(
        "[instance.dns]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"192.0.2.110/24\"]",
        "vrid = 51",
    ),
    Append("[instance.dns]\nvrid = 60\naddresses = [\"192.0.2.110/24\"]", 1),
    Append("[instance.dns]\nvrid = 60\ninterface = \"eth0\"", 1),
    Append("[sync.all]\ninstances = [\"web\", \"nobody\"]", 2),
    Append("[hook.note]\non = [\"activ\"]\nrun = [\"/bin/true\"]", 2),
    Append("[hook.note]\non = [\"active\"]\nrun = [\"true\"]", 3),
    Append("[hook.note]\non = [\"active\"]", 1),
    Append("[check.x]\ntcp = \"127.0.0.1\"", 2),
    Append("[check.x]\ntcp = \"127.0.0.1:80\"\nhttp = \"http://127.0.0.1/\"", 3),
    Append("[telemetry]\nlisten = \"nowhere\"", 2),
    Append("checks = [\"nobody\"]", 1),
    Append("unicast-peers = [\"192.0.2.1\"]\nvirtual-mac = true", 2),
    Append("claim = \"route\"\nvirtual-mac = true", 1),
    Append("version = 4", 1),
    Beside("version = 2", "advert-interval"),
    Append("standby = \"lukewarm\"", 1),
    Append("priority = { h7 = 100 }", 1),
];

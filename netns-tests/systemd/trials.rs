//! The trials, one story each.

use super::host::Host;
use super::kit::Kit;
use super::pair::{BOUND, Pair, wait_until};
use std::time::Duration;
use vipd_agent::lab::clock::{now, sleep_until};

/// Name and trial.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("systemd/install_upgrade_remove_purge", install_upgrade_remove_purge),
    ("systemd/moves_and_drains_lose_nothing", moves_and_drains_lose_nothing),
    ("systemd/stop_and_restart_lose_nothing", stop_and_restart_lose_nothing),
    ("systemd/restarts_at_1s_are_seen_by_nobody", || restarts("1s")),
    ("systemd/restarts_at_100ms_are_seen_by_nobody", || restarts("100ms")),
    ("systemd/an_upgrade_to_another_version_is_seen_by_nobody", upgrade),
    ("systemd/power_cut_and_recovery", power_cut_and_recovery),
    ("systemd/the_watchdog_ends_a_hung_agent", the_watchdog_ends_a_hung_agent),
    ("systemd/shutdown_hands_over_before_the_service_stops", shutdown_hands_over_first),
    ("systemd/state_files_follow_a_move_with_the_rights_of_the_unit", state_files_follow),
];

/// Highest figure of `systemd-analyze security` for the agent.
const EXPOSURE_LIMIT: f64 = 2.5;
/// Longest time in which both hosts of a handover may have the address: 200 ms, and the way there.
const HANDOVER: Duration = Duration::from_millis(300);
/// A hung replicator is killed after 30 s.
const HUNG: Duration = Duration::from_secs(90);

fn wait(d: Duration) {
    sleep_until(now() + d);
}

/// A package brings everything, starts nothing, leaves the configuration alone, and goes without a trace.
fn install_upgrade_remove_purge() {
    let pair = Pair::booted();
    let host = &pair.hosts[0];
    let said = pair.install(0);
    assert!(said.contains("write /etc/vipd/vipd.toml"), "{said}");
    let state = |unit: &str| {
        let out = host.try_run(&format!("systemctl is-enabled {unit}; systemctl is-active {unit}"));
        String::from_utf8_lossy(&out.stdout).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(state("vipd.service"), "disabled inactive", "without a configuration nothing runs");
    host.run("vipd --version && getent passwd vipd && getent group vipd-admin");
    for file in [
        "/usr/share/man/man8/vipd.8.gz",
        "/usr/share/man/man5/vipd.toml.5.gz",
        "/usr/share/bash-completion/completions/vipd",
        "/usr/share/zsh/vendor-completions/_vipd",
        "/usr/share/fish/vendor_completions.d/vipd.fish",
        "/usr/share/vipd/vipd.schema.json",
        "/usr/share/doc/vipd/examples/pair.toml",
    ] {
        assert!(host.path(file).exists(), "{file}");
    }
    host.run("vipd check /usr/share/doc/vipd/examples/pair.toml");
    exposure(host);

    // Another version while the agent runs: nobody but the agent itself may end it.
    pair.install(1);
    pair.configure();
    pair.hosts.iter().for_each(|h| drop(h.run("systemctl enable --now --quiet vipd")));
    pair.wait_calm(0);
    let from = now();
    let written = host.run("sha256sum /etc/vipd/*");
    let process = || host.run("systemctl show --value --property=MainPID vipd");
    let running = process();
    let said = pair.install(0);
    assert!(said.contains("the agent goes on as vipd"), "{said}");
    assert_eq!(process(), running, "not restarted");
    assert_eq!(host.run("sha256sum /etc/vipd/*"), written);
    wait(Duration::from_secs(2));
    assert_eq!((pair.lost(from), pair.moves(from)), (0, 0), "{}", pair.logs());

    // Removing the package of an owner hands the address over.
    let from = now();
    host.run("dpkg --remove vipd");
    pair.wait_owner(1);
    assert_eq!(pair.lost(from), 0, "{}", pair.logs());
    assert!(host.path("/etc/vipd/vipd.toml").exists() && host.path("/var/lib/vipd").exists());
    host.run("dpkg --purge vipd");
    assert!(host.path("/etc/vipd/vipd.toml").exists(), "the operator's");
    assert!(!host.path("/var/lib/vipd").exists() && !host.path("/run/vipd").exists());
    let left = host.run("find / -xdev -name '*vipd*' -not -path '/proc/*' -not -path '/root/*' -not -path '/etc/vipd*' -not -path '/var/log/*'");
    assert_eq!(left, "", "left behind");
    host.run("! systemctl --failed --no-legend | grep .");
}

/// The maintenance window: a move and back, a drain that outlives a boot, and the end of it.
fn moves_and_drains_lose_nothing() {
    let mut pair = Pair::running();
    for (order, owner) in [
        ("move web --wait --reason trial", 1),
        ("failback web --wait", 0),
        ("drain --wait --reason 'new kernel'", 1),
    ] {
        let from = now();
        pair.hosts[0].run(&format!("vipd {order}"));
        pair.wait_owner(owner);
        let overlap = pair.two_owners(from);
        assert_eq!(pair.lost(from), 0, "{order}\n{}", pair.logs());
        assert!(overlap <= HANDOVER, "{order}: on both hosts for {overlap:?}");
    }

    let from = now();
    pair.hosts[0].run("systemctl poweroff --no-block");
    pair.wait_off(0);
    pair.power_on(0);
    let heard = || pair.status(0)["peers"][0]["alive"] == true;
    wait_until(BOUND, heard, || format!("the hosts do not hear each other\n{}", pair.logs()));
    // As long as an undrained host needs to take the address back.
    wait(Duration::from_secs(4));
    pair.wait_owner(1);
    assert_eq!((pair.lost(from), pair.moves(from)), (0, 0), "{}", pair.logs());

    let from = now();
    pair.hosts[0].run("vipd undrain");
    pair.wait_calm(0);
    assert_eq!(pair.lost(from), 0, "undrain\n{}", pair.logs());
}

/// What an operator does on an ordinary day.
fn stop_and_restart_lose_nothing() {
    let pair = Pair::running();
    let from = now();
    pair.hosts[0].run("systemctl stop vipd");
    pair.wait_owner(1);
    let overlap = pair.two_owners(from);
    assert_eq!(pair.lost(from), 0, "stop\n{}", pair.logs());
    assert!(overlap <= HANDOVER, "stop: on both hosts for {overlap:?}");

    let from = now();
    pair.hosts[0].run("systemctl start vipd");
    pair.wait_calm(0);
    assert_eq!(pair.lost(from), 0, "failback\n{}", pair.logs());

    let from = now();
    pair.hosts[0].run("systemctl restart vipd");
    pair.wait_calm(0);
    wait(Duration::from_secs(1));
    assert_eq!(pair.lost(from), 0, "restart\n{}", pair.logs());
    assert_eq!(pair.moves(from), 0, "restart of the owner\n{}", pair.logs());
}

/// Restarts of the owner in a row: with `VIPD_LONG=1` 200 of them.
fn restarts(interval: &str) {
    let pair = Pair::running_at(interval);
    let from = now();
    let before = pair.transitions(1);
    let rounds = if std::env::var_os("VIPD_LONG").is_some_and(|v| v == "1") { 200 } else { 3 };
    let mut lost = 0;
    for round in 1..=rounds {
        let at = now();
        let how = if round % 2 == 1 { "systemctl restart vipd" } else { "vipd reexec --wait" };
        pair.hosts[0].run(how);
        pair.wait_calm(0);
        wait(Duration::from_millis(500));
        lost += pair.lost(at);
        assert_eq!(pair.lost(at), 0, "{round}: {how}\n{}", pair.logs());
        assert_eq!(pair.moves(from), 0, "{round}: {how}\n{}", pair.logs());
        assert_eq!(pair.transitions(1), before, "{round}: {how}\n{}", pair.logs());
    }
    println!("  {rounds} restarts at {interval}: {lost} lost, no transition on the peer");
}

/// Installs another version under the running owner, and the first one again.
fn upgrade() {
    if Kit::other().is_none() {
        println!(
            "SKIPPED: VIPD_OTHER names no other build of vipd (packaging/scripts/another-build)"
        );
        return;
    }
    let pair = Pair::running();
    let version = || pair.status(0)["version"].as_str().unwrap_or_default().to_owned();
    let first = version();
    let from = now();
    let before = pair.transitions(1);
    for (package, other) in [(Kit::other_package(), true), (Kit::package(), false)] {
        let said = pair.install_file(0, &package);
        assert!(said.contains("the agent goes on as vipd"), "{said}");
        pair.wait_calm(0);
        wait(Duration::from_secs(1));
        assert_eq!(version() != first, other, "{} after {first}: {said}", version());
        println!("  {} runs, {} lost", version(), pair.lost(from));
        assert_eq!((pair.lost(from), pair.moves(from)), (0, 0), "{}", pair.logs());
        assert_eq!(pair.transitions(1), before, "{}", pair.logs());
    }
}

/// The plug is pulled; the host comes back as it was and takes the address back.
fn power_cut_and_recovery() {
    let mut pair = Pair::running();
    let from = pair.cut(0);
    let taken = pair.wait_owner(1);
    let gap = pair.outage(from);
    println!(
        "  taken over {:?} after the cut, the client was without for {:?}",
        taken.since(from),
        gap.longest_gap
    );
    assert!(taken.since(from) < Duration::from_secs(18), "ten times 3 adverts and the skew");
    assert_eq!(pair.two_owners(from), Duration::ZERO);
    pair.power_on(0);
    pair.wait_calm(0);
    let from = now();
    wait(Duration::from_secs(1));
    assert_eq!(pair.lost(from), 0);
    pair.hosts[0].run("journalctl --quiet --boot=-1 -u vipd | grep -q active");
}

/// SIGSTOP stands for a deadlock: systemd kills the agent, and one host has the address throughout.
fn the_watchdog_ends_a_hung_agent() {
    let pair = Pair::running();
    let from = now();
    let process = || pair.hosts[0].run("systemctl show --value --property=MainPID vipd");
    let hung = process();
    pair.hosts[0].run(&format!("kill -STOP {hung}"));
    wait_until(
        BOUND,
        || !["0", hung.as_str()].contains(&process().as_str()),
        || format!("the watchdog does not bite\n{}", pair.logs()),
    );
    println!("  a new agent {:?} after the old one hung", now().since(from));
    let log = pair.hosts[0].run("journalctl --quiet --no-pager -u vipd");
    assert!(log.contains("Watchdog timeout"), "{log}");
    pair.wait_calm(0);
    assert_eq!(pair.two_owners(from), Duration::ZERO, "{}", pair.logs());
    println!(
        "  {} moves; the client was without for {:?}",
        pair.moves(from),
        pair.outage(from).longest_gap
    );
    assert_eq!(pair.status(0)["instances"][0]["name"], "web");
}

/// A host that is shut down hands over while the services behind the address still run: one that starts with the host, and
/// one that somebody else starts, which only what `vipd init` wrote puts in order.
fn shutdown_hands_over_first() {
    let mut pair = Pair::running();
    let first = &pair.hosts[0];
    for (name, install) in [("shop", "[Install]\nWantedBy=multi-user.target\n"), ("stall", "")] {
        // What it writes when it is stopped: who has the address then, and whether the agent still runs.
        first.write(
            &format!("/etc/systemd/system/{name}.service"),
            &format!(
                "[Unit]\nDescription=What the address is there for\n\
                 [Service]\nExecStart=/usr/bin/sleep infinity\n\
                 ExecStop=/bin/sh -c 'ip -brief address show dev eth0 >/var/lib/{name}; pgrep -x vipd >>/var/lib/{name}'\n\
                 SuccessExitStatus=SIGTERM\n{install}"
            ),
        );
    }
    first.run(
        "mkdir /root/first && vipd init --yes --scan 0 --interface eth0 --address 192.0.2.100/24 \
         --this-host lb1=192.0.2.11 --peer lb2=192.0.2.12 --unit stall.service --output /root/first/vipd.toml && \
         install -D --mode=644 /root/first/fronts.conf /etc/systemd/system/vipd.service.d/fronts.conf && \
         systemctl daemon-reload && systemctl enable --now --quiet shop && systemctl start stall",
    );
    let from = now();
    first.run("systemctl poweroff --no-block");
    pair.wait_owner(1);
    pair.wait_off(0);
    assert_eq!(pair.lost(from), 0);
    assert!(pair.two_owners(from) <= HANDOVER, "{:?}", pair.two_owners(from));
    for name in ["shop", "stall"] {
        let seen = pair.hosts[0].path(&format!("/var/lib/{name}"));
        let seen = std::fs::read_to_string(seen).unwrap();
        assert!(seen.contains("192.0.2.11/24"), "the host still has its own address: {seen}");
        assert!(
            !seen.contains("192.0.2.100"),
            "{name} was stopped with the address in place: {seen}"
        );
    }
}

/// The replicator of the package, with no more rights than its unit gives: owners, groups and modes of other users are the
/// same on the other host when it owns.
fn state_files_follow() {
    let pair = Pair::installed();
    for host in &pair.hosts {
        let config = host.run("cat /etc/vipd/vipd.toml");
        let set = "[replicate.state]\ninstance = \"web\"\npaths = [\"/srv/state\"]\ndebounce = \"50ms\"\n";
        host.write("/etc/vipd/vipd.toml", &format!("{config}\n{set}"));
        host.run("mkdir /srv/state && systemctl enable --now --quiet vipd");
    }
    let [first, second] = &pair.hosts;
    pair.wait_owner(0);
    first.run(
        "cd /srv/state && install -d -o games -g games -m 2750 private && echo secret > private/key && \
         chown games:mail private/key && chmod 0640 private/key && ln -s private/key link",
    );
    let in_sync = || first.try_run("vipd replica status | grep 'h2: in sync'").status.success();
    wait_until(BOUND, in_sync, || {
        format!("{}\n{}", first.run("vipd replica status 2>&1 || :"), pair.logs())
    });
    pair.wait_calm(0);
    first.run("echo 'the last word' > /srv/state/last");
    let from = now();
    first.run("vipd move web --wait --reason 'state follows'");
    pair.wait_owner(1);
    assert_eq!(second.run("cat /srv/state/last").trim(), "the last word");
    let look = "cd /srv/state && stat --format '%n %U:%G %a' private private/key && cat link";
    assert_eq!(second.run(look), first.run(look));
    assert_eq!(pair.lost(from), 0);
    for host in &pair.hosts {
        let user =
            host.run("ps -o user= -p $(systemctl show --value --property=MainPID vipd-replicate)");
        assert!(user.starts_with("vipd-re"), "{user}");
    }
    // SIGSTOP stands for a deadlock: systemd kills the replicator, and a new one goes on.
    let process = || first.run("systemctl show --value --property=MainPID vipd-replicate");
    let hung = process();
    first.run(&format!("kill -STOP {hung}"));
    wait_until(
        HUNG,
        || !["0", hung.as_str()].contains(&process().as_str()),
        || format!("the watchdog does not bite\n{}", pair.logs()),
    );
    let log = first.run("journalctl --quiet --no-pager -u vipd-replicate");
    assert!(log.contains("Watchdog timeout"), "{log}");
    second.run("echo 'after that' > /srv/state/last");
    wait_until(BOUND, || first.run("cat /srv/state/last").trim() == "after that", || pair.logs());
}

/// What an intruder in the agent would have, as systemd rates it: 0 is nothing, 10 is everything.
fn exposure(host: &Host) {
    for unit in
        ["vipd.service", "vipd-cleanup.service", "vipd-exec.service", "vipd-replicate.service"]
    {
        let said = host.run(&format!("systemd-analyze security --no-pager {unit} | tail -n 1"));
        println!("  {said}");
        let figure = said.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap();
        assert!(unit != "vipd.service" || figure <= EXPOSURE_LIMIT, "{unit}: {figure}");
    }
}

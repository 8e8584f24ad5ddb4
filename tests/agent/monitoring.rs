//! What a running agent tells monitoring: pages over HTTP, what rules and dashboard ask for, and clients that mean ill.

use super::{Agent, Host, VIP, code, holds, stderr, wait};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const ENDPOINT: &str = "127.0.0.1:9650";
/// Labels that look like metrics.
const LABELS: [&str; 2] = ["vipd_cluster", "vipd_instance"];

/// An owner with heartbeats, flap control (without a word), a check and the endpoint: whatever can be told is told.
fn observed(name: &str) -> (Host, Agent) {
    let host = Host::with_link(name);
    let key = host.dir.join("cluster.key");
    fs::write(&key, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[cluster]\nname = \"shop\"\nkey-file = \"{}\"\n[hosts.lb1]\npaths = [\"192.0.2.1\"]\n[hosts.lb2]\n\
         paths = [\"192.0.2.2\"]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\naddresses = [\"{VIP}/24\"]\n\
         priority = {{ lb1 = 150, lb2 = 100 }}\nsettle = \"0s\"\nadvert-interval = \"300ms\"\n\
         checks = [\"endpoint\"]\n[check.endpoint]\ntcp = \"{ENDPOINT}\"\n\
         severity = \"info\"\ninterval = \"200ms\"\ntimeout = \"200ms\"\n[telemetry]\nlisten = \"{ENDPOINT}\"\n",
        key.display()
    );
    fs::write(host.dir.join("vipd.toml"), text).unwrap();
    let agent = host.start();
    wait("owns", Duration::from_secs(10), || {
        host.states().is_some_and(|states| states == ["active"]) && holds(VIP)
    });
    wait("serves", Duration::from_secs(5), || TcpStream::connect(ENDPOINT).is_ok());
    (host, agent)
}

/// The answer to a request: status and body.
fn get(path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(ENDPOINT).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {ENDPOINT}\r\n\r\n").unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or(0), body.to_owned())
}

fn metrics() -> String {
    let (status, text) = get("/metrics");
    assert_eq!(status, 200);
    text
}

/// The one value of the series whose name and labels begin with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find(|l| l.starts_with(series))?.rsplit_once(' ')?.1.parse().ok()
}

fn order(host: &Host, words: &[&str]) {
    let output = host.vipd(words[0]).args(&words[1..]).output().unwrap();
    assert_eq!(code(&output), 0, "{words:?}: {}", stderr(&output));
}

pub(super) fn pages() {
    let (host, agent) = observed("pages");
    wait("the check has run", Duration::from_secs(5), || {
        value(&metrics(), "vipd_check_runs_total").is_some_and(|runs| runs >= 1.0)
    });
    assert_eq!(get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get("/readyz"), (200, "ready\n".to_owned()));
    let text = metrics();
    let router = "vipd_cluster=\"shop\",vipd_instance=\"web\",vrid=\"51\",interface=\"eth0\",family=\"ipv4\"";
    for (series, expected) in [
        ("vipd_up{", 1.0),
        (&*format!("vipd_is_active{{{router}}}"), 1.0),
        (&*format!("vipd_state{{{router}}}"), 2.0),
        (&*format!("vipd_vip_present{{{router}}}"), 1.0),
        (&*format!("vipd_redundant{{{router}}}"), 0.0),
        (&*format!("vipd_priority_effective{{{router}}}"), 150.0),
        (&*format!("vipd_transitions_total{{{router},to=\"active\""), 1.0),
        ("vipd_advert_interval_seconds{", 0.3),
        ("vipd_peer_up{vipd_cluster=\"shop\",peer=\"lb2\"}", 0.0),
        ("vipd_check_status{vipd_cluster=\"shop\",check=\"endpoint\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    // Counters grow by what happened.
    std::thread::sleep(Duration::from_millis(700));
    let later = metrics();
    for series in ["vipd_adverts_sent_total{", "vipd_loop_lateness_seconds_count", "process_cpu_"] {
        assert!(value(&later, series) > value(&text, series), "{series}\n{text}\n{later}");
    }
    assert!(value(&text, "vipd_garp_sent_total{").unwrap() >= 1.0);
    // Alerts take a change of it for a restart.
    let started = |text| value(text, "process_start_time_seconds{").unwrap();
    assert_eq!(started(&text), started(&later));

    order(&host, &["drain", "--allow-outage"]);
    wait("released", Duration::from_secs(5), || !holds(VIP));
    let (status, why) = get("/readyz");
    assert_eq!((status, &*why), (503, "web: drained\n"));
    let text = metrics();
    assert_eq!(value(&text, &format!("vipd_state{{{router}}}")), Some(4.0), "{text}");
    assert_eq!(value(&text, &format!("vipd_is_active{{{router}}}")), Some(0.0), "{text}");
    assert_eq!(agent.stop(), 0);
    assert!(TcpStream::connect(ENDPOINT).is_err());
}

/// Every name in rules, dashboard and manual is served, and everything that is served stands in the manual.
pub(super) fn names() {
    let (host, agent) = observed("names");
    order(&host, &["freeze"]);
    // Of a stranger: one that knows neither the group nor the key.
    let stranger = UdpSocket::bind("192.0.2.1:0").unwrap();
    wait("all is told", Duration::from_secs(5), || {
        stranger.send_to(&[0x55; 80], "192.0.2.1:7112").unwrap();
        let text = metrics();
        ["vipd_heartbeats_refused_total{", "vipd_check_duration_seconds{", "vipd_alarm{"]
            .iter()
            .all(|series| value(&text, series).is_some())
    });
    let text = metrics();
    let served: BTreeSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let base = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let read = |file: &str| fs::read_to_string(format!("{base}{file}")).unwrap();
    let mut used = BTreeSet::new();
    for file in ["packaging/prometheus/vipd.rules.yml", "packaging/grafana/vipd.json"] {
        let names = names_in(&read(file));
        assert!(names.len() > 15, "{file}: {names:?}");
        for name in names.iter().filter(|name| !is_of_state(name)) {
            assert!(
                served.contains(&**name),
                "{file} asks for {name}, which nobody serves:\n{text}"
            );
        }
        used.extend(names);
    }
    let test = names_in(&read("packaging/prometheus/vipd.rules.test.yml"));
    assert!(test.is_subset(&used), "{:?}", test.difference(&used));

    let manual = read("docs/monitoring.md");
    let documented: BTreeSet<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split(['{', '`']).next())
        .filter(|name| name.starts_with("vipd_") || name.starts_with("process_"))
        .filter(|name| !is_of_state(name))
        .collect();
    // A histogram stands there by the name of its family.
    let families: BTreeSet<&str> = served
        .iter()
        .map(|name| {
            let parts = ["_bucket", "_sum", "_count"];
            parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name)
        })
        .collect();
    let unknown: Vec<_> = families.symmetric_difference(&documented).collect();
    // Nobody has been heard here.
    assert_eq!(unknown, [&"vipd_peer_last_heard_seconds"], "served or documented, not both");
    drop(agent);
}

/// Served where sets or hooks are configured, which this agent has none of: `telemetry::metrics::tests` reads these.
fn is_of_state(name: &str) -> bool {
    ["vipd_replica_", "vipd_divergent_", "vipd_hook_"].iter().any(|of| name.starts_with(of))
}

/// Names of metrics in a text.
fn names_in(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("vipd_") || word.starts_with("process_"))
        .filter(|word| !LABELS.contains(word))
        .map(str::to_owned)
        .collect()
}

/// Clients that say nothing, half of something or nonsense, more of them than there are seats.
pub(super) fn hostile() {
    let (host, agent) = observed("http");
    let before = value(&metrics(), "vipd_adverts_sent_total{").unwrap();
    let mut clients = Vec::new();
    for n in 0..300 {
        let mut client = TcpStream::connect(ENDPOINT).unwrap();
        client.set_nonblocking(true).unwrap();
        let said: &[u8] = match n % 4 {
            0 => b"",
            1 => b"GET /metrics HTTP/1.1\r\nHost: ",
            2 => &[0xff; 4096],
            _ => b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        };
        // Cut off already: that is the point.
        let _ = client.write_all(said);
        clients.push(client);
    }
    for _ in 0..20 {
        assert!(holds(VIP), "{}", host.log());
        assert_eq!(host.states().unwrap(), ["active"]);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(clients);
    wait("answers again", Duration::from_secs(12), || get("/healthz").0 == 200);
    let text = metrics();
    let sent = value(&text, "vipd_adverts_sent_total{").unwrap() - before;
    assert!(sent >= 3.0, "{sent}");
    assert_eq!(value(&text, "vipd_transitions_total{"), Some(1.0), "{text}");
    assert!(value(&text, "process_open_fds").unwrap() < 100.0, "{text}");
    drop(agent);
}

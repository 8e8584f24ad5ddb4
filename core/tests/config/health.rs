//! Checks, hooks, standby and flap control: what comes out of the file is what was meant.

use std::time::Duration;
use vipd_core::config::load_all_hosts;
use vipd_core::config::model::{
    Account, Call, DnsRecord, HookRun, Model, Moment, Probe, Process, Resource, Severity, Standby,
    StandbyKind,
};
use vipd_core::types::{CheckIx, InstanceIx};

const FULL: &str = include_str!("full.toml");

fn models(text: &str) -> Vec<Model> {
    let (models, warnings) = load_all_hosts(text, "x").unwrap();
    assert_eq!(warnings, []);
    models
}

/// One instance on two hosts with a check for each line of `checks`, `name: body`.
fn checked(checks: &str) -> Model {
    let sections: Vec<(&str, &str)> =
        checks.lines().filter_map(|l| l.trim().split_once(": ")).collect();
    let names: Vec<String> = sections.iter().map(|(name, _)| format!("'{name}'")).collect();
    let mut text = format!(
        "hosts = {{ a = {{}}, b = {{}} }}\n[instance.web]\nvrid = 1\ninterface = 'eth0'\n\
         addresses = ['192.0.2.10/24']\npriority = {{ a = 101, b = 100 }}\nchecks = [{}]\n",
        names.join(", ")
    );
    for (name, body) in sections {
        text += &format!("[check.{name}]\n{}\n", body.replace("; ", "\n"));
    }
    models(&text).remove(0)
}

#[test]
fn defaults_of_a_check() {
    let model = checked("c: tcp = '127.0.0.1:80'");
    let check = model.check(CheckIx(0));
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((check.fall, check.rise, check.weight), (3, 2, 20));
    let fast = checked("c: tcp = '127.0.0.1:80'; interval = '200ms'");
    assert_eq!(
        fast.checks[0].timeout,
        Duration::from_millis(200),
        "never longer than the interval"
    );
}

#[test]
fn severities_and_weights_by_kind() {
    let model = checked(
        "a: absent = '/d'
         b: file = '/f'
         c: pressure = 'cpu'
         d: pressure = 'memory'
         e: pressure = 'io'
         f: disk = '/'
         g: gateway = '192.0.2.1'
         h: unit = 'a.service'",
    );
    let severities: Vec<Severity> = model.checks.iter().map(|c| c.severity).collect();
    use Severity::{Degrade, Drain, Fail};
    assert_eq!(severities, [Drain, Degrade, Degrade, Fail, Degrade, Fail, Fail, Fail]);
    assert_eq!(model.checks[6].weight, 50);
    let thresholds: Vec<(Resource, f32, f32)> = model
        .checks
        .iter()
        .filter_map(|c| match c.probe {
            Probe::Pressure { resource, warn, fail } => Some((resource, warn, fail)),
            _ => None,
        })
        .collect();
    assert_eq!(
        thresholds,
        [(Resource::Cpu, 60.0, 100.0), (Resource::Memory, 20.0, 60.0), (Resource::Io, 40.0, 100.0)]
    );
    let Probe::Disk { warn, fail, write, .. } = model.checks[5].probe else { panic!("a disk") };
    assert_eq!((warn, fail, write), (5.0, 1.0, false));
}

#[test]
fn urls_and_servers() {
    let model = checked(
        "a: http = 'https://shop.example?x=1'
         b: http = 'http://[::1]:8080/z'; host = 'shop.example'; status = [204, '300-302']; method = 'HEAD'
         c: dns = '2001:db8::53'; name = '.'; record = 'NS'
         d: tcp = '[::1]:443'",
    );
    let Probe::Http(https) = &model.checks[0].probe else { panic!("http") };
    assert_eq!((&*https.host, https.port, https.tls), ("shop.example", 443, true));
    assert_eq!(
        (&*https.path, &*https.host_header, &*https.server_name),
        ("/?x=1", "shop.example", "shop.example")
    );
    assert_eq!((&https.status[..], https.verify, &*https.method), (&[(200, 399)][..], true, "GET"));
    assert_eq!(https.expiry, Duration::from_secs(14 * 86_400));
    let Probe::Http(http) = &model.checks[1].probe else { panic!("http") };
    assert_eq!((&*http.host, http.port, &*http.host_header), ("::1", 8080, "shop.example"));
    assert_eq!((&http.status[..], &*http.method), (&[(204, 204), (300, 302)][..], "HEAD"));
    let Probe::Dns { server, name, record } = &model.checks[2].probe else { panic!("dns") };
    assert_eq!(
        (server.to_string().as_str(), &**name, *record),
        ("[2001:db8::53]:53", ".", DnsRecord::Ns)
    );
}

#[test]
fn the_full_file_on_each_host() {
    let all = models(FULL);
    let [first, second] = &all[..] else { panic!("two hosts") };
    let lan = |model: &Model| model.instances.iter().find(|i| &*i.name == "lan").unwrap().clone();
    assert_eq!(first.checks.len(), 18);
    assert!(first.checks.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(lan(first).checks.len(), 18);
    let by_name = |name: &str| &first.checks.iter().find(|c| &*c.name == name).unwrap().probe;
    let Probe::Gateway { link, .. } = by_name("gateway") else { panic!("a gateway") };
    assert_eq!(&*first.links[usize::from(link.0)].name, "eth0");
    let Probe::Instance { instance, active } = by_name("wan") else { panic!("an instance") };
    assert_eq!((&*first.instance(*instance).name, *active), ("wan", false));
    assert_eq!(*by_name("pid-file"), Probe::Process(Process::PidFile("/run/nginx.pid".into())));
    let Probe::Script(script) = by_name("script") else { panic!("a script") };
    assert_eq!(script.account, Account::User("nagios".into()));
    assert_eq!((script.argv.len(), script.timeout), (3, Duration::from_secs(1)));

    assert_eq!(lan(first).standby, Standby::Hot);
    let Standby::Warm(activation) = lan(second).standby else { panic!("warm") };
    assert_eq!(&*second.check(activation.ready.unwrap()).name, "tcp");
    assert_eq!(activation.program.timeout, Duration::from_secs(20));
    assert_eq!(lan(first).standbys, [Some(StandbyKind::Hot), Some(StandbyKind::Warm)]);
    assert_eq!(lan(first).standbys, lan(second).standbys);

    let flap = lan(first).flap;
    assert_eq!(flap.damping.map(|d| (d.suppress, d.reuse, d.ceiling)), Some((3000, 900, 12_000)));
    assert_eq!(flap.budget.unwrap().quiet, Duration::from_secs(1800));
    assert_eq!((flap.stickiness, flap.priority_hold), (5, Duration::from_secs(5)));
    let wan = first.instances.iter().find(|i| &*i.name == "wan").unwrap();
    assert!(wan.flap.damping.is_none() && wan.flap.budget.is_none());

    let [lines, notify, push] = &first.hooks[..] else { panic!("three hooks") };
    assert_eq!(lines.run, HookRun::Fifo("/run/app/notify.fifo".into()));
    assert!(lines.instances.is_empty(), "all instances");
    assert_eq!(notify.on, [Moment::Active, Moment::Backup, Moment::Fault, Moment::Stop]);
    assert_eq!(notify.instances, [InstanceIx(0), InstanceIx(2)]);
    let HookRun::Program(program, call) = &notify.run else { panic!("a program") };
    assert_eq!((*call, program.timeout), (Call::Keepalived, Duration::from_secs(10)));
    assert_eq!(program.env, [("SITE".into(), "north".into())]);
    assert_eq!(
        (push.interval, push.debounce),
        (Some(Duration::from_secs(30)), Duration::from_secs(1))
    );
    assert_eq!(push.watch, [std::path::PathBuf::from("/var/lib/app")]);
    let times = [Moment::SyncInterval, Moment::SyncChange, Moment::SyncBarrier, Moment::PreDemote];
    assert_eq!(times.map(|m| push.time(m).as_secs()), [60, 60, 20, 10], "by moment");
    let HookRun::Program(program, Call::Vipd) = &push.run else { panic!("a program") };
    assert_eq!(program.timeout, Duration::from_secs(60), "the longest of its moments");
    assert_eq!(first.time_at(InstanceIx(1), Moment::SyncBarrier), Some(Duration::from_secs(20)));
    assert_eq!(first.time_at(InstanceIx(1), Moment::PrePromote), None);
}

#[test]
fn an_address_is_kept_from_bouncing_by_default() {
    let model = checked("c: link = 'eth1'");
    let flap = &model.instances[0].flap;
    let damping = flap.damping.unwrap();
    assert_eq!((damping.suppress, damping.reuse, damping.ceiling), (2500, 1000, 10_000));
    assert_eq!(damping.half_life, Duration::from_secs(600));
    assert_eq!(damping.max_suppress, Duration::from_secs(3600));
    let budget = flap.budget.as_ref().unwrap();
    assert_eq!(budget.limits, [(3, Duration::from_secs(600)), (6, Duration::from_secs(3600))]);
    assert_eq!(budget.quiet, Duration::from_secs(3600));
    assert_eq!((flap.stickiness, flap.priority_hold), (10, Duration::from_secs(10)));
}

#[test]
fn a_host_has_the_checks_and_hooks_that_concern_it() {
    let text = "
        hosts = { a = {}, b = {}, c = {} }
        [instance.x]
        vrid = 1
        interface = 'eth0'
        addresses = ['192.0.2.10/24']
        priority = { a = 101, b = 100 }
        checks = { a = ['one', 'two'], b = ['two'] }
        [instance.y]
        vrid = 2
        interface = 'eth1'
        addresses = ['198.51.100.10/24']
        priority = { b = 101, c = 100 }
        checks = ['gate']
        [check.one]
        tcp = { a = '127.0.0.1:80' }
        [check.two]
        unit = 'two.service'
        [check.gate]
        gateway = '198.51.100.1'
        [hook.x]
        on = ['active']
        run = ['/x']
        instances = ['x']
        ";
    let models = models(text);
    let names = |m: &Model| m.checks.iter().map(|c| c.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&models[0]), ["one", "two"]);
    assert_eq!(names(&models[1]), ["gate", "two"]);
    assert_eq!(names(&models[2]), ["gate"]);
    let hooks: Vec<usize> = models.iter().map(|m| m.hooks.len()).collect();
    assert_eq!(hooks, [1, 1, 0]);
    assert_eq!(models[1].instances[1].checks, [CheckIx(0)]);
    let Probe::Gateway { link, .. } = models[1].checks[0].probe else { panic!("a gateway") };
    assert_eq!(&*models[1].links[usize::from(link.0)].name, "eth1", "where its user is");
}

#[test]
fn hash_is_of_checks_hooks_and_flap_control_too() {
    let hash = |text: &str| load_all_hosts(text, "x").unwrap().0[0].hash;
    let original = hash(FULL);
    for (from, to) in [
        ("min-speed = 1000", "min-speed = 100"),
        ("warn = 25.0", "warn = 26.0"),
        ("weight = 60", "weight = 61"),
        ("fifo = \"/run/app", "fifo = \"/run/apq"),
        ("stickiness = 5", "stickiness = 6"),
        ("suppress = 3000", "suppress = 3001"),
        ("lb2 = \"warm\"", "lb2 = \"cold\""),
        ("timeout = \"20s\"", "timeout = \"21s\""),
        ("50MB/s", "51MB/s"),
        ("promote-gate = \"require\"", "promote-gate = \"ignore\""),
        ("replicate-port = 7114", "replicate-port = 7115"),
    ] {
        assert!(FULL.contains(from), "{from}");
        assert_ne!(hash(&FULL.replace(from, to)), original, "{from} -> {to}");
    }
}

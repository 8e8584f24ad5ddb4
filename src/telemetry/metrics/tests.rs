#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
use super::*;
use vipd_core::config::load_all_hosts;
use vipd_core::histogram::LATENESS;
use vipd_core::time::Duration;

#[test]
fn the_format_is_what_the_scraper_takes() {
    // Prometheus 2.42.
    let prometheus = "application/openmetrics-text;version=1.0.0,\
                      application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    assert_eq!(Format::of(Some(prometheus)), Format::OpenMetrics);
    assert_eq!(Format::of(Some("*/*")), Format::OpenMetrics);
    assert_eq!(Format::of(None), Format::OpenMetrics);
    assert_eq!(Format::of(Some("text/plain;version=0.0.4")), Format::Plain);
}

#[derive(Debug)]
struct Sample;

impl Collector for Sample {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out(encoder);
        let mut histogram = Histogram::new(LATENESS);
        histogram.observe(Duration::from_micros(70));
        histogram.observe(Duration::from_secs(9));
        out.gauge(plainly("a_gauge", "What it is."), 7u64)?;
        out.gauge(in_seconds("an_age", "Old."), 1.5)?;
        out.counters(plainly("events", "Many."), [(vec![("kind", "a\"b\\c\n".to_owned())], 3u64)])?;
        out.counters(plainly("nothing", "None."), Vec::<(Labels, u64)>::new())?;
        out.info(plainly("build", "Which."), &vec![("version", "1".to_owned())])?;
        out.histograms(in_seconds("late", "How late."), [(ALONE, histogram)])
    }
}

fn sample() -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sample));
    let mut out = String::new();
    text::encode(&mut out, &registry).unwrap();
    out
}

#[test]
fn open_metrics() {
    let text = sample();
    for line in [
        "# TYPE a_gauge gauge",
        "a_gauge{} 7",
        "# UNIT an_age_seconds seconds",
        "an_age_seconds{} 1.5",
        "# TYPE events counter",
        "events_total{kind=\"a\\\"b\\\\c\\n\"} 3",
        "build_info{version=\"1\"} 1",
        "late_seconds_bucket{le=\"0.00005\"} 0",
        "late_seconds_bucket{le=\"0.0001\"} 1",
        "late_seconds_bucket{le=\"+Inf\"} 2",
        "late_seconds_count{} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && !text.contains("nothing"), "{text}");
}

#[test]
fn the_older_format() {
    let text = plain(&sample());
    for line in [
        "# TYPE events_total counter",
        "# HELP events_total Many.",
        "# TYPE build_info gauge",
        "# TYPE late_seconds histogram",
        "late_seconds_bucket{le=\"+Inf\"} 2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
}

#[test]
fn a_protocol_thread_that_is_silent_is_told() {
    let text = "[hosts.a]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                addresses = [\"192.0.2.10/24\"]\npriority = { a = 150 }\n";
    let model = Arc::new(load_all_hosts(text, "vipd.toml").unwrap().0.remove(0));
    let figures =
        Figures { tally: Tally::new(&model), model, config_used: false, now: None, replicas: None };
    let text = figures.text(Format::Plain).unwrap();
    assert!(text.contains("vipd_up{vipd_cluster=\"\"} 0\n"), "{text}");
    assert!(text.contains("process_resident_memory_bytes"), "{text}");
    assert!(!text.contains("vipd_is_active"), "{text}");
}

#[test]
fn replicas_have_figures_by_set_and_peer() {
    let text = "[hosts.a]\n[instance.web]\nvrid = 51\ninterface = \"eth0\"\n\
                addresses = [\"192.0.2.10/24\"]\npriority = { a = 150 }\n";
    let model = Arc::new(load_all_hosts(text, "vipd.toml").unwrap().0.remove(0));
    let peer = vipd_core::replica::PeerReport {
        host: "b".into(),
        connected: true,
        in_sync: true,
        rpo_ms: Some(1250),
        pending_bytes: 6,
        ..Default::default()
    };
    let set = SetReport {
        set: "leases".into(),
        instance: "web".into(),
        owns: true,
        rpo_ms: Some(1500),
        pending_bytes: 7,
        rescued_files: 3,
        peers: vec![peer],
        errors: [("io".to_owned(), 2)].into(),
        ..SetReport::default()
    };
    let replicas = Some(Replicas { connected: true, missing: false, sets: vec![set] });
    let figures =
        Figures { tally: Tally::new(&model), model, config_used: true, now: None, replicas };
    let mut out = String::new();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(OnlyReplicas(figures)));
    text::encode(&mut out, &registry).unwrap();
    let of = "vipd_instance=\"web\",set=\"leases\"";
    for line in [
        "vipd_replica_connected{} 1".to_owned(),
        format!("vipd_replica_rpo_seconds{{{of}}} 1.5"),
        format!("vipd_replica_pending_bytes{{{of}}} 7"),
        format!("vipd_divergent_files{{{of}}} 3"),
        format!("vipd_replica_in_sync{{{of},peer=\"b\"}} 1"),
        format!("vipd_replica_peer_rpo_seconds{{{of},peer=\"b\"}} 1.25"),
        format!("vipd_replica_peer_pending_bytes{{{of},peer=\"b\"}} 6"),
        format!("vipd_replica_errors_total{{{of},kind=\"io\"}} 2"),
    ] {
        assert!(out.lines().any(|l| l == line), "{line}\n{out}");
    }
}

#[derive(Debug)]
struct OnlyReplicas(Figures);

impl Collector for OnlyReplicas {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        replica::replicas(&mut Out(encoder), self.0.replicas.as_ref().unwrap())
    }
}

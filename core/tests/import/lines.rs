//! Single lines and what becomes of them.

use proptest::prelude::*;
use vipd_core::config::import::{Fate, Import, ImportError, Source, import};

fn instance(extra: &str) -> String {
    format!(
        "vrrp_instance web {{\ninterface eth0\nvirtual_router_id 51\npriority 100\n{extra}\n\
         virtual_ipaddress {{\n192.0.2.10/24\n}}\n}}\n"
    )
}

fn one(text: &str) -> Import {
    import(&[Source::new("lb1", "k.conf", text)]).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn fate_of(made: &Import, line: &str) -> Vec<Fate> {
    let found = made.report.entries.iter().filter(|entry| entry.text.starts_with(line));
    found.map(|entry| entry.fate).collect()
}

#[test]
fn unknown_words_are_dropped_and_said() {
    let made = one(&(instance("prio 7") + "vrrp_frobnicate {\n  x 1\n}\n"));
    for line in ["prio 7", "vrrp_frobnicate", "x 1"] {
        assert_eq!(fate_of(&made, line), [Fate::Dropped], "{line}");
    }
    assert!(!made.report.is_exact());
}

#[test]
fn what_keepalived_changes_silently_is_replayed() {
    let made = one(&instance("state MASTER\nnopreempt\npreempt_delay 300\nadvert_int 0.3"));
    assert!(!made.toml.contains("preempt = false"), "{}", made.toml);
    assert!(made.toml.contains("preempt-delay = \"0s\""), "{}", made.toml);
    assert!(made.toml.contains("advert-interval = \"1s\""), "{}", made.toml);
    let made = one(&instance("state MASTER").replace("priority 100\n", ""));
    assert!(made.toml.contains("priority = { lb1 = 255 }"), "{}", made.toml);
    let made = one(&instance("version 3\nadvert_int 0.05"));
    assert!(made.toml.contains("advert-interval = \"50ms\""), "{}", made.toml);
    assert!(made.toml.contains("checksum = \"rfc5798\""), "{}", made.toml);
}

#[test]
fn secrets_are_in_the_file_and_never_in_the_report() {
    let text = "$PASS=s3cret\n".to_owned()
        + &instance("authentication { auth_type PASS auth_pass s3cret }\n@lb9 auth_pass s3cret");
    let made = one(&text);
    assert!(made.toml.contains("simple-text = \"s3cret\""), "{}", made.toml);
    assert!(!made.report.render().contains("s3cret"), "{}", made.report.render());
}

#[test]
fn variables_conditions_and_continuations() {
    let text = "$IF=eth7\n$NAME=VI_${IF}\n$VIPS=192.0.2.10/24 \\\n192.0.2.11/24\n\
        vrrp_instance $NAME\n{\ninterface ${IF}\nvirtual_router_id 51\n@lb1 priority 7\n@lb2 priority 8\n\
        virtual_ipaddress {\n$VIPS\n}\n}";
    let made = one(text);
    for part in ["[instance.VI_eth7]", "lb1 = 7", "\"192.0.2.11/24\""] {
        assert!(made.toml.contains(part), "{part}\n{}", made.toml);
    }
    assert_eq!(fate_of(&made, "@lb2 priority"), [Fate::Dropped]);
}

#[test]
fn addresses_elsewhere_become_instances_that_move_along() {
    let made = one(&instance(
        "virtual_ipaddress_excluded {\n2001:db8::10/64\n10.9.0.10/24 dev eth1\n192.0.2.20\n}",
    ));
    for part in [
        "[instance.web-ipv6]",
        "[instance.web-eth1]",
        "unadvertised = [\"192.0.2.20\"]",
        "instances = [\"web\", \"web-ipv6\", \"web-eth1\"]",
    ] {
        assert!(made.toml.contains(part), "{part}\n{}", made.toml);
    }
    assert_eq!(made.report.beside.len(), 2);
}

#[test]
fn hosts_that_differ_become_tables() {
    let (first, second) = (instance("advert_int 1"), instance("nopreempt").replace("eth0", "ens3"));
    let sources =
        [Source::new("a", "1", &first), Source::new("b", "2", &second.replace("web", "VI_1"))];
    let made = import(&sources).unwrap();
    assert!(made.toml.contains("interface = { a = \"eth0\", b = \"ens3\" }"), "{}", made.toml);
    assert!(made.toml.contains("preempt = { a = true, b = false }"), "{}", made.toml);
    assert!(!made.toml.contains("VI_1"), "one VRID is one instance: {}", made.toml);
}

#[test]
fn what_cannot_be_read_names_the_place_and_the_fix() {
    for (text, line, part) in [
        ("vrrp_instance a {\ninterface eth0\n", 1, "never closed"),
        ("global_defs {\n}\n}\n", 3, "never began"),
        ("{\n}\n", 1, "without a keyword"),
        ("a\nscript \"/bin/true\n", 2, "quote"),
        ("$A=${A}\nx $A\n", 2, "too long"),
    ] {
        match import(&[Source::new("h", "k.conf", text)]) {
            Err(ImportError::Syntax(error)) => {
                assert_eq!(error.place.line, line, "{error}");
                assert!(
                    error.to_string().contains(part) && error.to_string().contains("\nfix: "),
                    "{error}"
                );
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let lvs = Source::new("h", "k.conf", "virtual_server 1.2.3.4 80 {\n}\n");
    assert!(
        matches!(import(&[lvs]), Err(ImportError::Nothing(report)) if report.count(Fate::Dropped) == 1)
    );
    assert!(matches!(import(&[Source::new("a b", "k", "")]), Err(ImportError::Host(_))));
}

/// Words that lead somewhere, and some that do not.
fn any_line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "vrrp_instance",
        "vrrp_sync_group",
        "vrrp_script",
        "vrrp_track_file",
        "vrrp_track_process",
        "global_defs",
        "group",
        "virtual_ipaddress",
        "virtual_ipaddress_excluded",
        "virtual_routes",
        "virtual_rules",
        "track_script",
        "track_interface",
        "track_process",
        "track_file",
        "unicast_peer",
        "authentication",
        "auth_hmac",
        "auth_type",
        "auth_pass",
        "AH",
        "PASS",
        "key",
        "mode",
        "state",
        "MASTER",
        "interface",
        "eth0",
        "eth1",
        "dev",
        "virtual_router_id",
        "priority",
        "advert_int",
        "weight",
        "reverse",
        "script",
        "\"a 'b'\"",
        "file",
        "process",
        "/bin/true",
        "notify",
        "notify_master",
        "notify_fifo",
        "nopreempt",
        "preempt_delay",
        "version",
        "use_vmac",
        "192.0.2.10/24",
        "192.0.2.11",
        "10.9.0.0/24",
        "2001:db8::1/64",
        "fe80::1",
        "::",
        "default",
        "via",
        "src",
        "table",
        "from",
        "lookup",
        "{",
        "}",
        "0",
        "1",
        "2",
        "3",
        "100",
        "254",
        "255",
        "-5",
        "0.25",
        "99999999999999999999",
        "$A",
        "${A}",
        "$A=$A x",
        "@lb1",
        "@^lb1",
        "~SEQ",
        "#",
        "!",
        "\\",
        "\"",
        "'",
        "VI_1",
        "VI 2",
        "é",
        "\u{7}",
        "include",
        "x.conf",
    ]);
    prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "))
}

/// Nothing panics, and what comes out is TOML of which the report knows every complaint.
fn holds(text: &str) {
    let sources = [Source::new("lb1", "a", text), Source::new("lb2", "b", text)];
    for sources in [&sources[..1], &sources[..]] {
        if let Ok(made) = import(sources) {
            let findings = match vipd_core::config::load_all_hosts(&made.toml, "vipd.toml") {
                Ok((_, warnings)) => warnings,
                Err(errors) => errors,
            };
            let syntax = findings.iter().find(|f| f.message.contains("is not TOML"));
            assert!(syntax.is_none(), "{syntax:?}\n{}", made.toml);
            assert!(made.report.check.len() >= findings.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,400}") {
        holds(&text);
    }

    #[test]
    fn any_words_are_read_or_refused(lines in prop::collection::vec(any_line(), 0..30)) {
        holds(&lines.join("\n"));
    }

    #[test]
    fn any_words_inside_of_an_instance(lines in prop::collection::vec(any_line(), 0..12)) {
        holds(&instance(&lines.join("\n")));
    }
}

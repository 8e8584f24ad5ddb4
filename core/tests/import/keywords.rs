//! Every keyword that keepalived has for VRRP is known here: carried over, or lost with a reason that fits it.
//!
//! docs/keepalived-keywords.md is what this list becomes; `UPDATE=1` writes it anew, like the reports.

use super::golden::compare;
use std::fmt::Write as _;
use std::path::Path;
use vipd_core::config::import::{Entry, Fate, Source, import};

/// Where lines stand: a title, the text around them, and the lines.
struct Place {
    title: &'static str,
    /// `{}` is the line.
    around: &'static str,
    lines: &'static [&'static str],
}

/// An instance in which a line stands among the others.
macro_rules! instance {
    ($line:expr) => {
        concat!(
            "vrrp_instance web {\ninterface eth0\nvirtual_router_id 51\npriority 100\n",
            "virtual_ipaddress {\n192.0.2.10/24\n}\n",
            $line,
            "\n}\n"
        )
    };
}

const PLACES: &[Place] = &[
    Place {
        title: "Outside of every block",
        around: concat!("{}\n", instance!("")),
        lines: &[
            "linkbeat_use_polling",
            "linkbeat_interfaces { eth0 }",
            "interface_up_down_delays { eth0 2 5 }",
            "static_ipaddress { 192.0.2.9/24 dev eth0 }",
            "static_routes { 10.9.0.0/24 via 192.0.2.1 }",
            "static_rules { from 10.9.0.0/24 lookup 7 }",
            "track_group g { web }",
            "garp_group { garp_interval 0.1 }",
            "bfd_instance b { neighbor_ip 192.0.2.12 }",
            "virtual_server 192.0.2.10 80 { lb_algo rr }",
            "virtual_server_group g { 192.0.2.10 80 }",
            "include /etc/keepalived/none.conf",
            "includer /etc/keepalived/none.conf",
            "includem /etc/keepalived/none.conf",
            "includew /etc/keepalived/none.conf",
            "includeb /etc/keepalived/none.conf",
            "includea /etc/keepalived/none.conf",
            "@lb1 include /etc/keepalived/none.conf",
            "@^lb1 include /etc/keepalived/none.conf",
            "$NAME=value",
            "~SEQ(i, 1, 3) x $i",
            "~SEQx(i, 1, 3) x $i",
            "~LST(i, a, b) x $i",
        ],
    },
    Place {
        title: "`global_defs`",
        around: concat!("global_defs {\n{}\n}\n", instance!("")),
        lines: &[
            "router_id lb1",
            "router_id ${_PWD}",
            "router_id ${_INSTANCE}",
            "router_id ${_RANDOM 1 9}",
            "router_id ${_ENV HOME}",
            "vrrp_version 3",
            "vrrp_mcast_group4 224.0.0.18",
            "vrrp_mcast_group4 224.0.0.99",
            "vrrp_mcast_group6 ff02::12",
            "vrrp_strict",
            "vrrp_skip_check_adv_addr",
            "vrrp_check_unicast_src",
            "vrrp_garp_master_delay 5",
            "vrrp_garp_master_repeat 5",
            "vrrp_garp_master_refresh 60",
            "vrrp_garp_master_refresh_repeat 2",
            "vrrp_garp_lower_prio_delay 5",
            "vrrp_garp_lower_prio_repeat 2",
            "vrrp_garp_interval 0.001",
            "vrrp_gna_interval 0.001",
            "vrrp_min_garp",
            "vrrp_garp_extra_if all 60",
            "vrrp_down_timer_adverts 3",
            "vrrp_down_timer_adverts 5",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "vrrp_owner_ignore_adverts",
            "vrrp_startup_delay 10",
            "vrrp_delay_after_boot 30",
            "vrrp_notify_priority_changes",
            "fifo_write_vrrp_states_on_reload",
            "log_unknown_vrids",
            "dynamic_interfaces allow_if_changes",
            "default_interface eth0",
            "v3_checksum_as_v2",
            "disable_local_igmp",
            "nftables keepalived",
            "nftables_priority -1",
            "nftables_counters",
            "nftables_ifindex",
            "vrrp_iptables",
            "vrrp_ipsets",
            "namespace_with_ipsets",
            "net_namespace blue",
            "net_namespace_ipvs blue",
            "instance one",
            "use_pid_dir",
            "vrrp_priority -10",
            "vrrp_rt_priority 50",
            "vrrp_rlimit_rttime 10000",
            "vrrp_no_swap",
            "vrrp_cpu_affinity 0",
            "max_auto_priority 90",
            "min_auto_priority_delay 1000000",
            "vrrp_rx_bufs_policy MTU",
            "vrrp_rx_bufs_multiplier 3",
            "vrrp_netlink_cmd_rcv_bufs 1048576",
            "vrrp_netlink_cmd_rcv_bufs_force true",
            "vrrp_netlink_monitor_rcv_bufs 1048576",
            "vrrp_netlink_monitor_rcv_bufs_force true",
            "process_monitor_rcv_bufs 1048576",
            "process_monitor_rcv_bufs_force true",
            "script_user nobody",
            "enable_script_security",
            "set_supplementary_groups",
            "use_symlink_paths",
            "startup_script /bin/true",
            "startup_script_timeout 10",
            "shutdown_script /bin/true",
            "shutdown_script_timeout 10",
            "notify_fifo /run/fifo",
            "notify_fifo_script /bin/true",
            "vrrp_notify_fifo /run/fifo",
            "vrrp_notify_fifo_script /bin/true",
            "smtp_server 127.0.0.1",
            "notification_email { root@localhost }",
            "notification_email_from root@localhost",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_connect_timeout 30",
            "smtp_helo_name lb1",
            "no_email_faults",
            "snmp_socket unix:/run/x",
            "enable_snmp_vrrp",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_traps",
            "enable_dbus",
            "dbus_service_name org.example",
            "dbus_no_interface_name",
            "json_version 2",
            "state_dump_file /tmp/x",
            "stats_dump_file /tmp/x",
            "json_dump_file /tmp/x",
            "data_use_instance",
            "process_names",
            "process_name x",
            "vrrp_process_name x",
            "umask 077",
            "child_wait_time 5",
            "tmp_config_directory /tmp",
            "config_save_dir /tmp",
            "random_seed 1",
            "iproute_usr_dir /usr/share/iproute2",
            "iproute_etc_dir /etc/iproute2",
            "vmac_prefix vrrp",
            "vmac_addr_prefix vrrp",
            "reload_check_config",
            "reload_time_file /run/x",
            "reload_repeat",
            "reload_file /run/x",
            "include_check",
            "lvs_sync_daemon eth0 web",
            "lvs_flush",
            "lvs_timeouts tcp 60",
            "lvs_notify_fifo /run/x",
            "lvs_netlink_cmd_rcv_bufs 1048576",
            "checker_priority -10",
            "no_checker_emails",
            "rs_init_notifies",
            "bfd_priority -10",
        ],
    },
    Place {
        title: "`vrrp_instance`",
        around: instance!("{}"),
        lines: &[
            "interface eth0",
            "vrf red",
            "virtual_router_id 51",
            "priority 100",
            "state MASTER",
            "state BACKUP",
            "advert_int 1",
            "advert_int 0.5",
            "version 3",
            "virtual_ipaddress { 192.0.2.20/24 }",
            "virtual_ipaddress_excluded { 192.0.2.20/24 }",
            "no_virtual_ipaddress",
            "virtual_routes { 10.9.0.0/24 via 192.0.2.1 }",
            "virtual_rules { from 10.9.0.0/24 lookup 7 }",
            "unicast_src_ip 192.0.2.11",
            "unicast_peer { 192.0.2.12 }",
            "unicast_ttl 255",
            "unicast_ttl 5",
            "check_unicast_src",
            "unicast_fault_no_peer",
            "old_unicast_checksum",
            "mcast_src_ip 192.0.2.11",
            "mcast_dst_ip 224.0.0.99",
            "track_src_ip",
            "use_vmac vrrp.51",
            "use_vmac_addr",
            "vmac_xmit_base",
            "use_ipvlan",
            "accept",
            "no_accept",
            "nopreempt",
            "preempt",
            "preempt_delay 10",
            "down_timer_adverts 3",
            "down_timer_adverts 5",
            "timer_expired_backup",
            "garp_master_delay 5",
            "garp_master_repeat 5",
            "garp_master_refresh 60",
            "garp_master_refresh_repeat 2",
            "garp_lower_prio_delay 5",
            "garp_lower_prio_repeat 2",
            "garp_interval 0.001",
            "gna_interval 0.001",
            "garp_extra_if 60",
            "vmac_garp_intvl 60",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "owner_ignore_adverts",
            "authentication { auth_type PASS }",
            "authentication { auth_type AH }",
            "auth_hmac { key 1 secret }",
            "track_interface { eth1 }",
            "track_bfd { b }",
            "dont_track_primary",
            "promote_secondaries",
            "skip_check_adv_addr",
            "strict_mode on",
            "v3_checksum_as_v2",
            "notify /bin/true",
            "notify_master /bin/true",
            "notify_backup /bin/true",
            "notify_fault /bin/true",
            "notify_stop /bin/true",
            "notify_deleted /bin/true",
            "notify_master_rx_lower_pri /bin/true",
            "notify_priority_changes",
            "smtp_alert",
            "kernel_rx_buf_size 1048576",
            "debug 4",
            "native_ipv6",
            "linkbeat_use_polling",
            "lvs_sync_daemon_interface eth0",
            "thread_timer_expired",
        ],
    },
    Place {
        title: "`virtual_ipaddress`",
        around: instance!("virtual_ipaddress {\n{}\n}"),
        lines: &[
            "192.0.2.20/24",
            "192.0.2.20/24 dev eth1",
            "192.0.2.20/24 brd 192.0.2.255",
            "192.0.2.20/24 scope link",
            "192.0.2.20/24 label eth0:1",
            "192.0.2.20/24 peer 192.0.2.21",
            "2001:db8::20/64 home",
            "2001:db8::20/64 -nodad",
            "2001:db8::20/64 mngtmpaddr",
            "192.0.2.20/24 noprefixroute",
            "192.0.2.20/24 autojoin",
            "192.0.2.20/24 no_track",
            "192.0.2.20/24 preferred_lft 0",
            "192.0.2.20/24 use_vmac",
        ],
    },
    Place {
        title: "`virtual_routes`",
        around: instance!("virtual_routes {\n{}\n}"),
        lines: &[
            "10.9.0.0/24 via 192.0.2.1 dev eth0",
            "10.9.0.0/24 via 192.0.2.1 metric 5 table 7",
            "src 192.0.2.10 10.9.0.0/24 via 192.0.2.1",
            "10.9.0.0/24 via 192.0.2.1 no_track",
            "10.9.0.0/24 via 192.0.2.1 scope global proto 18",
            "10.9.0.0/24 nexthop via 192.0.2.1 weight 1 nexthop via 192.0.2.2 weight 1",
            "blackhole 10.9.0.0/24",
            "10.9.0.0/24 via 192.0.2.1 mtu 1400",
        ],
    },
    Place {
        title: "`virtual_rules`",
        around: instance!("virtual_rules {\n{}\n}"),
        lines: &[
            "from 10.9.0.0/24 lookup 7",
            "from 10.9.0.0/24 to 10.8.0.0/24 table 7 preference 200",
            "from 10.9.0.0/24 table 7 no_track",
            "iif eth0 table 7",
            "fwmark 1 table 7",
        ],
    },
    Place {
        title: "`auth_hmac`",
        around: instance!("auth_hmac {\nkey 1 secret\n{}\n}"),
        lines: &[
            "key 2 secret",
            "active_key 1",
            "anti_replay on",
            "time_window 5",
            "mode permissive",
        ],
    },
    Place {
        title: "`vrrp_sync_group`",
        around: concat!("vrrp_sync_group g {\ngroup {\nweb\n}\n{}\n}\n", instance!("")),
        lines: &[
            "group { web }",
            "track_interface { eth1 }",
            "track_bfd { b }",
            "notify /bin/true",
            "notify_master /bin/true",
            "notify_backup /bin/true",
            "notify_fault /bin/true",
            "notify_stop /bin/true",
            "notify_master_rx_lower_pri /bin/true",
            "notify_priority_changes",
            "smtp_alert",
            "global_tracking",
            "sync_group_tracking_weight",
        ],
    },
    Place {
        title: "`vrrp_script`",
        around: concat!(
            "vrrp_script x {\nscript \"/bin/true\"\n{}\n}\n",
            instance!("track_script {\nx\n}")
        ),
        lines: &[
            "script \"/usr/bin/killall -0 haproxy\"",
            "script \"/usr/bin/systemctl is-active nginx\"",
            "script \"</dev/tcp/127.0.0.1/80\"",
            "script \"/usr/local/bin/healthy --deep\"",
            "interval 2",
            "timeout 1",
            "weight -20",
            "weight 20 reverse",
            "rise 2",
            "fall 3",
            "user nobody",
            "init_fail",
        ],
    },
    Place {
        title: "`track_script`, `track_interface` and their like",
        around: concat!(
            "vrrp_script x {\nscript \"/bin/true\"\n}\n",
            instance!("track_script {\n{}\n}")
        ),
        lines: &[
            "x",
            "x weight -20",
            "x weight 20",
            "x weight 20 reverse",
            "x weight 20 no_reverse",
        ],
    },
    Place {
        title: "`vrrp_track_process`",
        around: concat!(
            "vrrp_track_process x {\nprocess haproxy\n{}\n}\n",
            instance!("track_process {\nx\n}")
        ),
        lines: &[
            "process /usr/sbin/haproxy -f x",
            "param_match initial",
            "weight -20",
            "quorum 2",
            "quorum_max 4",
            "fork_delay 1",
            "terminate_delay 1",
            "delay 1",
            "full_command",
        ],
    },
    Place {
        title: "`vrrp_track_file`",
        around: concat!(
            "vrrp_track_file x {\nfile /run/x\n{}\n}\n",
            instance!("track_file {\nx\n}")
        ),
        lines: &[
            "file /run/maintenance",
            "weight 0",
            "weight 1",
            "weight -20",
            "init_file 0 overwrite",
        ],
    },
];

/// What became of `line` in its place, those that it shares a block with aside.
fn told(place: &Place, line: &str) -> Vec<Entry> {
    let text = place.around.replacen("{}", line, 1);
    let before = place.around.split_once("{}").expect("a place for the line").0;
    let at = before.lines().count() + usize::from(before.is_empty() || before.ends_with('\n'));
    let made = import(&[Source::new("lb1", "k.conf", &text)])
        .unwrap_or_else(|e| panic!("{}, {line}: {e}", place.title));
    made.report.entries.into_iter().filter(|entry| entry.line == at).collect()
}

/// The worst that became of a line.
fn worst(entries: &[Entry]) -> Fate {
    let has = |fate| entries.iter().any(|entry| entry.fate == fate);
    [Fate::Dropped, Fate::Approximated].into_iter().find(|fate| has(*fate)).unwrap_or(Fate::Exact)
}

#[test]
fn every_keyword_is_known() {
    let mut wrong = Vec::new();
    for place in PLACES {
        for line in place.lines {
            let entries = told(place, line);
            let unknown = entries.iter().find(|entry| entry.note.contains("is not understood"));
            if entries.is_empty() || unknown.is_some() {
                wrong.push(format!("{}: {line}: {entries:?}", place.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_list_in_the_manual_is_what_import_does() {
    let mut page = String::from(HEAD);
    for place in PLACES {
        let _ = writeln!(page, "\n## {}\n\n| | | |\n|---|---|---|", place.title);
        for line in place.lines {
            let entries = told(place, line);
            // "its lines below" says nothing on a line that has them.
            let mut notes: Vec<&str> = Vec::new();
            for entry in &entries {
                let note = entry.note.as_str();
                if !notes.contains(&note) && (note != "its lines below" || entries.len() == 1) {
                    notes.push(note);
                }
            }
            let fate = format!("{:?}", worst(&entries)).to_lowercase();
            let notes = notes.join("; ").replace('|', "\\|");
            let _ = writeln!(page, "| `{line}` | {fate} | {notes} |");
        }
    }
    let mut wrong = Vec::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keepalived-keywords.md");
    compare(&file, &page, &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const HEAD: &str = "# Keywords of keepalived, and what `vipd import` makes of them

Every keyword that keepalived 2.4 has for VRRP, on a line as people write it, and what the report says of that line.
**exact**: vipd does the same. **approximated**: nearly the same, and the report says where it differs. **dropped**: not
in the new file, with what to do instead. What is not in this list is dropped too, and said so.

This page is written by a test from what the importer does (`UPDATE=1 cargo test -p vipd-core --test import`). The way
from keepalived to vipd: [migration.md](migration.md).
";

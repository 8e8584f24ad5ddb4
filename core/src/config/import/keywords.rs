//! Keywords of keepalived that need no translation: what vipd does in their place, or why there is nothing.
//!
//! Called for every line that no other room of `import` takes. What is neither here nor there is reported as lost.

use super::report::Fate::{self, Approximated, Dropped, Exact};

/// Where a keyword stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Outside of every block.
    Top,
    /// `global_defs`.
    Global,
    /// `vrrp_instance`.
    Instance,
    /// `vrrp_sync_group`.
    Group,
}

use Scope::{Global, Group, Instance, Top};

/// Keywords of a scope that share their fate. One that ends in `*` stands for all that begin so.
struct Row(&'static [Scope], &'static [&'static str], Fate, &'static str);

const IPVS: &str = "vipd does no IPVS: let keepalived do it beside vipd, started with --check (-C), which runs no VRRP";
const MAIL: &str = "vipd sends no mail: let a hook or the alarms of your monitoring do it";
const GARP: &str = "vipd announces at once, after 1, 5 and 15 s, after any weaker advert and after a pause, by itself";
const SCHEDULING: &str =
    "vipd runs its protocol thread in real time with its memory locked, where it has the right";
const NOTHING: &str = "has no effect on the address, and no counterpart";

/// The first row that fits counts.
const ROWS: &[Row] = &[
    Row(&[Top], &["virtual_server", "virtual_server_group", "SSL", "ssl"], Dropped, IPVS),
    Row(
        &[Global, Instance],
        &[
            "lvs_*",
            "net_namespace_ipvs",
            "checker_*",
            "ipvs_*",
            "nftables_ipvs*",
            "no_checker_emails",
            "rs_init_notifies",
        ],
        Dropped,
        IPVS,
    ),
    Row(
        &[Top],
        &["bfd_instance"],
        Dropped,
        "vipd speaks no BFD: use a check of kind gateway or ping, or a shorter advert-interval",
    ),
    Row(
        &[Top],
        &["static_ipaddress", "static_routes", "static_rules", "static_track_group", "track_group"],
        Dropped,
        "is there whoever owns: write it into the network configuration of the host",
    ),
    Row(&[Top], &["garp_group"], Approximated, GARP),
    Row(
        &[Top],
        &["interface_up_down_delays"],
        Approximated,
        "vipd waits by itself: settle after carrier-up, fall and rise in checks",
    ),
    Row(&[Top, Global, Instance], &["linkbeat_*"], Exact, "vipd hears of carriers from the kernel"),
    Row(
        &[Top, Global, Instance, Group],
        &["include", "includer", "includem", "includew", "includeb", "includea"],
        Dropped,
        "no file was read for it: name the missing file, or paste its lines here",
    ),
    // global_defs
    Row(&[Global], &["router_id"], Exact, "hosts have names here: [hosts.NAME]"),
    Row(
        &[Global],
        &["notification_email", "notification_email_from", "smtp_*", "no_email_faults", "email_*"],
        Dropped,
        MAIL,
    ),
    Row(&[Instance, Group], &["smtp_alert", "no_smtp_alert"], Dropped, MAIL),
    Row(
        &[Global, Instance],
        &[
            "garp_*",
            "vrrp_garp_*",
            "gna_interval",
            "vrrp_gna_interval",
            "vrrp_min_garp",
            "vmac_garp_*",
            "vrrp_vmac_garp*",
        ],
        Approximated,
        GARP,
    ),
    Row(
        &[Global],
        &["enable_script_security"],
        Exact,
        "vipd always refuses programs that others than their owner and root could change",
    ),
    Row(&[Global], &["set_supplementary_groups"], Exact, "programs have the groups of their user"),
    Row(&[Global], &["use_symlink_paths"], Dropped, "vipd looks at the path as it is written"),
    Row(
        &[Global, Instance],
        &["vrrp_skip_check_adv_addr", "skip_check_adv_addr"],
        Exact,
        "vipd accepts an advert whose addresses differ, and reports it",
    ),
    Row(
        &[Global, Instance],
        &["vrrp_check_unicast_src", "check_unicast_src"],
        Exact,
        "vipd always drops unicast adverts of others than the peers",
    ),
    Row(
        &[Global, Instance],
        &["unicast_fault_no_peer"],
        Exact,
        "vipd refuses unicast-peers without a peer",
    ),
    Row(
        &[Global, Instance],
        &["vrrp_higher_prio_send_advert", "higher_prio_send_advert"],
        Exact,
        "vipd always sends a last advert when it yields",
    ),
    Row(
        &[Global, Instance],
        &["vrrp_lower_prio_no_advert", "lower_prio_no_advert"],
        Approximated,
        "vipd always answers a weaker owner, so that it yields at once",
    ),
    Row(
        &[Global, Instance],
        &["vrrp_owner_ignore_adverts", "owner_ignore_adverts"],
        Approximated,
        "a host of priority 255 keeps the address here too, but reports the other owner",
    ),
    Row(
        &[Global],
        &["vrrp_startup_delay", "vrrp_delay_after_boot"],
        Approximated,
        "vipd claims no earlier than it has heard the network: settle, up to 35s by default",
    ),
    Row(
        &[Global, Instance],
        &[
            "notify_priority_changes",
            "vrrp_notify_priority_changes",
            "fifo_write_vrrp_states_on_reload",
        ],
        Dropped,
        "vipd writes no lines about priorities: see vipd status --json",
    ),
    Row(&[Global], &["log_unknown_vrids"], Approximated, "vipd counts them in vipd status --json"),
    Row(
        &[Global],
        &["dynamic_interfaces", "allow_if_changes"],
        Exact,
        "vipd takes interfaces that come, go and change",
    ),
    Row(
        &[Global],
        &["default_interface"],
        Dropped,
        "is for static addresses, which are not carried over",
    ),
    Row(
        &[Global],
        &["disable_local_igmp"],
        Dropped,
        "set the sysctl net.ipv4.igmp_link_local_mcast_reports by hand",
    ),
    Row(
        &[Global],
        &["nftables*", "vrrp_iptables", "vrrp_ipsets", "iptables*", "namespace_with_ipsets"],
        Exact,
        "vipd keeps what accept = false needs in an nftables table of its own",
    ),
    Row(
        &[Global],
        &["net_namespace"],
        Dropped,
        "start vipd in the namespace: NetworkNamespacePath= in a drop-in of its unit",
    ),
    Row(
        &[Global],
        &["instance", "use_pid_dir", "pidfile", "*_pidfile"],
        Dropped,
        "several agents on one machine differ by --runtime-dir and --state-dir",
    ),
    Row(
        &[Global],
        &[
            "vrrp_priority",
            "vrrp_rt_priority",
            "vrrp_rlimit_rt*",
            "vrrp_no_swap",
            "max_auto_priority",
            "min_auto_priority_delay",
        ],
        Exact,
        SCHEDULING,
    ),
    Row(
        &[Global],
        &["vrrp_cpu_affinity"],
        Dropped,
        "CPUAffinity= in a drop-in of vipd.service does that",
    ),
    Row(
        &[Global],
        &["vrrp_rx_bufs_*", "vrrp_netlink_*", "process_monitor_rcv_bufs*", "netlink_*"],
        Exact,
        "vipd sizes its buffers itself, and reads the kernel again when something was lost",
    ),
    Row(&[Instance], &["kernel_rx_buf_size"], Exact, "vipd sizes its buffers itself"),
    Row(
        &[Global],
        &["startup_script", "shutdown_script", "startup_script_timeout", "shutdown_script_timeout"],
        Dropped,
        "ExecStartPre= and ExecStopPost= in a drop-in of vipd.service do that",
    ),
    Row(
        &[Global],
        &["snmp_*", "enable_snmp_*", "enable_traps"],
        Dropped,
        "vipd has no SNMP agent: its metrics and vipd status --json have the figures",
    ),
    Row(
        &[Global],
        &["enable_dbus", "dbus_*"],
        Dropped,
        "vipd has no D-Bus interface: its control socket and vipd status --json serve programs",
    ),
    Row(
        &[Global],
        &[
            "json_version",
            "state_dump_file",
            "stats_dump_file",
            "json_dump_file",
            "data_use_instance",
            "*_dump_file*",
        ],
        Dropped,
        "vipd writes no dumps: vipd status --json has the state at any time",
    ),
    Row(
        &[Global],
        &["reload_*"],
        Exact,
        "vipd judges a file before it uses it, and runs on the old one if it is wrong",
    ),
    Row(&[Global], &["include_check"], Exact, "a file that could not be read is in this report"),
    Row(
        &[Global],
        &["vrrp_notify_fifo_script", "notify_fifo_script"],
        Dropped,
        "vipd writes into the FIFO and starts no reader: give the reader a unit of its own, before vipd.service",
    ),
    Row(&[Global], &["bfd_*", "vrrp_bfd*"], Dropped, "vipd speaks no BFD"),
    Row(
        &[Global],
        &[
            "process_names",
            "process_name",
            "*_process_name",
            "umask",
            "child_wait_time",
            "tmp_config_directory",
            "config_save_dir",
            "random_seed",
            "iproute_*",
            "vmac_prefix",
            "vmac_addr_prefix",
            "debug",
            "shutdown_*",
            "v2_*",
        ],
        Dropped,
        NOTHING,
    ),
    // vrrp_instance
    Row(
        &[Instance],
        &["dont_track_primary"],
        Dropped,
        "vipd always watches its service interface: without carrier nobody can use the address",
    ),
    Row(
        &[Instance],
        &["promote_secondaries"],
        Exact,
        "addresses go in as /32, so that none takes others with it",
    ),
    Row(
        &[Instance],
        &["timer_expired_backup", "thread_timer_expired"],
        Approximated,
        "vipd reads what waits before it acts on a late timer, and its addresses have a lease",
    ),
    Row(
        &[Instance],
        &["old_unicast_checksum"],
        Dropped,
        "is for keepalived before 1.3.7: upgrade that peer first",
    ),
    Row(
        &[Instance],
        &["vmac_xmit_base"],
        Approximated,
        "vipd always sends through the interface itself, from the virtual MAC",
    ),
    Row(
        &[Instance],
        &["use_vmac_addr"],
        Dropped,
        "vipd has a virtual MAC for all addresses of an instance or for none: virtual-mac",
    ),
    Row(&[Instance], &["use_ipvlan"], Dropped, "vipd puts the address on the interface itself"),
    Row(
        &[Instance],
        &["vrf"],
        Dropped,
        "write the interface of the VRF that faces the clients as interface",
    ),
    Row(&[Instance], &["native_ipv6", "debug"], Exact, "has no effect in keepalived either"),
    Row(
        &[Instance],
        &["track_bfd"],
        Dropped,
        "vipd speaks no BFD: use a check of kind gateway or ping",
    ),
    Row(
        &[Group],
        &["track_bfd"],
        Dropped,
        "vipd speaks no BFD: use a check of kind gateway or ping",
    ),
    Row(
        &[Instance],
        &["notify_deleted"],
        Dropped,
        "vipd has no such moment: a removed instance has its \"stop\"",
    ),
    Row(
        &[Instance, Group],
        &["notify_master_rx_lower_pri"],
        Dropped,
        "vipd answers a weaker owner by itself, and announces again",
    ),
    Row(
        &[Group],
        &["notify_priority_changes"],
        Dropped,
        "vipd writes no lines about priorities: see vipd status --json",
    ),
    Row(
        &[Group],
        &["sync_group_tracking_weight", "global_tracking"],
        Exact,
        "the weights of the members count",
    ),
];

/// What becomes of `keyword` in `scope`, if it needs no translation.
pub(super) fn fate(scope: Scope, keyword: &str) -> Option<(Fate, &'static str)> {
    let fits = |pattern: &&'static str| match (pattern.strip_suffix('*'), pattern.strip_prefix('*'))
    {
        (Some(inner), _) if inner.starts_with('*') => keyword.contains(&inner[1..]),
        (Some(head), _) => keyword.starts_with(head),
        (None, Some(tail)) => keyword.ends_with(tail),
        (None, None) => keyword == *pattern,
    };
    let row = ROWS
        .iter()
        .find(|Row(scopes, words, ..)| scopes.contains(&scope) && words.iter().any(fits))?;
    Some((row.2, row.3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_beginnings_and_endings() {
        assert_eq!(fate(Global, "vrrp_garp_master_delay").map(|f| f.0), Some(Approximated));
        assert_eq!(fate(Global, "json_dump_file").map(|f| f.0), Some(Dropped));
        assert_eq!(fate(Global, "vrrp_process_name").map(|f| f.0), Some(Dropped));
        assert_eq!(fate(Top, "virtual_server").map(|f| f.1), Some(IPVS));
        assert_eq!(fate(Top, "vrrp_garp_master_delay"), None);
    }
}

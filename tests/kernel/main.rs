//! The kernel edge and the sockets against a real kernel, in a network namespace of their own.
//!
//! What was done is checked with the `ip` program, not with our own code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "measurements")]

mod devices;
mod lab;
mod leases;
mod sockets;
mod watch;

use libtest_mimic::Arguments;

fn main() {
    let args = Arguments::from_args();
    let tests: &[(&str, fn())] = &[
        ("lease_is_added_renewed_and_ends", leases::is_added_renewed_and_ends),
        ("late_orders_do_nothing", leases::late_orders_do_nothing),
        ("foreign_address_refuses_the_claim", leases::foreign_address_refuses_the_claim),
        ("owner_keeps_its_own_address", leases::owner_keeps_its_own_address),
        ("newest_order_wins", leases::newest_order_wins),
        ("adopts_what_bears_the_tag", leases::adopts_what_bears_the_tag),
        ("lost_family_is_taken_off", leases::lost_family_is_taken_off),
        ("five_thousand_are_renewed_in_time", leases::five_thousand_are_renewed_in_time),
        (
            "a_renewal_that_was_too_late_goes_on_where_it_stopped",
            leases::a_renewal_that_was_too_late_goes_on_where_it_stopped,
        ),
        ("thousand_addresses_by_route", leases::thousand_addresses_by_route),
        ("release_overtakes_a_large_claim", leases::release_overtakes_a_large_claim),
        ("cleanup_leaves_foreign_things", leases::cleanup_leaves_foreign_things),
        ("reload_keeps_what_stays", leases::reload_keeps_what_stays),
        ("virtual_mac_comes_and_goes", devices::virtual_mac_comes_and_goes),
        ("virtual_mac_answers_a_peer", devices::virtual_mac_answers_a_peer),
        ("a_virtual_mac_that_serves_no_more_is_silent", devices::released_virtual_mac_is_silent),
        ("settings_survive_a_crash", devices::settings_survive_a_crash),
        ("routes_and_rules_come_and_go", devices::routes_and_rules_come_and_go),
        ("filter_refuses_packets", devices::filter_refuses_packets),
        ("monitor_follows_the_kernel", watch::monitor_follows_the_kernel),
        ("monitor_survives_an_overrun", watch::monitor_survives_an_overrun),
        ("monitor_is_silent_about_our_renewals", watch::monitor_is_silent_about_our_renewals),
        ("adverts_cross_a_wire", sockets::adverts_cross_a_wire),
        ("owner_is_heard_by_a_holder", sockets::owner_is_heard_by_a_holder),
        ("unicast_stays_out_of_multicast_mode", sockets::unicast_stays_out_of_multicast_mode),
        ("announcements_are_seen", sockets::announcements_are_seen),
        ("heartbeats_cross_a_wire", sockets::heartbeats_cross_a_wire),
        ("one_agent_per_namespace", sockets::one_agent_per_namespace),
    ];
    let trials = lab::trials("kernel", tests);
    let conclusion = libtest_mimic::run(&args, trials);
    let _none_made = std::fs::remove_dir_all(lab::scratch());
    conclusion.exit();
}

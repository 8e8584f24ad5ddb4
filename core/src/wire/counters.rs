//! Counters of RFC 8347 and RFC 2787, and those of the advert trailer.
//!
//! Moved by [`super::receive::validate`] (received adverts) and by the virtual router (sent adverts,
//! transitions); read by status and metrics.

/// A structure of counters and the one list of their names.
macro_rules! counters {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $field:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: u64,)+ }

        impl $name {
            /// Every counter with its name, in the order of the fields.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$(($text, self.$field),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Errors that belong to the host, not to one virtual router (RFC 8347: the `statistics` of `vrrp`).
    GlobalCounters {
        /// TTL or hop limit was not 255.
        ip_ttl_errors = "ip-ttl-errors",
        /// Not the version of the virtual router, or no version of VRRP.
        version_errors = "version-errors",
        /// The VRID is not configured on that interface in that family.
        vrid_errors = "vrid-errors",
        /// The checksum does not verify.
        checksum_errors = "checksum-errors",
        /// Too short to be an advert, from a VRID that is not ours or not there at all.
        packet_length_errors = "packet-length-errors",
        /// Not an advertisement, from a VRID that is not ours.
        invalid_type_pkts_rcvd = "invalid-type-pkts-rcvd",
    }
}

counters! {
    /// What one virtual router received, refused and sent.
    RouterCounters {
        /// Changes to the state Active.
        master_transitions = "master-transitions",
        /// Accepted adverts, priority 0 included.
        advertisement_rcvd = "advertisement-rcvd",
        /// Adverts that the kernel took, priority 0 included.
        advertisement_sent = "advertisement-sent",
        /// Accepted adverts of priority 0.
        priority_zero_pkts_rcvd = "priority-zero-pkts-rcvd",
        /// Adverts of priority 0 that the kernel took.
        priority_zero_pkts_sent = "priority-zero-pkts-sent",
        /// Length does not fit the address count, or the count is 0.
        packet_length_errors = "packet-length-errors",
        /// Not an advertisement.
        invalid_type_pkts_rcvd = "invalid-type-pkts-rcvd",
        /// Interval 0, or not ours (version 3: accepted all the same).
        interval_errors = "interval-errors",
        /// Address list not ours (version 3: accepted all the same), or not starting link-local.
        address_list_errors = "address-list-errors",
        /// Version 2: authentication type unknown or not ours (RFC 2787).
        auth_type_errors = "auth-type-errors",
        /// Version 2: wrong password (RFC 2787).
        auth_failures = "auth-failures",
        /// Trailer of an unknown scheme, or reserved octets set.
        trailer_malformed = "trailer-malformed",
        /// Trailer with a time stamp outside the window.
        trailer_stale = "trailer-stale",
        /// Trailer made with a key id that is not configured.
        trailer_unknown_key = "trailer-unknown-key",
        /// Trailer whose tag does not verify.
        trailer_bad_tag = "trailer-bad-tag",
        /// Trailer with a sequence number that was seen before.
        trailer_replay = "trailer-replay",
        /// No trailer where one is required.
        trailer_missing = "trailer-missing",
    }
}

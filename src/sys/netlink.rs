//! What a netlink socket delivers: datagrams of route messages.
//!
//! Called by the kernel edge and by the checks. The lab reads with its own eyes.

use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

/// The decodable messages of one datagram; one with an attribute that the decoder does not understand is left out.
pub fn messages(
    mut octets: &[u8],
) -> impl Iterator<Item = (NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)> {
    std::iter::from_fn(move || {
        loop {
            let len = u32::from_ne_bytes(*octets.first_chunk()?) as usize;
            let this = octets.get(..len).filter(|m| m.len() >= 16)?;
            octets = octets.get(len.next_multiple_of(4)..).unwrap_or_default();
            if let Ok(m) = NetlinkMessage::deserialize(this) {
                return Some(m.into_parts());
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rubbish_gives_no_messages() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(messages(&[255; 64]).count(), 0);
    }
}

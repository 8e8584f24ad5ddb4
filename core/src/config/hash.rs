//! One stable 64-bit hash for names and for the meaning of a configuration.
//!
//! Used by `config` and by heartbeats, which name hosts and instances with it. It must never change:
//! hosts with different versions of vipd compare its values. Not for anything an attacker may choose.

/// FNV-1a, 64 bits, of `bytes`.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::stable_hash;

    #[test]
    fn published_values_of_fnv_1a() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(stable_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}

//! Which host stands where for each address of a pool: every host leads for an even share, and whoever
//! leaves, its share falls evenly on the others.
//!
//! Called by `read_pool`. Pure arithmetic on positions; it knows no names, priorities or health.

/// For each of `addresses`, all of `hosts` (at most 32) from the most to the least preferred one.
///
/// The first places are dealt in turn. Each later place goes, address by address, to the host that then
/// owns least if all hosts before it are gone. So the loads of the hosts that are left differ by at most
/// one after any one host has left; after several, as little as the places before allow. An address whose
/// owner stays never moves.
pub(super) fn rankings(hosts: usize, addresses: usize) -> Vec<Vec<usize>> {
    let mut rankings: Vec<Vec<usize>> = vec![Vec::with_capacity(hosts); addresses];
    for place in 0..hosts {
        // Groups of addresses whose places so far hold the same set of hosts: they are free at once.
        let mut gone_sets: Vec<u32> = rankings.iter().map(|r| set_of(r)).collect();
        gone_sets.sort_unstable();
        gone_sets.dedup();
        for gone in gone_sets {
            let mut load = loads(&rankings, hosts, gone);
            for (number, ranking) in rankings.iter_mut().enumerate() {
                if ranking.len() != place || set_of(ranking) != gone {
                    continue;
                }
                // Of equals the one next in turn, so that the ends of several short deals differ.
                let left = (0..hosts).filter(|host| gone & bit(*host) == 0);
                let next =
                    left.min_by_key(|host| (load[*host], (*host + hosts - number % hosts) % hosts));
                if let Some(next) = next {
                    ranking.push(next);
                    load[next] += 1;
                }
            }
        }
    }
    rankings
}

/// How many addresses each host owns when the hosts in `gone` have left, as far as it is decided.
fn loads(rankings: &[Vec<usize>], hosts: usize, gone: u32) -> Vec<usize> {
    let mut load = vec![0; hosts];
    for ranking in rankings {
        if let Some(owner) = ranking.iter().find(|host| gone & bit(**host) == 0) {
            load[*owner] += 1;
        }
    }
    load
}

fn set_of(hosts: &[usize]) -> u32 {
    hosts.iter().fold(0, |set, host| set | bit(*host))
}

fn bit(host: usize) -> u32 {
    u32::try_from(host).ok().and_then(|n| 1u32.checked_shl(n)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Owner of each address while the hosts in `gone` are away.
    fn owners(rankings: &[Vec<usize>], gone: u32) -> Vec<usize> {
        let owner = |r: &Vec<usize>| r.iter().copied().find(|h| gone & bit(*h) == 0).unwrap_or(99);
        rankings.iter().map(owner).collect()
    }

    fn spread(rankings: &[Vec<usize>], hosts: usize, gone: u32) -> usize {
        let load = loads(rankings, hosts, gone);
        let left = (0..hosts).filter(|h| gone & bit(*h) == 0).map(|h| load[h]);
        left.clone().max().unwrap_or(0) - left.min().unwrap_or(0)
    }

    #[test]
    fn twelve_addresses_on_three_hosts() {
        let rankings = rankings(3, 12);
        assert_eq!(loads(&rankings, 3, 0), [4, 4, 4]);
        assert_eq!(loads(&rankings, 3, 0b100), [6, 6, 0]);
        assert_eq!(loads(&rankings, 3, 0b010), [6, 0, 6]);
        assert_eq!(loads(&rankings, 3, 0b001), [0, 6, 6]);
    }

    #[test]
    fn even_with_all_hosts_and_without_any_one_of_them() {
        for hosts in 2..=5 {
            for addresses in 1..=64 {
                let rankings = rankings(hosts, addresses);
                for ranking in &rankings {
                    let mut all = ranking.clone();
                    all.sort_unstable();
                    assert_eq!(all, (0..hosts).collect::<Vec<_>>(), "a permutation");
                }
                assert!(spread(&rankings, hosts, 0) <= 1, "{addresses} on {hosts}");
                let before = owners(&rankings, 0);
                for gone in 0..hosts {
                    let what = format!("{addresses} on {hosts} without {gone}");
                    assert!(spread(&rankings, hosts, bit(gone)) <= 1, "{what}");
                    // Each address moves at most once, and only if its owner left; on return likewise.
                    for (was, is) in before.iter().zip(owners(&rankings, bit(gone))) {
                        assert!(*was == gone || *was == is, "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearly_even_without_any_two_of_them() {
        for hosts in 3..=5 {
            for addresses in [hosts * (hosts - 1), 12, 24, 60] {
                let rankings = rankings(hosts, addresses);
                for first in 0..hosts {
                    for second in (0..hosts).filter(|h| *h != first) {
                        let gone = bit(first) | bit(second);
                        assert!(
                            spread(&rankings, hosts, gone) <= 2,
                            "{addresses} on {hosts}: {gone:b}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_pool_is_ranked_at_once() {
        assert_eq!(rankings(32, 255).len(), 255);
    }
}

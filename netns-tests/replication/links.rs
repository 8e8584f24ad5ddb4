//! What is between two replicators: a slow link, one that is cut in the middle of a transfer, strangers at the port, another
//! key.

use super::files::snapshot;
use super::{SOON, elected, plan};
use crate::arena::{Arena, FIRST, SECOND, wait};
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use vipd_agent::lab::clock::{millis, now};

pub(super) fn a_cut_and_a_slow_link() {
    // Slower than what may be sent: 6 Mbit/s, with 50 ms of octets waiting at most; more are lost. The adverts go the same way.
    let arena = elected(plan("bandwidth = \"1MB/s\"\n"));
    let owner = arena.files(FIRST);
    arena.run(FIRST, "tc qdisc add dev eth0 root tbf rate 6mbit burst 16kb latency 50ms");
    // Nothing that compression could make smaller.
    let noise = |seed: u64, length: usize| -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            Some((state >> 32) as u8)
        };
        std::iter::from_fn(next).take(length).collect()
    };
    let (small, larger) = (noise(1, 2_000_000), noise(2, 8_000_000));
    let there =
        |content: &[u8]| fs::read(arena.files(SECOND).join("large")).is_ok_and(|c| c == content);
    let wait_there = |content: &[u8], what: &str| {
        let limit = now() + SOON * 4;
        while !there(content) {
            assert!(now() < limit, "{what}\n{}", arena.stage.logs(30));
            wait(Duration::from_millis(50));
        }
    };
    let since = now();
    fs::write(owner.join("large"), &small).unwrap();
    arena.wait_set(FIRST, "is behind", |set| set["rpo_ms"].as_u64().is_some_and(|ms| ms > 100));
    wait_there(&small, "a slow link");
    let took = millis(now().since(since)) / 1e3;
    let lost = dropped(&arena);
    println!("\n  2 MB over 6 Mbit/s: {took:.1} s, {lost} frames lost on the way");
    // The limit alone would make it two.
    assert!(took > 2.5, "the link is slow");
    assert!(lost > 0, "and loses what does not fit");
    assert_eq!(arena.moves(since), 0, "the address stays where it is");
    // The link goes in the middle of a transfer: the old tree stays, and the new one comes when the link is back.
    fs::write(owner.join("large"), &larger).unwrap();
    wait(Duration::from_millis(1500));
    arena.run(FIRST, "nft add table ip cut");
    arena.run(FIRST, "nft add chain ip cut out { type filter hook output priority 0 ; }");
    arena.run(FIRST, "nft add rule ip cut out tcp dport 7113 drop");
    wait(Duration::from_secs(2));
    assert!(there(&small), "the old tree is there");
    arena.run(FIRST, "nft delete table ip cut");
    wait_there(&larger, "after the cut");
    arena.run(FIRST, "tc qdisc del dev eth0 root");
    arena.wait_sync(FIRST);
    arena.close();
}

/// Frames that the link of the first host had no room for.
fn dropped(arena: &Arena) -> u64 {
    let shown = arena.run(FIRST, "tc -s -j qdisc show dev eth0 root");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    shown[0]["drops"].as_u64().unwrap()
}

pub(super) fn strangers_get_nothing_and_disturb_nothing() {
    let mut arena = elected(plan(""));
    let (owner, since) = (arena.files(FIRST), now());
    let before = snapshot(&arena.files(SECOND));
    let target = "192.0.2.12:7113";
    // Callers that speak the protocol: one whose key is another (a call is a fresh public key, and a tag that only the
    // right key makes), releases from before the first format and from after ours, a call that ends in the middle.
    let call = |format: [u8; 2]| {
        let key_and_tag = (0..48_u8).map(|n| n.wrapping_mul(37) ^ 0x5a);
        [b"vipr".as_slice(), &format, &[0, 48]].concat().into_iter().chain(key_and_tag).collect()
    };
    let calls: [(Vec<u8>, &str); 4] = [
        (call([2, 2]), "key"),
        (call([2, 2])[..20].to_vec(), "key"),
        // No more than is read before it is refused: what is left unread would reset the connection.
        (call([0, 0])[..6].to_vec(), "format"),
        (call([9, 9])[..6].to_vec(), "format"),
    ];
    for (octets, kind) in calls {
        let client = arena.stage.room().client();
        let said = client.run(move || {
            let mut stream = std::net::TcpStream::connect(target)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(&octets)?;
            let mut said = Vec::new();
            std::io::Read::read_to_end(&mut stream, &mut said)?;
            Ok(said)
        });
        // Only that it is another format, so that an operator can be told; and nothing else.
        let wanted: &[u8] = if kind == "format" { b"vipr\x02\x02" } else { b"" };
        assert_eq!(said.unwrap(), wanted, "{kind}");
        // The same from the same address is counted once a minute.
        let counted = |set: &Value| set["errors"][kind].as_u64().is_some_and(|count| count > 0);
        arena.wait_set(SECOND, "counts the stranger", counted);
    }
    // At the same port of the standby: garbage, silence, a flood.
    arena
        .stage
        .room()
        .client()
        .run(move || {
            let mut quiet = Vec::new();
            for n in 0..400_usize {
                let Ok(mut stream) = std::net::TcpStream::connect(target) else { continue };
                let _ = stream.set_write_timeout(Some(Duration::from_millis(200)));
                let octets: Vec<u8> = (0..n * 7).map(|k| (k * n) as u8).collect();
                let _ = stream.write_all(&octets);
                if n % 3 == 0 {
                    quiet.push(stream);
                }
            }
            Ok(())
        })
        .unwrap();
    let alarms = arena.set(SECOND)["alarms"].clone();
    fs::write(owner.join("after"), "the flood\n").unwrap();
    let took = arena.wait_content(SECOND, "after", "the flood\n").since(since);
    assert!(alarms.is_null(), "strangers are no alarm: {alarms}");
    let after = snapshot(&arena.files(SECOND));
    let news: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(news.len(), 1, "nothing but what the owner sent: {news:?}");
    let errors = arena.set(SECOND)["errors"].clone();
    println!("\n  flooded for {:.0} ms; the standby counts {errors}", millis(took));
    // A replicator with another key, as after a change of keys that one host missed.
    let config = arena.stage.agent(SECOND).config();
    let right = fs::read_to_string(&config).unwrap();
    let key = right.lines().find_map(|line| line.strip_prefix("key-file = \"")?.strip_suffix('"'));
    let wrong = config.with_file_name("wrong.key");
    fs::write(&wrong, format!("{}\n", "5a".repeat(32))).unwrap();
    fs::set_permissions(&wrong, PermissionsExt::from_mode(0o600)).unwrap();
    let restart = |arena: &mut Arena, text: &str| {
        fs::write(&config, text).unwrap();
        arena.stage.replicator_mut(SECOND).stop().unwrap();
        arena.stage.start_replicator(SECOND).unwrap();
    };
    restart(&mut arena, &right.replace(key.unwrap(), wrong.to_str().unwrap()));
    fs::write(owner.join("secret"), "for members\n").unwrap();
    for ix in [FIRST, SECOND] {
        let counted = |set: &Value| set["errors"]["key"].as_u64().is_some_and(|count| count > 0);
        arena.wait_set(ix, "counts the wrong key", counted);
    }
    wait(Duration::from_secs(2));
    assert!(!arena.files(SECOND).join("secret").exists(), "without the key nothing comes");
    let set = arena.wait_set(FIRST, "says so", |set| set["peers"][0]["connected"] == false);
    assert_eq!(set["peers"][0]["in_sync"], false, "{set:#}");
    restart(&mut arena, &right);
    arena.wait_content(SECOND, "secret", "for members\n");
    assert_eq!(arena.moves(since), 0);
    arena.wait_sync(FIRST);
    arena.close();
}

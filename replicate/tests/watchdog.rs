//! What the program tells the service manager: it is alive as long as its main loop is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

const CONFIG: &str = "[hosts.a]\n[instance.web]\nvrid = 51\ninterface = \"lo\"\n\
    addresses = [\"192.0.2.10/24\"]\npriority = { a = 150 }\n";
/// Between two pings, as the program has it.
const BEAT: Duration = Duration::from_secs(5);

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

#[test]
fn the_watchdog_is_pinged_by_the_main_loop_and_by_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("vipd.toml"), CONFIG).unwrap();
    let socket = UnixDatagram::bind(path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut told: Vec<String> = Vec::new();
    // Listens until `enough`, at most `limit`.
    let mut listen = |limit: Duration, enough: &dyn Fn(&[String]) -> bool| {
        let (until, mut buffer) = (SystemTime::now() + limit, [0; 4096]);
        while SystemTime::now() < until && !enough(&told) {
            if let Ok(length) = socket.recv(&mut buffer) {
                told.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
            }
        }
        told.clone()
    };
    let count = |told: &[String], line: &str| told.iter().filter(|said| *said == line).count();
    let pings = |told: &[String]| count(told, "WATCHDOG=1");
    let program = Command::new(env!("CARGO_BIN_EXE_vipd-replicate"))
        .args(["--host", "a", "--config"])
        .arg(path("vipd.toml"))
        .arg("--runtime-dir")
        .arg(path("run"))
        .arg("--state-dir")
        .arg(path("state"))
        .env("NOTIFY_SOCKET", path("notify"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let program = Program(program);
    let said = listen(10 * BEAT, &|told| pings(told) >= 2);
    assert!(pings(&said) >= 2, "{said:?}");
    // Ready first: what a crash left may take long; then the interval, with the first ping.
    let at = |line: &str| said.iter().position(|said| said == line).unwrap();
    assert!(at("READY=1") < at("WATCHDOG_USEC=30000000"), "{said:?}");
    assert!(at("WATCHDOG_USEC=30000000") < at("WATCHDOG=1"), "{said:?}");
    assert_eq!(count(&said, "WATCHDOG_USEC=30000000"), 1, "{said:?}");
    // A hung one does not ping, and goes on when it goes on.
    program.signal("STOP");
    let before = listen(Duration::from_millis(200), &|_| false).len();
    assert_eq!(listen(2 * BEAT, &|_| false).len(), before);
    program.signal("CONT");
    let before = pings(&said);
    let said = listen(10 * BEAT, &|told| pings(told) > before);
    assert!(pings(&said) > before, "{said:?}");
}

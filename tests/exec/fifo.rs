//! Lines into FIFOs, read or not.

use crate::stage::{Stage, occasion, wait};
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;
use vipd_agent::exec::protocol::{End, Event, Occasion, Subject, Which};

pub(crate) fn fifo(stage: &Stage) {
    let path = stage.dir.join("notify.fifo");
    stage.list("fifo", "f", 0, "-", &path);
    let runner = stage.runner();
    let group = Occasion {
        subject: Subject::Group,
        name: "G 1".into(),
        priority: 0,
        ..occasion(Event::Backup)
    };
    let lines = [
        group.clone(),
        occasion(Event::Backup),
        occasion(Event::Active),
        Occasion { event: Event::Active, ..group },
        Occasion { priority: 1, ..occasion(Event::Fault) },
        occasion(Event::Stop),
    ];
    for line in lines {
        assert!(runner.line("f", line));
    }
    stage.runtime.block_on(runner.leave(Vec::new(), Duration::from_secs(5)));
    wait("the FIFO", Duration::from_secs(5), || path.exists());
    let want = "GROUP \"G 1\" BACKUP 0\nINSTANCE \"web\" BACKUP 150\nINSTANCE \"web\" MASTER 150\n\
                GROUP \"G 1\" MASTER 0\nINSTANCE \"web\" FAULT 1\nINSTANCE \"web\" STOP 150\n";
    let mut reader =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut got = Vec::new();
    wait("the lines", Duration::from_secs(5), || {
        let mut buffer = [0; 4096];
        if let Ok(read) = reader.read(&mut buffer) {
            got.extend_from_slice(&buffer[..read]);
        }
        got.len() >= want.len()
    });
    assert_eq!(String::from_utf8(got).unwrap(), want);
}

pub(crate) fn fifo_unread(stage: &Stage) {
    let path = stage.dir.join("notify.fifo");
    stage.list("fifo", "f", 0, "-", &path);
    let hook = stage.script("hook", "exit 0");
    stage.list("hook", "h", 5000, "-", &hook);
    let runner = stage.runner();
    // 64 KiB of pipe and 1024 lines of backlog, and as much again.
    for _ in 0..60 {
        for _ in 0..100 {
            assert!(runner.line("f", occasion(Event::Active)));
        }
        stage.runtime.block_on(runner.leave(Vec::new(), Duration::from_secs(5)));
    }
    assert_eq!(stage.run(&runner, Which::Hook("h".into())).end, End::Exited(0));
    let mut reader =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let mut got = String::new();
    wait("the backlog", Duration::from_secs(5), || {
        let mut buffer = [0; 65536];
        if let Ok(read) = reader.read(&mut buffer) {
            got.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        got.lines().count() > 3000
    });
    assert!(got.lines().all(|line| line == "INSTANCE \"web\" MASTER 150"));
}

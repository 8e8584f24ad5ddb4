//! What is not run, what cannot be run, and as whom the rest runs.

use crate::stage::Stage;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use vipd_agent::exec::protocol::{End, Which};

pub(crate) fn writable(stage: &Stage) {
    let folder = stage.dir.join("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let path = stage.script("open/hook", "echo pwned");
    stage.list("hook", "h", 1000, "-", &path);
    let done = stage.run(&stage.runner(), Which::Hook("h".into()));
    let End::Refused(reason) = &done.end else { panic!("{done:?}") };
    assert!(reason.contains(&format!("chmod go-w {}", folder.display())), "{reason}");
    assert_eq!(done.output, "");
}

pub(crate) fn not_configured(stage: &Stage) {
    let path = stage.script("hook", "echo hello");
    stage.list("hook", "h", 1000, "-", &path);
    let runner = stage.runner();
    for which in [
        Which::Hook("/bin/sh".into()),
        Which::Check("h".into()),
        Which::Activation("web".into()),
        Which::Activation("h".into()),
    ] {
        let done = stage.run(&runner, which);
        assert!(matches!(done.end, End::Refused(_)), "{done:?}");
    }
}

pub(crate) fn not_started(stage: &Stage) {
    let plain = stage.script("plain", "exit 0");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
    let rubbish = stage.dir.join("rubbish");
    fs::write(&rubbish, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&rubbish, fs::Permissions::from_mode(0o755)).unwrap();
    stage.list("check", "plain", 1000, "-", &plain);
    stage.list("check", "rubbish", 1000, "-", &rubbish);
    let runner = stage.runner();
    for name in ["plain", "rubbish"] {
        let done = stage.run(&runner, Which::Check(name.into()));
        assert!(matches!(done.end, End::NotStarted(_)), "{done:?}");
    }
}

pub(crate) fn users(stage: &Stage) {
    let path = stage.script("who", "id -u; id -g; id -G; echo $USER $HOME");
    stage.list("hook", "default", 5000, "-", &path);
    stage.list("hook", "daemon", 5000, "daemon", &path);
    stage.list("hook", "root", 5000, "root", &path);
    stage.list("hook", "none", 5000, "no-such-user", &path);
    let runner = stage.runner();
    let said = |name: &str| stage.run(&runner, Which::Hook(name.into()));
    assert!(said("default").output.starts_with("65534\n"), "{:?}", said("default"));
    assert!(said("daemon").output.starts_with("1\n1\n1"), "{:?}", said("daemon"));
    assert!(said("daemon").output.contains("daemon /usr/sbin"));
    assert!(said("root").output.starts_with("0\n0\n"));
    let End::Refused(reason) = said("none").end else { panic!("{:?}", said("none")) };
    assert!(reason.contains("no-such-user"), "{reason}");
}

pub(crate) fn no_process(stage: &Stage) {
    let path = stage.script("check", "exit 2");
    stage.list("check", "c", 1000, "-", &path);
    // A user of its own, so that the limit counts nobody else's processes.
    std::os::unix::fs::chown(&stage.dir, Some(54_321), None).unwrap();
    std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
    let limit =
        ["/usr/bin/setpriv", "--reuid=54321", "--clear-groups", "/usr/bin/prlimit", "--nproc=1"];
    let done = stage.run(&stage.runner_by(&limit), Which::Check("c".into()));
    let End::NotStarted(reason) = &done.end else { panic!("{done:?}") };
    assert!(reason.contains("temporarily unavailable"), "{reason}");
}

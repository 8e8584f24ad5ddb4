//! try
use vipd::lab::{room::Room, topology::Topology};
fn main() -> anyhow::Result<std::process::ExitCode> {
    if let Room::Done(code) = Room::enter()? { return Ok(code); }
    let t0 = std::time::Instant::now();
    let mut t = Topology::build(3)?;
    eprintln!("built {:?}", t0.elapsed());
    t.host(0).ns()?.run(|| { std::process::Command::new("sh").arg("-c").arg("hostname; ip -br a; ping -c1 -W1 192.0.2.12; ping -6 -c1 -W1 2001:db8::12; ls /run").status()?; Ok(()) })?;
    let t0 = std::time::Instant::now();
    t.power_off(1)?;
    eprintln!("off {:?}", t0.elapsed());
    Ok(0.into())
}

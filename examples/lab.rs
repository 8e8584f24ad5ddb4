//! try
use std::time::Duration;
use vipd::lab::{
    agent::*, clock::now, observe::Eyes, plan::*, probe::Prober, room::Room, topology::*,
};
fn main() -> anyhow::Result<std::process::ExitCode> {
    if let Room::Done(code) = Room::enter()? {
        return Ok(code);
    }
    let t0 = std::time::Instant::now();
    let plan =
        Plan { interval: Duration::from_millis(100), families: Families::Dual, ..Plan::default() };
    let t = Topology::build(2)?;
    let eyes = Eyes::open(&t, plan.vips())?;
    let mut agents = vec![];
    for ix in 0..2 {
        let mut a = Agent::prepare(Kind::Keepalived, &plan, ix)?;
        a.start(t.host(ix).ns()?)?;
        agents.push(a);
    }
    eprintln!("built {:?}", t0.elapsed());
    let vip = plan.vips()[0];
    let p = Prober::start(t.client(), vip, 1)?;
    let p6 = Prober::start(t.client(), plan.vips()[1], 2)?;
    eprintln!("{:?}", eyes.wait_holders(vip, &[0], Duration::from_secs(5)));
    eprintln!("{:?}", p.wait_answer(Duration::from_secs(5)));
    eprintln!("{}", agents[0].log_tail(30));
    std::thread::sleep(Duration::from_secs(2));
    let from = now();
    std::thread::sleep(Duration::from_secs(1));
    let calm = p.outage(from, now());
    eprintln!("{:?}", calm);
    let from = now();
    agents[0].stop(t.host(0).ns()?, Duration::from_secs(3))?;
    eprintln!("{:?}", eyes.wait_holders(vip, &[1], Duration::from_secs(5)));
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("{:?}", p.outage(from, now()));
    eprintln!("{:?}", p6.outage(from, now()));
    eprintln!("{:?}", eyes.seen());
    let from = now();
    agents[0].start(t.host(0).ns()?)?;
    eprintln!("{:?}", eyes.wait_holders(vip, &[0], Duration::from_secs(5)));
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("{:?}", p.outage(from, now()));
    let from = now();
    agents[0].crash(t.host(0).ns()?)?;
    eprintln!("{:?}", eyes.wait_holders(vip, &[0, 1], Duration::from_secs(5)));
    std::thread::sleep(Duration::from_secs(1));
    eprintln!("{:?}", p.outage(from, now()));
    Ok(0.into())
}

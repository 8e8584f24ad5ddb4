//! (scratch)
use crate::engine::real;
use crate::run::Case;

#[test]
#[ignore = "scratch"]
fn histogram() {
    let t = std::time::Instant::now();
    let n: u64 = std::env::var("N").ok().and_then(|x| x.parse().ok()).unwrap_or(2000);
    let found = crate::sweep::failures(0..n, usize::MAX, None, real);
    println!("{:?} {} of {n}", t.elapsed(), found.len());
    let mut by = std::collections::BTreeMap::<String, Vec<Case>>::new();
    for case in found {
        let v = case.run().violation.unwrap();
        by.entry(format!("{:?} hb={}", v.rule, case.scenario.heartbeats)).or_default().push(case);
    }
    for (k, v) in &by {
        println!("{k}: {} {:?}", v.len(), v.iter().take(12).map(|c| c.seed).collect::<Vec<_>>());
    }
    for (_, v) in by {
        // the smallest schedule
        let small =
            v.into_iter().take(12).min_by_key(|c| c.clone().shrink().schedule.0.len()).unwrap();
        println!("=====\n{}", small.report());
    }
}

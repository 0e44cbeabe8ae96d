//! The formulas, held to random arrivals.

use super::*;

const WAITS: Load = Load { rate: 1.0, latency: 1.0, cpu: 0.0, memory: 0 };

/// Requests of the same length whose pauses are exponential, `burst` at a time, for this many seconds: on average `rate` a second.
fn random(rate: f64, took: f64, burst: u32, seconds: f64) -> Vec<Arrival> {
    let mut random = fastrand::Rng::with_seed(7);
    let (mut at, mut arrivals) = (0.0, Vec::new());
    while at < seconds {
        at -= (1.0 - random.f64()).ln() * f64::from(burst) / rate;
        arrivals.extend((0..burst).map(|_| Arrival { at, took }));
    }
    arrivals
}

fn near(one: f64, other: f64, part: f64) -> bool {
    (one / other - 1.0).abs() < part
}

#[test]
fn independent_arrivals_find_a_slot_and_cost_what_the_formulas_say() {
    for (rate, latency, cpu, memory) in [
        (0.02, 0.2, 0.0, 0),
        (0.5, 0.3, 0.0, 0),
        (3.0, 4.0, 0.0, 64),
        (40.0, 0.5, 0.01, 64),
        (200.0, 0.1, 0.02, 16),
        (300.0, 1.0, 0.0, 32),
    ] {
        let load = Load { rate, latency, cpu, memory: memory << 20 };
        let random = self::random(rate, latency, 1, 40_000.0 / rate);
        let Ok(plan) = plan(&load, &[], 2048, 1.0) else { panic!("{load:?}") };
        let played = replay(&random, plan.instances as usize, plan.at_once as usize);
        let waited = played.waited as f64 / random.len() as f64;
        assert!(waited <= 0.001, "{load:?} {plan:?}: {waited}");
        let billed = played.billed / played.span * MONTH;
        assert!(near(plan.billed, billed, 0.1), "{load:?} {plan:?}: {billed}");
        assert!(plan.guests <= for_guests(2 << 30) && plan.billed <= f64::from(plan.instances) * MONTH);
    }
}

#[test]
fn a_log_of_bursts_is_planned_for_its_bursts() {
    let load = Load { rate: 20.0, latency: 0.5, memory: 64 << 20, ..WAITS };
    let bursts = random(load.rate, load.latency, 50, 2000.0);
    let waited = |plan: Plan| {
        let played = replay(&bursts, plan.instances as usize, plan.at_once as usize);
        played.waited as f64 / bursts.len() as f64
    };
    let of = |arrivals| plan(&load, arrivals, 2048, 1.0).expect("it fits");
    let (formula, measured) = (of(&[]), of(&bursts));
    assert!(waited(formula) > 0.1, "as many wait as a plan without the log does not expect");
    assert!(waited(measured) <= 0.001, "{measured:?}");
    assert!(measured.instances > formula.instances);
}

#[test]
fn what_was_measured_of_the_demonstration_costs_what_the_page_says() {
    // docs/cost.md: a million requests of one second, 16 at the same time on one instance, 62,708 s, $3.66 with 2048 MB.
    let wave = |second: u32| (0..16).map(move |_| Arrival { at: f64::from(second) * 1.1, took: 1.0 });
    let waves: Vec<_> = (0..100).flat_map(wave).collect();
    let Replay { waited, billed, .. } = replay(&waves, 1, 16);
    assert_eq!((waited, billed.round()), (0, 100.0));
    let dollars = billed * 1e6 / 1600.0 * 2.0 * GB_SECOND + 1e6 * EXECUTION;
    assert!(near(dollars, 3.66, 0.01), "{dollars}");
}

#[test]
fn a_period_is_billed_for_a_second_and_then_in_steps() {
    let billed = |took: f64| replay(&[Arrival { at: 5.0, took }], 1, 1).billed;
    assert!(near(billed(0.01), 1.0, 1e-9) && near(billed(1.0), 1.0, 1e-9) && near(billed(1.01), 1.1, 1e-9));
    // What comes within the second is paid.
    let two = [Arrival { at: 0.0, took: 0.1 }, Arrival { at: 0.9, took: 0.3 }];
    assert!(near(replay(&two, 1, 1).billed, 1.2, 1e-9));
    // One that finds no slot begins when the other ends.
    let two = [Arrival { at: 0.0, took: 2.0 }, Arrival { at: 1.0, took: 2.0 }];
    assert_eq!(replay(&two, 1, 1), Replay { waited: 1, billed: replay(&two, 1, 1).billed, span: 4.0 });
}

#[test]
fn memory_and_cores_bound_what_an_instance_takes() {
    let at_once = |cpu, memory: u64, size, cores| {
        plan(&Load { cpu, memory: memory << 20, ..WAITS }, &[], size, cores).map(|plan| plan.at_once)
    };
    assert_eq!(at_once(0.0, 0, 2048, 1.0), Ok(1000));
    assert_eq!(at_once(0.0, 100, 2048, 1.0), Ok(12));
    assert_eq!(at_once(0.1, 1, 2048, 1.0), Ok(7));
    assert_eq!(at_once(0.1, 1, 4096, 2.0), Ok(14));
    assert!(at_once(0.0, 300, 512, 0.25).is_err_and(|why| why == "guests get 212 MB together"));
    let flood = plan(&Load { rate: 1e6, cpu: 0.1, ..WAITS }, &[], 2048, 1.0);
    assert!(flood.is_err_and(|why| why.ends_with("the plan starts 1000 at most")));
}

#[test]
fn a_log_tells_when_requests_came_and_how_long_they_ran() {
    let line = |time: &str, more: &str| {
        format!("{time} INFO invocation: function=f id=a outcome=\"answered\"{more} sent_bytes=1\n")
    };
    let ran = " instance=1 slot=0 queue_ms=50.000 total_ms=250.000";
    let log = [
        line("2026-11-29T06:00:03.000000Z", " queue_ms=0.000 total_ms=9.000"),
        line("2026-11-29T06:00:02.000000Z", ran),
        line("2026-11-29T06:00:01.250000Z", ran),
    ];
    let log = crate::timeline::log::read(log.concat().as_bytes()).expect("a log");
    let two = arrivals(&log);
    assert_eq!(two.len(), 2);
    assert!(near(two[1].at - two[0].at, 0.75, 1e-4) && near(two[0].took, 0.2, 1e-3), "{two:?}");
    let (rate, latency) = averages(&two).expect("it takes time");
    assert!(near(rate, 2.0 / 0.95, 1e-3) && near(latency, 0.2, 1e-3), "{rate} {latency}");
    assert_eq!(averages(&[]), None);
}

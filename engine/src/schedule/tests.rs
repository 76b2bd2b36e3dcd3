//! The tables against numbers from diffusers.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use super::*;

fn table() -> AlphaTable {
    AlphaTable::new(&SchedulerConfig::default())
}

fn settings(sampler: Sampler, strength_rule: StrengthRule, steps: u32, strength: f64) -> ScheduleSettings {
    ScheduleSettings { sampler, strength_rule, steps, strength, eta: 0.3 }
}

fn timesteps(sampler: Sampler, rule: StrengthRule, steps: u32, strength: f64) -> Vec<f64> {
    let settings = settings(sampler, rule, steps, strength);
    Schedule::new(&SchedulerConfig::default(), settings).unwrap().timesteps()
}

#[test]
fn alphas_of_the_stable_diffusion_family() {
    let vectors = [
        (0, 0.999575, 0.029155, 0.029167),
        (99, 0.946289, 0.323322, 0.341674),
        (249, 0.821847, 0.569708, 0.693205),
        (299, 0.769534, 0.638605, 0.829860),
        (499, 0.526944, 0.849900, 1.612886),
        (679, 0.309813, 0.950798, 3.068943),
        (999, 0.068265, 0.997667, 14.614641),
    ];
    for (t, alpha, beta, sigma) in vectors {
        // The vectors have six digits after the point.
        assert!((table().alpha(t) - alpha).abs() < 1e-6, "alpha at {t}: {}", table().alpha(t));
        assert!((table().beta(t) - beta).abs() < 1e-6, "beta at {t}: {}", table().beta(t));
        assert!((table().sigma(t) - sigma).abs() < 1e-5, "sigma at {t}: {}", table().sigma(t));
    }
}

#[test]
fn lcm_timesteps() {
    let rows: [(f64, [&[f64]; 4]); 6] = [
        (1.0, [&[999.], &[999., 499.], &[999., 679., 339.], &[999., 759., 499., 259.]]),
        (0.9, [&[899.], &[899., 459.], &[899., 599., 299.], &[899., 679., 459., 239.]]),
        (0.8, [&[799.], &[799., 399.], &[799., 539., 279.], &[799., 599., 399., 199.]]),
        (0.7, [&[699.], &[699., 359.], &[699., 479., 239.], &[699., 539., 359., 179.]]),
        (0.5, [&[499.], &[499., 259.], &[499., 339., 179.], &[499., 379., 259., 139.]]),
        (0.3, [&[299.], &[299., 159.], &[299., 199., 99.], &[299., 239., 159., 79.]]),
    ];
    for (strength, by_steps) in rows {
        for (n, expected) in (1..).zip(by_steps) {
            assert_eq!(timesteps(Sampler::Lcm, StrengthRule::Lcm, n, strength), expected, "{strength} {n}");
        }
    }
}

#[test]
fn img2img_rule_drops_the_first_steps() {
    assert_eq!(timesteps(Sampler::Lcm, StrengthRule::Img2Img, 4, 0.5), [499., 259.]);
    assert_eq!(timesteps(Sampler::Lcm, StrengthRule::Img2Img, 4, 1.0), [999., 759., 499., 259.]);
}

#[test]
fn euler_timesteps() {
    let all = |n| timesteps(Sampler::Euler, StrengthRule::Lcm, n, 1.0);
    assert_eq!(all(1), [999.]);
    assert_eq!(all(2), [999., 499.]);
    assert_eq!(all(3), [999., 666., 332.]);
    assert_eq!(all(4), [999., 749., 499., 249.]);
    let some = |n, s| timesteps(Sampler::Euler, StrengthRule::Lcm, n, s);
    assert_eq!(some(2, 0.5), [499.]);
    assert_eq!(some(3, 0.34), [332.]);
    assert_eq!(some(4, 0.25), [249.]);
    assert_eq!(some(4, 0.75), [749., 499., 249.]);
}

#[test]
fn a_perfect_prediction_gives_the_picture_back() {
    let (z, n) = (0.7, -1.3);
    for sampler in [Sampler::Lcm, Sampler::Euler, Sampler::Tcd] {
        for prediction in [Prediction::Epsilon, Prediction::Velocity] {
            let config = SchedulerConfig { prediction, ..SchedulerConfig::default() };
            let schedule = Schedule::new(&config, settings(sampler, StrengthRule::Lcm, 1, 0.999)).ok();
            let settings = settings(sampler, StrengthRule::Lcm, 2, 1.0);
            let schedule = schedule.unwrap_or_else(|| Schedule::new(&config, settings).unwrap());
            let step = schedule.steps[0];
            let x = schedule.start[0] * z + schedule.start[1] * n;
            let (alpha, beta) = (table().alpha(step.timestep as u32), table().beta(step.timestep as u32));
            let output = match prediction {
                Prediction::Epsilon => n,
                Prediction::Velocity => alpha * n - beta * z,
            };
            let denoised = step.denoised[0] * x + step.denoised[1] * output;
            // The LCM boundary condition keeps c_skip = 0.25/(10t)² < 1e-7 of x.
            assert!((denoised - z).abs() < 1e-6, "{sampler:?} {prediction:?}: {denoised}");
        }
    }
}

#[test]
fn the_last_step_returns_the_denoised_latents() {
    for sampler in [Sampler::Lcm, Sampler::Euler] {
        let settings = settings(sampler, StrengthRule::Lcm, 3, 1.0);
        let schedule = Schedule::new(&SchedulerConfig::default(), settings).unwrap();
        let last = schedule.steps[2];
        assert!((last.next[0] - last.denoised[0]).abs() < 1e-12);
        assert!((last.next[1] - last.denoised[1]).abs() < 1e-12);
        assert_eq!(last.next[2], 0.0);
    }
}

#[test]
fn residual_noise_carries_the_source_to_the_next_sample() {
    // Source, noise in x_t, noise that was taken out, fresh noise.
    let [z0, s, taken, z] = [0.7, -1.3, 0.4, 0.9];
    for sampler in [Sampler::Lcm, Sampler::Euler, Sampler::Tcd] {
        for eta in [0.0, 0.3, 1.0] {
            let settings = ScheduleSettings { eta, ..settings(sampler, StrengthRule::Lcm, 3, 1.0) };
            let schedule = Schedule::new(&SchedulerConfig::default(), settings).unwrap();
            for (step, next) in schedule.steps.iter().zip(&schedule.steps[1..]) {
                let at = |step: &Step, noise: f64| {
                    let t = step.timestep as u32;
                    let [alpha, beta] = [table().alpha(t), table().beta(t)];
                    // Euler's samples are x/α.
                    if sampler == Sampler::Euler {
                        z0 + beta / alpha * noise
                    } else {
                        alpha * z0 + beta * noise
                    }
                };
                let reached = step.next[0] * at(step, s) + step.next[1] * taken + step.next[2] * z;
                let s_next = step.residual[0] * s + step.residual[1] * taken + step.residual[2] * z;
                // The LCM boundary condition keeps less than 1e-7 of x.
                assert!((reached - at(next, s_next)).abs() < 1e-6, "{sampler:?} {eta}: {reached}");
            }
        }
    }
}

#[test]
fn tcd_follows_the_trajectory_and_noises_by_eta() {
    let schedule = |eta: f64| {
        let settings = ScheduleSettings { eta, ..settings(Sampler::Tcd, StrengthRule::Lcm, 4, 1.0) };
        Schedule::new(&SchedulerConfig::default(), settings)
    };
    assert_eq!(schedule(0.3).unwrap().timesteps(), [999., 759., 499., 259.]);
    // Without eta nothing is random: DDIM's step.
    let step = schedule(0.0).unwrap().steps[0];
    let [alpha, beta] = [table().alpha(999), table().beta(999)];
    let [to_alpha, to_beta] = [table().alpha(759), table().beta(759)];
    assert!((step.next[0] - to_alpha / alpha).abs() < 1e-12 && step.next[2].abs() < 1e-7, "{step:?}");
    assert!((step.next[1] - (to_beta - to_alpha * beta / alpha)).abs() < 1e-12, "{step:?}");
    // With all of it each step starts at timestep 0.
    let step = schedule(1.0).unwrap().steps[0];
    let kept = to_alpha / table().alpha(0);
    assert!((step.next[2] - (1.0 - kept * kept).sqrt()).abs() < 1e-12, "{step:?}");
    // The last one ends there, too.
    let last = schedule(0.3).unwrap().steps[3];
    assert!((last.next[0] - table().alpha(0) / table().alpha(259)).abs() < 1e-12, "{last:?}");
    assert_eq!(last.next[2], 0.0);
    assert!(schedule(1.5).unwrap_err().to_string().contains("eta is 1.5"));
}

#[test]
fn errors_say_what_is_wrong() {
    let message = |steps, strength| {
        let settings = settings(Sampler::Lcm, StrengthRule::Lcm, steps, strength);
        Schedule::new(&SchedulerConfig::default(), settings).unwrap_err().to_string()
    };
    assert!(message(0, 0.5).contains("steps is 0"));
    assert!(message(1, f64::NAN).contains("strength is NaN"));
    assert!(message(1, -0.1).contains("strength is -0.1"));
    assert!(message(1, 1.01).contains("0..=1"));
    assert!(message(4, 0.05).contains("4 steps at strength 0.05"));
    assert!(message(1, 0.0).contains("strength 0"));
    assert!(message(u32::MAX, 1.0).contains("4294967295 steps"));
}

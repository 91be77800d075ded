//! What happened in a glasshouse on a day, before anyone writes about it: drawn so that the rules hold.

use arable_core::Draws;

use super::ontology::Ontology;
use super::rules::{Cause, Climate, Crop, Rules, Stage};

/// How likely the climate is one that favours the cause.
const FAVOURED: f64 = 0.8;
/// Share of inspections that also find a sign of something else.
const STRAY_SIGN: f64 = 0.35;

/// One day in one crop.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    pub crop: &'a Crop,
    pub stage: &'a Stage,
    /// Week of the year, from 1, and day of the week, from 0.
    pub week: usize,
    pub weekday: usize,
    pub climate: &'a Climate,
    /// Degrees Celsius.
    pub temperature: usize,
    /// Percent.
    pub humidity: usize,
    /// What ails the crop.
    pub cause: Option<&'a Cause>,
    /// What can be seen of it, the plainest first.
    pub signs: Vec<&'a str>,
    /// What is done about it.
    pub decision: Option<Decision<'a>>,
}

/// A treatment that is allowed, and perhaps one that was not.
#[derive(Clone, Debug)]
pub struct Decision<'a> {
    pub treatment: &'a str,
    pub forbidden: Option<Forbidden<'a>>,
    /// The beneficial that was released last, and how many days ago.
    pub released: Option<(&'a str, usize)>,
    /// Days until the next picking.
    pub days_to_harvest: Option<usize>,
}

/// A spray that could not be used.
#[derive(Clone, Copy, Debug)]
pub struct Forbidden<'a> {
    pub spray: &'a str,
    pub why: Why,
}

/// Which rule forbids a spray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Release,
    Harvest,
}

/// Draws a day on which `cause` strikes, or a quiet one.
pub fn scene<'a>(rules: &'a Rules, ontology: &'a Ontology, cause: Option<&'a Cause>, draws: &mut Draws) -> Scene<'a> {
    let crop = match cause {
        Some(cause) => weighted(cause.crops.iter().map(|name| rules.crop(name)).map(|crop| (crop, crop.weight)), draws),
        None => weighted(rules.crop.iter().map(|crop| (crop, crop.weight)), draws),
    };
    let stage = weighted(rules.stage.iter().map(|stage| (stage, (stage.weeks[1] - stage.weeks[0]) as f64)), draws);
    let climate = draw_climate(rules, cause, draws);
    let signs = cause.map(|cause| draw_signs(rules, cause, crop, stage, draws)).unwrap_or_default();
    let decision = cause.and_then(|cause| decide(rules, ontology, cause, stage, draws));
    Scene {
        crop,
        stage,
        week: between([stage.weeks[0], stage.weeks[1] - 1], draws),
        weekday: draws.below(7),
        climate,
        temperature: between(climate.temperature, draws),
        humidity: between(climate.humidity, draws),
        cause,
        signs,
        decision,
    }
}

/// One of `items` by weight.
///
/// # Panics
/// When there is none.
pub fn weighted<T>(items: impl IntoIterator<Item = (T, f64)>, draws: &mut Draws) -> T {
    let mut items: Vec<(T, f64)> = items.into_iter().collect();
    let total: f64 = items.iter().map(|(_, weight)| weight).sum();
    let mut left = draws.uniform() * total;
    let idx = items.iter().position(|(_, weight)| {
        left -= weight;
        left < 0.0
    });
    items.swap_remove(idx.unwrap_or(0)).0
}

fn between(range: [usize; 2], draws: &mut Draws) -> usize {
    range[0] + draws.below(range[1] - range[0] + 1)
}

fn draw_climate<'a>(rules: &'a Rules, cause: Option<&Cause>, draws: &mut Draws) -> &'a Climate {
    let name = match cause {
        Some(cause) if draws.uniform() < FAVOURED => weighted(cause.climates.iter().map(|(name, w)| (name, *w)), draws),
        _ => return &rules.climate[draws.below(rules.climate.len())],
    };
    rules.climate.iter().find(|climate| climate.name == *name).expect("causes name known climates")
}

/// One to three signs of `cause` that can show here, at times with a stray one of something else.
fn draw_signs<'a>(rules: &'a Rules, cause: &'a Cause, crop: &Crop, stage: &Stage, draws: &mut Draws) -> Vec<&'a str> {
    let count = weighted([(1, 1.0), (2, 4.0), (3, 3.0)], draws);
    let shows = |sign: &str| rules.can_show(sign, crop, stage);
    let mut open: Vec<(&str, f64)> =
        cause.signs.iter().filter(|(sign, _)| shows(sign)).map(|(sign, weight)| (sign.as_str(), *weight)).collect();
    let mut signs = Vec::new();
    while signs.len() < count && !open.is_empty() {
        let sign = weighted(open.iter().copied(), draws);
        open.retain(|(name, _)| *name != sign);
        signs.push(sign);
    }
    if draws.uniform() < STRAY_SIGN {
        let other = &rules.cause[draws.below(rules.cause.len())];
        let stray = weighted(other.signs.iter().map(|(sign, weight)| (sign.as_str(), *weight)), draws);
        if shows(stray) && !signs.contains(&stray) {
            signs.push(stray);
        }
    }
    signs
}

/// The first treatment, in a drawn order, that no rule forbids.
fn decide<'a>(
    rules: &'a Rules,
    ontology: &'a Ontology,
    cause: &'a Cause,
    stage: &Stage,
    draws: &mut Draws,
) -> Option<Decision<'a>> {
    let beneficials = ontology.leaves("beneficial");
    let released = (draws.uniform() < 0.5).then(|| (beneficials[draws.below(beneficials.len())], 1 + draws.below(18)));
    let days_to_harvest = (stage.name == "harvest").then(|| 1 + draws.below(6));
    let mut order: Vec<&str> = cause.treatments.iter().map(String::as_str).collect();
    draws.shuffle(&mut order);
    let mut forbidden = None;
    for treatment in order {
        match why_forbidden(rules, treatment, released.map(|(_, ago)| ago), days_to_harvest) {
            None => return Some(Decision { treatment, forbidden, released, days_to_harvest }),
            Some(why) => forbidden = Some(Forbidden { spray: treatment, why }),
        }
    }
    None
}

/// Which rule forbids `treatment`, if one does.
pub fn why_forbidden(
    rules: &Rules,
    treatment: &str,
    released_days_ago: Option<usize>,
    days_to_harvest: Option<usize>,
) -> Option<Why> {
    let spray = rules.spray(treatment)?;
    if released_days_ago.is_some_and(|ago| ago < spray.days_after_release) {
        return Some(Why::Release);
    }
    days_to_harvest.is_some_and(|days| days < spray.days_before_harvest).then_some(Why::Harvest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::glasshouse::tests::sources;
    use arable_core::Seed;

    #[test]
    fn scenes_keep_the_rules() {
        let sources = sources();
        let (rules, mut num_forbidden) = (&sources.rules, 0);
        for idx in 0..2000 {
            let cause = &rules.cause[idx % rules.cause.len()];
            let mut draws = Seed(3).stream("scenes").at(idx as u64, 0);
            let scene = scene(rules, &sources.ontology, Some(cause), &mut draws);
            assert!(cause.crops.contains(&scene.crop.name) && !scene.signs.is_empty());
            assert!(scene.signs.iter().all(|sign| rules.can_show(sign, scene.crop, scene.stage)));
            let Some(decision) = scene.decision else { continue };
            let ago = decision.released.map(|(_, ago)| ago);
            assert_eq!(why_forbidden(rules, decision.treatment, ago, decision.days_to_harvest), None);
            num_forbidden += usize::from(decision.forbidden.is_some());
        }
        assert!(num_forbidden > 100, "rules that never bite show nothing");
    }
}

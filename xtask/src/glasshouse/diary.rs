//! A scene to sentences: which facts a grower writes down, in which order, in whose hand.

use std::collections::BTreeMap;

use anyhow::Result;
use arable_core::{Draws, Seed};

use super::Sources;
use super::grammar::{Bound, Expander, Forms};
use super::words::{Hand, Word, type_sentence, words};
use super::world::{Scene, Why};

/// How many growers keep a diary.
pub const NUM_GROWERS: usize = 32;

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Names the cause, as most diaries do.
    Named,
    /// Never names it.
    Unnamed,
}

/// Sentences of one entry.
pub type Entry = Vec<Vec<Word>>;

/// Who writes.
pub struct Grower {
    seed: Seed,
    hand: Hand,
    place: usize,
    date: usize,
    unit: usize,
}

/// The grower with number `idx`.
pub fn grower(seed: Seed, idx: usize) -> Grower {
    let mut draws = seed.stream("growers").at(idx as u64, 0);
    let sometimes = |draws: &mut Draws, value: f64| if draws.uniform() < 0.4 { value } else { 0.0 };
    Grower {
        seed: seed.child(&format!("grower {idx}")),
        hand: Hand {
            slip: 0.012 * draws.uniform(),
            abbreviate: sometimes(&mut draws, 0.7),
            drop_article: sometimes(&mut draws, 0.6),
            capitals: draws.uniform() < 0.8,
        },
        place: draws.below(4),
        date: draws.below(4),
        unit: draws.below(4),
    }
}

/// Writes the entry.
///
/// # Errors
/// When the grammar cannot express the scene.
pub fn write(
    sources: &Sources,
    scene: &Scene,
    grower: &Grower,
    purpose: Purpose,
    forms: Forms,
    mut draws: Draws,
) -> Result<Entry> {
    let bound = bind(sources, scene, grower, &mut draws);
    let typing = Draws::clone(&draws);
    let (grammar, ontology) = (&sources.grammar, &sources.ontology);
    let expander = Expander { grammar, ontology, bound, draws, grower: grower.seed, forms };
    let mut writer = Writer { expander, sentences: Vec::new() };
    match (scene.cause, purpose) {
        (None, _) => writer.quiet_day(scene)?,
        (Some(_), Purpose::Named) => writer.named(scene)?,
        (Some(_), Purpose::Unnamed) => writer.unnamed(scene)?,
    }
    let mut typing = typing;
    let sentences = writer.sentences.into_iter();
    Ok(sentences.map(|marked| type_sentence(words(&marked), grower.hand, &grammar.abbreviation, &mut typing)).collect())
}

struct Writer<'a> {
    expander: Expander<'a>,
    sentences: Vec<String>,
}

impl Writer<'_> {
    fn say(&mut self, kind: &str) -> Result<()> {
        let sentence = self.expander.sentence(kind)?;
        self.sentences.push(sentence);
        Ok(())
    }

    fn maybe(&mut self, chance: f64, kind: &str) -> Result<()> {
        if self.expander.draws.uniform() < chance { self.say(kind) } else { Ok(()) }
    }

    fn bind_sign(&mut self, slot: &'static str, sign: &str) -> Result<()> {
        let phrase = self.expander.sign(sign)?;
        self.expander.bound.insert(slot, Bound::Text(phrase));
        Ok(())
    }

    fn opening(&mut self, scene: &Scene) -> Result<()> {
        self.maybe(0.85, "header")?;
        self.maybe(0.2, "aside")?;
        self.maybe(0.2, growth_of(scene))?;
        self.maybe(0.65, "climate")
    }

    fn quiet_day(&mut self, scene: &Scene) -> Result<()> {
        self.opening(scene)?;
        self.say("clean")?;
        self.maybe(0.7, "aside")?;
        self.maybe(0.6, "growth")?;
        self.maybe(0.4, "clean")?;
        self.maybe(0.4, "trace")?;
        self.maybe(0.6, "aside")
    }

    fn named(&mut self, scene: &Scene) -> Result<()> {
        self.opening(scene)?;
        let (first, rest) = scene.signs.split_first().expect("a cause leaves signs");
        if self.expander.draws.uniform() < 0.65 {
            self.bind_sign("s", first)?;
            self.say("name_sign")?;
            self.observe(rest)?;
        } else {
            self.observe(&scene.signs)?;
            self.say("name")?;
        }
        self.forbidden(scene)?;
        if scene.decision.is_some() {
            self.maybe(0.45, "action_named")?;
            self.maybe(0.35, "action")?;
        }
        self.maybe(0.35, "outcome_named")?;
        self.maybe(0.25, "outcome")?;
        self.maybe(0.1, "trace")?;
        self.maybe(0.25, "aside")
    }

    fn unnamed(&mut self, scene: &Scene) -> Result<()> {
        self.opening(scene)?;
        self.observe(&scene.signs)?;
        if self.expander.draws.uniform() < 0.3 && scene.decision.is_some() {
            self.say("action")?;
            self.maybe(0.3, "outcome")?;
        } else {
            self.maybe(0.5, "unsure")?;
        }
        self.maybe(0.25, "aside")
    }

    fn observe(&mut self, signs: &[&str]) -> Result<()> {
        let in_pairs = self.expander.draws.uniform() < 0.5;
        for chunk in signs.chunks(if in_pairs { 2 } else { 1 }) {
            self.bind_sign("s", chunk[0])?;
            match chunk.get(1) {
                Some(second) => {
                    self.bind_sign("t", second)?;
                    self.say("observe_two")?;
                }
                None => self.say("observe")?,
            }
        }
        Ok(())
    }

    fn forbidden(&mut self, scene: &Scene) -> Result<()> {
        match scene.decision.as_ref().and_then(|decision| decision.forbidden) {
            Some(forbidden) if forbidden.why == Why::Release => self.maybe(0.6, "forbidden_release"),
            Some(_) => self.maybe(0.6, "forbidden_harvest"),
            None => Ok(()),
        }
    }
}

/// The kind of sentence that tells how the crop grows: about what it bears at this stage.
fn growth_of(scene: &Scene) -> &'static str {
    let bears =
        |organ: &str| [&scene.crop.has, &scene.stage.has].iter().all(|has| has.iter().any(|name| name == organ));
    match scene.weekday % 2 {
        0 if bears("fruit") => "growth_fruit",
        0 if bears("flower") => "growth_flower",
        _ => "growth",
    }
}

fn bind(sources: &Sources, scene: &Scene, grower: &Grower, draws: &mut Draws) -> BTreeMap<&'static str, Bound> {
    let mut bound = BTreeMap::new();
    let mut text = |slot, value| bound.insert(slot, Bound::Text(value));
    text("place", place(grower.place, draws));
    text("day", day(scene, grower.date));
    text("week", scene.week.to_string());
    text("temp", temperature(scene.temperature, grower.unit));
    text("rh", if grower.unit == 3 { scene.humidity.to_string() } else { format!("{} %", scene.humidity) });
    let mut term = |slot, name: &str| bound.insert(slot, Bound::Term(name.to_owned()));
    term("crop", &scene.crop.name);
    term("stage", &scene.stage.name);
    term("climate", &scene.climate.name);
    let causes = &sources.rules.cause;
    term("other", &causes[draws.below(causes.len())].name);
    for (slot, class) in [("pest", "pest"), ("disease", "disease"), ("released", "beneficial")] {
        let names = sources.ontology.leaves(class);
        term(slot, names[draws.below(names.len())]);
    }
    if let Some(cause) = scene.cause {
        term("cause", &cause.name);
    }
    if let Some(decision) = &scene.decision {
        term("treatment", decision.treatment);
        if let Some((released, _)) = decision.released {
            term("released", released);
        }
        if let Some(forbidden) = decision.forbidden {
            term("spray", forbidden.spray);
            let days = match forbidden.why {
                Why::Release => decision.released.map(|(_, ago)| ago),
                Why::Harvest => decision.days_to_harvest,
            };
            bound.insert("ago", Bound::Text(days.expect("the rule that forbids counts days").to_string()));
        }
    }
    bound
}

fn place(style: usize, draws: &mut Draws) -> String {
    let (house, row) = (1 + draws.below(6), 1 + draws.below(48));
    match style {
        0 => format!("bay {row}"),
        1 => format!("house {house}, row {row}"),
        2 => format!("GH{house} row {row}"),
        _ => format!("block {}", char::from(b'A' + house as u8)),
    }
}

fn temperature(celsius: usize, style: usize) -> String {
    match style {
        0 => format!("{celsius} C"),
        1 => format!("{celsius} degrees"),
        2 => format!("{} F", celsius * 9 / 5 + 32),
        _ => celsius.to_string(),
    }
}

/// The day as the grower writes it.
fn day(scene: &Scene, style: usize) -> String {
    let (month, day) = month_and_day(scene.week, scene.weekday);
    let name = MONTHS[month - 1].0;
    match style {
        0 => format!("{day} {name}"),
        1 => format!("{day:02}/{month:02}"),
        2 => format!("{name} {day}"),
        _ => format!("{day}.{month}"),
    }
}

const MONTHS: [(&str, usize); 12] = [
    ("Jan", 31),
    ("Feb", 28),
    ("Mar", 31),
    ("Apr", 30),
    ("May", 31),
    ("Jun", 30),
    ("Jul", 31),
    ("Aug", 31),
    ("Sep", 30),
    ("Oct", 31),
    ("Nov", 30),
    ("Dec", 31),
];

/// Month and day, both from 1, of day `weekday` (from 0) in `week` (from 1) of a year that begins with its first week.
pub fn month_and_day(week: usize, weekday: usize) -> (usize, usize) {
    let mut day = (week - 1) * 7 + weekday;
    for (idx, (_, length)) in MONTHS.iter().enumerate() {
        if day < *length {
            return (idx + 1, day + 1);
        }
        day -= length;
    }
    (12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_become_dates() {
        assert_eq!(month_and_day(1, 0), (1, 1));
        assert_eq!(month_and_day(6, 0), (2, 5));
        assert_eq!(month_and_day(52, 6), (12, 30));
    }
}

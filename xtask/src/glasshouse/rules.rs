//! `rules.toml`: which cause strikes where, what it leaves behind, what helps, and what is forbidden.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::ontology::Ontology;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub stage: Vec<Stage>,
    pub crop: Vec<Crop>,
    pub climate: Vec<Climate>,
    pub sign_needs: Vec<SignNeeds>,
    pub cause: Vec<Cause>,
    pub spray: Vec<Spray>,
}

/// A growth stage: which weeks it spans and what a plant bears in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    pub name: String,
    /// First week, and the week after the last.
    pub weeks: [usize; 2],
    pub has: Vec<String>,
}

/// A crop: what it bears, and how often it is grown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    pub name: String,
    pub has: Vec<String>,
    pub weight: f64,
}

/// A climate: ranges of day temperature (degrees Celsius) and relative humidity (percent).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Climate {
    pub name: String,
    pub temperature: [usize; 2],
    pub humidity: [usize; 2],
}

/// Signs that only show on plants which bear an organ.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignNeeds {
    pub organ: String,
    pub signs: Vec<String>,
}

/// A pest or a disease.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    pub name: String,
    pub crops: Vec<String>,
    pub climates: BTreeMap<String, f64>,
    pub signs: BTreeMap<String, f64>,
    pub treatments: Vec<String>,
}

/// When a spray is forbidden.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spray {
    pub name: String,
    /// Forbidden for so many days after beneficial insects were released.
    pub days_after_release: usize,
    /// Forbidden when picking is due within so many days.
    pub days_before_harvest: usize,
}

impl Rules {
    /// Reads TOML text and checks every name against the ontology.
    ///
    /// # Errors
    /// When the text is malformed or a name is not the name of a term of the right kind.
    pub fn parse(text: &str, ontology: &Ontology) -> Result<Self> {
        let rules: Self = toml::from_str(text)?;
        for (name, kind) in rules.mentions() {
            ensure!(ontology.is_a(ontology.term(name)?, kind), "`{name}` is not a {kind}");
        }
        rules.check_stages()?;
        Ok(rules)
    }

    /// Whether `sign` can show on `crop` at `stage`.
    pub fn can_show(&self, sign: &str, crop: &Crop, stage: &Stage) -> bool {
        let needs = self.sign_needs.iter().filter(|rule| rule.signs.iter().any(|name| name == sign));
        needs.into_iter().all(|rule| crop.has.contains(&rule.organ) && stage.has.contains(&rule.organ))
    }

    /// The crop called `name`.
    pub fn crop(&self, name: &str) -> &Crop {
        self.crop.iter().find(|crop| crop.name == name).expect("causes name known crops")
    }

    /// The rule for `treatment`, when it is a spray.
    pub fn spray(&self, treatment: &str) -> Option<&Spray> {
        self.spray.iter().find(|spray| spray.name == treatment)
    }

    /// Every name in the file with the class that it must belong to.
    fn mentions(&self) -> Vec<(&str, &'static str)> {
        let mut mentions = Vec::new();
        mentions.extend(self.stage.iter().map(|stage| (stage.name.as_str(), "growth stage")));
        mentions.extend(self.crop.iter().map(|crop| (crop.name.as_str(), "crop")));
        mentions.extend(self.climate.iter().map(|climate| (climate.name.as_str(), "climate")));
        mentions.extend(self.spray.iter().map(|spray| (spray.name.as_str(), "spray")));
        let bears = self.stage.iter().map(|stage| &stage.has).chain(self.crop.iter().map(|crop| &crop.has));
        mentions.extend(bears.flatten().map(|organ| (organ.as_str(), "organ")));
        for rule in &self.sign_needs {
            mentions.push((rule.organ.as_str(), "organ"));
            mentions.extend(rule.signs.iter().map(|sign| (sign.as_str(), "symptom")));
        }
        for cause in &self.cause {
            mentions.extend(cause.crops.iter().map(|crop| (crop.as_str(), "crop")));
            mentions.extend(cause.climates.keys().map(|climate| (climate.as_str(), "climate")));
            mentions.extend(cause.signs.keys().map(|sign| (sign.as_str(), "symptom")));
            mentions.extend(cause.treatments.iter().map(|treatment| (treatment.as_str(), "treatment")));
        }
        mentions
    }

    fn check_stages(&self) -> Result<()> {
        for pair in self.stage.windows(2) {
            ensure!(pair[0].weeks[1] == pair[1].weeks[0], "`{}` must follow `{}`", pair[1].name, pair[0].name);
        }
        for cause in &self.cause {
            let known = |name: &String| self.crop.iter().any(|crop| crop.name == *name);
            ensure!(cause.crops.iter().all(known), "`{}` names a crop without a rule", cause.name);
        }
        Ok(())
    }
}

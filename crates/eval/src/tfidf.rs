//! Texts as weighted counts of words and word pairs.

use std::collections::HashMap;

use arable_core::Input;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sparse::Rows;

/// What becomes a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VectorizerConfig {
    /// Texts that a feature must occur in.
    pub min_df: usize,
    /// Features kept at most: those in most texts, of equals the alphabetically first.
    pub max_features: usize,
    /// Pairs of marks that enclose entities. Marks are words of their own, and words from the end of one marked entity
    /// to the start of the next are features a second time.
    pub markers: Vec<[String; 2]>,
}

impl Default for VectorizerConfig {
    fn default() -> Self {
        let markers = [["<<", ">>"], ["[[", "]]"]].map(|pair| pair.map(str::to_owned)).to_vec();
        Self { min_df: 2, max_features: 50_000, markers }
    }
}

/// TF-IDF over words and pairs of neighbouring words, learnt from training texts.
///
/// Equal to scikit-learn's `TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)` on texts without markers:
/// lower case, words of two or more letters, digits or underscores, weight `(1 + ln tf) * (ln((1 + n) / (1 + df)) + 1)`,
/// rows of length 1. Only `max_features` differs: it goes by texts, not by occurrences.
///
/// The second text of a pair has features of its own.
pub struct Vectorizer {
    markers: Vec<[String; 2]>,
    columns: HashMap<String, u32>,
    /// By column.
    idf: Vec<f64>,
}

impl Vectorizer {
    /// Learns features and their weights.
    pub fn fit<'a>(inputs: impl IntoIterator<Item = &'a Input>, config: &VectorizerConfig) -> Self {
        let lower = |pair: &[String; 2]| pair.each_ref().map(|mark| mark.to_lowercase());
        let markers: Vec<[String; 2]> = config.markers.iter().map(lower).collect();
        let mut num_texts = 0;
        let mut frequencies: HashMap<String, usize> = HashMap::new();
        for input in inputs {
            num_texts += 1;
            let mut features = features(input, &markers);
            features.sort_unstable();
            features.dedup();
            features.into_iter().for_each(|feature| *frequencies.entry(feature).or_default() += 1);
        }
        let kept = most_frequent(frequencies, config.min_df, config.max_features);
        let idf = |df: usize| ((1.0 + num_texts as f64) / (1.0 + df as f64)).ln() + 1.0;
        Self {
            markers,
            idf: kept.iter().map(|(_, df)| idf(*df)).collect(),
            columns: kept.into_iter().enumerate().map(|(column, (feature, _))| (feature, column as u32)).collect(),
        }
    }

    /// Features.
    pub fn num_features(&self) -> usize {
        self.idf.len()
    }

    /// The column of a feature: a word, or two words with a space between.
    pub fn column(&self, feature: &str) -> Option<u32> {
        self.columns.get(feature).copied()
    }

    /// One row for each input; unknown features count for nothing.
    pub fn transform<'a>(&self, inputs: impl IntoIterator<Item = &'a Input>) -> Rows {
        let mut rows = Rows::new(self.num_features());
        inputs.into_iter().for_each(|input| rows.push(self.row(input)));
        rows
    }

    fn row(&self, input: &Input) -> Vec<(u32, f32)> {
        let mut columns: Vec<u32> =
            features(input, &self.markers).iter().filter_map(|feature| self.column(feature)).collect();
        columns.sort_unstable();
        let weight = |run: &[u32]| (run[0], (1.0 + (run.len() as f64).ln()) * self.idf[run[0] as usize]);
        let weights: Vec<(u32, f64)> = columns.chunk_by(|a, b| a == b).map(weight).collect();
        let length = weights.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
        weights.into_iter().map(|(column, weight)| (column, (weight / length) as f32)).collect()
    }
}

/// The features to keep with their frequencies, in alphabetical order.
fn most_frequent(frequencies: HashMap<String, usize>, min_df: usize, max_features: usize) -> Vec<(String, usize)> {
    let mut kept: Vec<(String, usize)> = frequencies.into_iter().filter(|(_, df)| *df >= min_df).collect();
    kept.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    kept.truncate(max_features);
    kept.sort_unstable();
    kept
}

/// Every feature of an input, as often as it occurs.
fn features(input: &Input, markers: &[[String; 2]]) -> Vec<String> {
    match input {
        Input::Pair(first, second) => {
            let mut features = text_features(first, markers);
            features.extend(text_features(second, markers).into_iter().map(|feature| format!("second={feature}")));
            features
        }
        _ => text_features(&input.text(), markers),
    }
}

fn text_features(text: &str, markers: &[[String; 2]]) -> Vec<String> {
    let text = text.to_lowercase();
    let tokens = tokens(&text, markers);
    let mut features = ngrams(&tokens);
    for between in between(&tokens, markers) {
        features.extend(ngrams(between).into_iter().map(|feature| format!("between={feature}")));
    }
    features
}

fn ngrams(tokens: &[&str]) -> Vec<String> {
    let pairs = tokens.windows(2).map(|pair| format!("{} {}", pair[0], pair[1]));
    tokens.iter().map(|&token| token.to_owned()).chain(pairs).collect()
}

/// Runs of two or more word characters, and marks.
fn tokens<'a>(text: &'a str, markers: &[[String; 2]]) -> Vec<&'a str> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let mark = markers.iter().flatten().find(|mark| !mark.is_empty() && rest.starts_with(mark.as_str()));
        let len = match mark {
            Some(mark) => mark.len(),
            None if in_word(first) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            None => first.len_utf8(),
        };
        let (token, after) = rest.split_at(len);
        if mark.is_some() || (in_word(first) && token.chars().nth(1).is_some()) {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// From each marked entity to the next, both marks included so that their order shows.
fn between<'t, 'a>(tokens: &'t [&'a str], markers: &[[String; 2]]) -> Vec<&'t [&'a str]> {
    let place = |mark: &String| tokens.iter().position(|token| token == mark);
    let mut marked: Vec<(usize, usize)> =
        markers.iter().filter_map(|[open, close]| Some((place(open)?, place(close)?))).collect();
    marked.sort_unstable();
    let gaps = marked.windows(2).filter(|pair| pair[0].1 < pair[1].0);
    gaps.map(|pair| &tokens[pair[0].1..=pair[1].0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_two_letters_and_marks_stand_alone() {
        let markers = VectorizerConfig::default().markers;
        assert_eq!(tokens("a p53, über_x >>-induced", &markers), ["p53", "über_x", ">>", "induced"]);
        assert_eq!(tokens("1 < 22 << 3", &markers), ["22", "<<"]);
    }

    #[test]
    fn words_between_entities_count_twice_and_show_order() {
        let markers = VectorizerConfig::default().markers;
        let found = text_features("we saw [[ Losartan ]] blocked << Ang II >> today", &markers);
        for feature in ["[[ losartan", "between=blocked", "between=]] blocked", "between=blocked <<"] {
            assert!(found.iter().any(|known| known == feature), "{feature} in {found:?}");
        }
        assert!(!found.contains(&"between=saw".to_owned()));
        assert!(!text_features("<< nested [[ x ]] >>", &markers).iter().any(|f| f.starts_with("between=")));
    }

    #[test]
    fn the_most_frequent_stay() {
        let inputs = ["red fish", "blue fish", "red bird"].map(|text| Input::Text(text.to_owned()));
        let config = VectorizerConfig { max_features: 3, min_df: 1, ..VectorizerConfig::default() };
        let vectorizer = Vectorizer::fit(&inputs, &config);
        assert_eq!(["bird", "fish", "red"].map(|word| vectorizer.column(word)), [Some(0), Some(1), Some(2)]);
        assert_eq!(vectorizer.transform(&[Input::Text("unknown words".into())]).row(0).count(), 0);
    }

    #[test]
    fn both_texts_of_a_pair_have_their_own_features() {
        let found = features(&Input::Pair("is it".into(), "it is".into()), &[]);
        assert_eq!(found, ["is", "it", "is it", "second=it", "second=is", "second=it is"]);
    }
}

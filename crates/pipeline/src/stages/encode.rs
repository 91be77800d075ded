//! From examples to what a model sees, and from its logits to predictions.

use anyhow::{Context, Result};
use arable_core::{Example, Input, LabelSet, Target};
use arable_corpus::TaskKind;
use arable_eval::{Predictions, TagSentence};
use arable_model::{Head, Model, Pooling};
use arable_tensor::Device;
use arable_tokenize::{Frame, Vocabulary};
use arable_train::adapt::{EncodedExample, EncodedTarget, predict};

use crate::advice::with_hint;

/// How a task's examples are encoded.
pub(crate) struct Encoder<'a> {
    pub vocabulary: &'a Vocabulary,
    pub labels: &'a LabelSet,
    pub kind: TaskKind,
    pub markers: &'a [String],
    pub max_length: usize,
    /// How a sequence becomes one vector.
    pub pooling: Pooling,
}

/// Encoded examples. A sentence that is too long for the model is several pieces.
pub(crate) struct EncodedSet {
    pub pieces: Vec<EncodedExample>,
    /// Which example each piece belongs to, rising.
    owners: Vec<usize>,
    num_examples: usize,
}

impl EncodedSet {
    /// The examples at `idxs`.
    pub fn select(&self, idxs: &[usize]) -> Self {
        let (mut pieces, mut owners) = (Vec::new(), Vec::new());
        for (new, &idx) in idxs.iter().enumerate() {
            let range =
                self.owners.partition_point(|&owner| owner < idx)..self.owners.partition_point(|&owner| owner <= idx);
            owners.extend(range.clone().map(|_| new));
            pieces.extend_from_slice(&self.pieces[range]);
        }
        Self { pieces, owners, num_examples: idxs.len() }
    }
}

impl Encoder<'_> {
    /// The head that the task needs.
    pub fn head(&self) -> Head {
        let num_labels = self.labels.len();
        match self.kind {
            TaskKind::Tagging => Head::Token { num_labels },
            _ if !self.markers.is_empty() => Head::Marked { num_labels, num_markers: self.markers.len() },
            _ => Head::Sequence { num_labels, pooling: self.pooling },
        }
    }

    /// Encodes examples in order.
    ///
    /// # Errors
    /// When an example has a label that the task does not know.
    pub fn encode(&self, examples: &[Example]) -> Result<EncodedSet> {
        let (mut pieces, mut owners) = (Vec::new(), Vec::new());
        for (idx, example) in examples.iter().enumerate() {
            let encoded = self.example(example).with_context(|| format!("encode example `{}`", example.id))?;
            owners.extend(encoded.iter().map(|_| idx));
            pieces.extend(encoded);
        }
        Ok(EncodedSet { pieces, owners, num_examples: examples.len() })
    }

    fn example(&self, example: &Example) -> Result<Vec<EncodedExample>> {
        match (&example.input, &example.target) {
            (Input::Words(words), Target::Tags(tags)) => self.tagged(words, tags),
            (input, target) => Ok(vec![self.classified(input, target)?]),
        }
    }

    fn label(&self, label: &str) -> Result<u32> {
        let unknown = || with_hint(format!("find label `{label}`"), "labels come from the training examples");
        Ok(self.labels.index(label).ok_or_else(unknown)? as u32)
    }

    fn classified(&self, input: &Input, target: &Target) -> Result<EncodedExample> {
        let (Frame { between, .. }, room) = (self.vocabulary.frame(), self.room());
        let (ids, positions, second_from) = match input {
            Input::Pair(first, second) => {
                let (mut a, b) = (self.vocabulary.encode(first).ids, self.vocabulary.encode(second).ids);
                let room = room - between.len();
                a.truncate((self.room() / 2).max(room.saturating_sub(b.len())));
                let b = &b[..b.len().min(room - a.len())];
                let ids = self.framed(&[a.as_slice(), between, b].concat());
                let second_from = self.vocabulary.frame().start.len() + a.len() + between.len();
                (ids, Vec::new(), Some(second_from))
            }
            _ => {
                let ids = self.vocabulary.encode_marked(&input.text()).ids;
                let (start, positions) = self.marked_window(&ids, room)?;
                (self.framed(&ids[start..(start + room).min(ids.len())]), positions, None)
            }
        };
        let target = match target {
            Target::Class(label) => EncodedTarget::Class(self.label(label)?),
            Target::Classes(labels) => {
                let mut switches = vec![0.0; self.labels.len()];
                for label in labels {
                    switches[self.label(label)? as usize] = 1.0;
                }
                EncodedTarget::Classes(switches)
            }
            Target::Tags(_) => anyhow::bail!("tag a text that is not cut into words"),
        };
        Ok(EncodedExample { ids, positions, second_from, target })
    }

    /// Tokens of text in a sequence, at most.
    fn room(&self) -> usize {
        let Frame { start, end, .. } = self.vocabulary.frame();
        self.max_length - start.len() - end.len()
    }

    /// A sequence with the special tokens around it: at least one token.
    fn framed(&self, ids: &[u32]) -> Vec<u32> {
        let Frame { start, end, .. } = self.vocabulary.frame();
        let framed = [start, ids, end].concat();
        if framed.is_empty() { vec![self.vocabulary.filler_id()] } else { framed }
    }

    /// Where to begin so that every marker is among `room` tokens, and where the markers then are (behind the first special
    /// tokens).
    /// Markers too far apart are moved to the window's end.
    fn marked_window(&self, ids: &[u32], room: usize) -> Result<(usize, Vec<usize>)> {
        let find = |marker: &String| {
            let id = self.vocabulary.special_id(marker).with_context(|| format!("find marker `{marker}`"))?;
            ids.iter().position(|&found| found == id).with_context(|| format!("find `{marker}` in the text"))
        };
        let at: Vec<usize> = self.markers.iter().map(find).collect::<Result<_>>()?;
        let (Some(&first), Some(&last)) = (at.iter().min(), at.iter().max()) else { return Ok((0, Vec::new())) };
        let spare = room.saturating_sub(last + 1 - first);
        let before = self.vocabulary.frame().start.len();
        let start = first.saturating_sub(spare / 2).min(ids.len().saturating_sub(room));
        Ok((start, at.into_iter().map(|at| (at - start).min(room - 1) + before).collect()))
    }

    fn tagged(&self, words: &[String], tags: &[String]) -> Result<Vec<EncodedExample>> {
        let (ids, firsts) = self.vocabulary.encode_words(words);
        let ends = firsts.iter().skip(1).copied().chain([ids.len()]);
        let spans: Vec<(usize, usize)> = firsts.iter().copied().zip(ends).collect();
        let (room, before) = (self.room(), self.vocabulary.frame().start.len());
        let (mut pieces, mut word) = (Vec::new(), 0);
        while word < words.len() {
            let start = spans[word].0;
            let fits = spans[word..].iter().take_while(|(_, end)| end - start <= room).count().max(1);
            let piece = &spans[word..word + fits];
            let end = piece[fits - 1].1.min(start + room);
            let tags = tags[word..word + fits].iter().map(|tag| self.label(tag)).collect::<Result<_>>()?;
            pieces.push(EncodedExample {
                ids: self.framed(&ids[start..end]),
                positions: piece.iter().map(|(first, _)| first - start + before).collect(),
                second_from: None,
                target: EncodedTarget::Tags(tags),
            });
            word += fits;
        }
        Ok(pieces)
    }

    /// What `model` says of `set`, beside the answers.
    pub fn predict(&self, model: &Model, device: &Device, set: &EncodedSet) -> Result<Predictions> {
        self.predictions(set, predict(model, device, &set.pieces))
    }

    /// The logits of each piece of `set`, beside the answers.
    pub fn predictions(&self, set: &EncodedSet, logits: Vec<Vec<f32>>) -> Result<Predictions> {
        let targets = set.pieces.iter().map(|piece| &piece.target);
        let k = self.labels.len();
        Ok(match self.kind {
            TaskKind::Classification => {
                let gold = targets.map(|target| if let EncodedTarget::Class(class) = target { *class } else { 0 });
                Predictions::class(k, logits.concat(), gold.collect())?
            }
            TaskKind::Multilabel => {
                let switches = targets.flat_map(|target| match target {
                    EncodedTarget::Classes(each) => each.as_slice(),
                    _ => &[],
                });
                Predictions::multilabel(k, logits.concat(), switches.map(|&on| on > 0.5).collect())?
            }
            TaskKind::Tagging => {
                let empty = || TagSentence { logits: Vec::new(), gold: Vec::new() };
                let mut sentences: Vec<TagSentence> = (0..set.num_examples).map(|_| empty()).collect();
                for ((logits, target), &owner) in logits.iter().zip(targets).zip(&set.owners) {
                    sentences[owner].logits.extend_from_slice(logits);
                    if let EncodedTarget::Tags(tags) = target {
                        sentences[owner].gold.extend_from_slice(tags);
                    }
                }
                Predictions::tagging(self.labels.names().to_vec(), sentences)?
            }
        })
    }
}

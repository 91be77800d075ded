//! Entity spans in IOB2 tags: reading them, and decoding tags that hold together.

/// One entity: words `start..end` of kind `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span<'a> {
    /// Index of the first word.
    pub start: usize,
    /// One past the index of the last word.
    pub end: usize,
    /// What follows the dash of the tag.
    pub kind: &'a str,
}

/// What a tag says about its word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark<'a> {
    Outside,
    Begin(&'a str),
    Inside(&'a str),
}

fn mark(tag: &str) -> Mark<'_> {
    match tag.split_once('-') {
        Some(("B", kind)) => Mark::Begin(kind),
        Some(("I", kind)) => Mark::Inside(kind),
        _ => Mark::Outside,
    }
}

/// The entities in a sentence's tags, in order.
///
/// Read as by the CoNLL-2000 script `conlleval` and by `seqeval` in its default mode: an `I-X` that follows no `B-X` or
/// `I-X` begins an entity too. Tags without a `B-` or `I-` prefix lie outside.
pub fn spans<'a>(tags: impl IntoIterator<Item = &'a str>) -> Vec<Span<'a>> {
    let mut spans: Vec<Span<'a>> = Vec::new();
    let mut open = false;
    for (i, tag) in tags.into_iter().enumerate() {
        match (mark(tag), spans.last_mut()) {
            (Mark::Outside, _) => open = false,
            (Mark::Inside(kind), Some(last)) if open && last.kind == kind => last.end = i + 1,
            (Mark::Begin(kind) | Mark::Inside(kind), _) => {
                spans.push(Span { start: i, end: i + 1, kind });
                open = true;
            }
        }
    }
    spans
}

/// The likeliest tags of a sentence among those that IOB2 allows: `I-X` only after `B-X` or `I-X`.
///
/// `logits` is words x `tags.len()`. Viterbi (1967) over sums of logits: normalising each word would add a constant to
/// every path, so the result does not depend on the temperature. Tags without a `B-` or `I-` prefix go anywhere. Where
/// a tag set has no `I-` tag this is the largest logit of each word.
pub fn decode_tags(tags: &[String], logits: &[f32]) -> Vec<usize> {
    let num_tags = tags.len();
    let allowed = allowed(tags);
    let mut steps: Vec<Vec<usize>> = Vec::new();
    let mut scores: Vec<f64> = Vec::new();
    for row in logits.chunks_exact(num_tags) {
        let (next, from) = (0..num_tags)
            .map(|tag| {
                let (score, from) = match scores.as_slice() {
                    [] if starts(&tags[tag]) => (0.0, 0),
                    [] => (f64::NEG_INFINITY, 0),
                    before => best(before, |earlier| allowed[earlier * num_tags + tag]),
                };
                (score + f64::from(row[tag]), from)
            })
            .unzip();
        scores = next;
        steps.push(from);
    }
    trace(&steps, best(&scores, |_| true).1)
}

fn starts(tag: &str) -> bool {
    !matches!(mark(tag), Mark::Inside(_))
}

/// Whether tag `j` may follow tag `i`, at `i * k + j`.
fn allowed(tags: &[String]) -> Vec<bool> {
    let follows = |before: &str, after: &str| match (mark(before), mark(after)) {
        (Mark::Begin(kind) | Mark::Inside(kind), Mark::Inside(next)) => kind == next,
        (_, after) => !matches!(after, Mark::Inside(_)),
    };
    tags.iter().flat_map(|before| tags.iter().map(|after| follows(before, after))).collect()
}

/// The largest score among those that count, with its index; the first of equals.
fn best(scores: &[f64], counts: impl Fn(usize) -> bool) -> (f64, usize) {
    let among = scores.iter().copied().enumerate().filter(|&(i, _)| counts(i));
    among.fold((f64::NEG_INFINITY, 0), |best, (i, score)| if score > best.0 { (score, i) } else { best })
}

fn trace(steps: &[Vec<usize>], last: usize) -> Vec<usize> {
    let mut path = vec![last; steps.len()];
    for i in (1..steps.len()).rev() {
        path[i - 1] = steps[i][path[i]];
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_conlleval() {
        let found = spans(["I-A", "I-A", "B-A", "I-B", "O", "I-B", "B-B", "I-B"]);
        let bounds: Vec<_> = found.iter().map(|span| (span.start, span.end, span.kind)).collect();
        assert_eq!(bounds, [(0, 2, "A"), (2, 3, "A"), (3, 4, "B"), (5, 6, "B"), (6, 8, "B")]);
    }

    #[test]
    fn decoding_is_the_best_allowed_path() {
        let tags: Vec<String> = ["B-A", "B-B", "I-A", "I-B", "O"].map(String::from).to_vec();
        let mut draws = arable_core::Seed(3).stream("decode").at(0, 0);
        for _ in 0..50 {
            let logits: Vec<f32> = (0..4 * 5).map(|_| draws.normal() as f32).collect();
            let score = |path: &[usize]| -> f64 {
                path.iter().enumerate().map(|(word, &tag)| f64::from(logits[word * 5 + tag])).sum()
            };
            let paths = (0..5usize.pow(4)).map(|n| [n % 5, n / 5 % 5, n / 25 % 5, n / 125]);
            let legal = |path: &[usize; 4]| {
                starts(&tags[path[0]]) && path.windows(2).all(|pair| allowed(&tags)[pair[0] * 5 + pair[1]])
            };
            let best = paths.filter(legal).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
            assert_eq!(decode_tags(&tags, &logits), best);
        }
        assert!(decode_tags(&tags, &[]).is_empty());
    }

    #[test]
    fn a_tag_set_of_insides_still_decodes() {
        assert_eq!(decode_tags(&["I-A".to_owned()], &[0.0, 1.0]), [0, 0]);
    }
}

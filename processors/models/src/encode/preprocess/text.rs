//! Texts: a bag of words, hashed into so many numbers, by how rare each is.

use millstream_core::{Error, Result};
use twox_hash::XxHash3_64;

use super::column::{Cell, Prepare};
use crate::encode::{Feature, TextEncoding};
use crate::onnx::{Graph, Value};
use crate::tensors::Tensors;

/// How often each word is in a text, times how rare it is, brought to the length 1: scikit-learn's `HashingVectorizer` with `alternate_sign = False` and behind
/// it the `TfidfTransformer`, whose rarity of a number that is in `d` of `n` texts so far is `ln((1 + n) / (1 + d)) + 1`. Hashes are other ones.
#[derive(Clone, Debug)]
pub(super) struct Text {
    settings: TextEncoding,
    /// How many texts there were.
    rows: u64,
    /// By number, in how many texts one of its words was.
    counts: Vec<u64>,
}

impl Text {
    pub fn new(settings: TextEncoding) -> Self {
        Self { settings, rows: 0, counts: vec![0; settings.numbers as usize] }
    }

    /// Calls for each word, and for each run of words up to the longest, with the number that it counts for.
    fn each(&self, text: &str, mut found: impl FnMut(usize)) {
        let text = text.to_lowercase();
        let words: Vec<&str> = text
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .filter(|word| !word.is_empty())
            .collect();
        let (longest, numbers) = (self.settings.words as usize, u64::from(self.settings.numbers));
        for start in 0..words.len() {
            let mut hash = 0;
            for word in words[start..].iter().take(longest) {
                hash = XxHash3_64::oneshot_with_seed(hash, word.as_bytes());
                found((hash % numbers) as usize);
            }
        }
    }

    fn rarity(&self, number: usize) -> f64 {
        if !self.settings.idf {
            return 1.0;
        }
        libm::log((1 + self.rows) as f64 / (1 + self.counts[number]) as f64) + 1.0
    }
}

impl Prepare for Text {
    fn width(&self) -> usize {
        self.counts.len()
    }

    fn apply(&self, cell: Cell<'_>, into: &mut [f64]) {
        into.fill(0.0);
        let Cell::Text(Some(text)) = cell else { return };
        self.each(text, |number| into[number] += 1.0);
        let mut square = 0.0;
        for (number, value) in into.iter_mut().enumerate().filter(|(_, value)| **value > 0.0) {
            *value *= self.rarity(number);
            square += *value * *value;
        }
        if square > 0.0 {
            let length = square.sqrt();
            into.iter_mut().for_each(|value| *value /= length);
        }
    }

    fn learn(&mut self, cell: Cell<'_>, _target: f64) {
        let Cell::Text(Some(text)) = cell else { return };
        if !self.settings.idf {
            return;
        }
        let mut numbers = Vec::new();
        self.each(text, |number| numbers.push(number));
        numbers.sort_unstable();
        numbers.dedup();
        self.rows += 1;
        numbers.into_iter().for_each(|number| self.counts[number] += 1);
    }

    fn save(&self, feature: &str, tensors: &mut Tensors) {
        tensors.put_u64(&format!("preprocess.texts.{feature}"), &[self.rows]);
        tensors.put_u64(&format!("preprocess.with_word.{feature}"), &self.counts);
    }

    fn load(&mut self, feature: &str, tensors: &Tensors) -> Result<()> {
        let rows = tensors.u64s(&format!("preprocess.texts.{feature}"))?.first().copied();
        let counts = tensors.u64s(&format!("preprocess.with_word.{feature}"))?;
        let is_whole =
            counts.len() == self.counts.len() && counts.iter().all(|count| rows.is_some_and(|rows| *count <= rows));
        let rows = rows.filter(|rows| is_whole && *rows < 1 << 53);
        self.rows = rows.ok_or_else(|| Error::new(format!("what is known of the words of `{feature}` is damaged")))?;
        self.counts = counts;
        Ok(())
    }

    fn to_onnx(&self, feature: &Feature, _input: &Value, _graph: &mut Graph) -> Result<Vec<Value>> {
        let problem = format!("feature `{}` is encoded by `text`, which ONNX has no operator for", feature.name);
        Err(Error::new(format!("{problem}; leave it out to write the model as ONNX")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &Text, words: &str) -> Vec<f64> {
        let mut into = vec![9.0; text.width()];
        text.apply(Cell::Text(Some(words)), &mut into);
        into
    }

    /// Where a word counts.
    fn place(text: &Text, word: &str) -> usize {
        of(text, word).iter().position(|number| *number > 0.0).unwrap_or(usize::MAX)
    }

    #[test]
    fn rare_words_count_more_and_texts_have_the_length_one() {
        let mut text = Text::new(TextEncoding { numbers: 4096, words: 1, idf: true });
        let texts = ["red apple", "red, RED rose", "a rose"];
        texts.iter().for_each(|words| text.learn(Cell::Text(Some(words)), 0.0));
        // By scikit-learn's formula: red is in 2 of 3, apple in 1 of 3.
        let rarity = |with: f64| libm::log(4.0 / (1.0 + with)) + 1.0;
        let (red, apple) = (2.0 * rarity(2.0), rarity(1.0));
        let length = (red * red + apple * apple).sqrt();
        let found = of(&text, "Red apple: red!");
        assert_eq!(found.iter().filter(|number| **number > 0.0).count(), 2);
        assert!((found[place(&text, "red")] - red / length).abs() < 1e-15);
        assert!((found[place(&text, "apple")] - apple / length).abs() < 1e-15);
        assert_eq!([of(&text, ""), of(&text, " .,!")], [vec![0.0; 4096], vec![0.0; 4096]]);
    }

    #[test]
    fn words_in_a_row_count_by_themselves() {
        let [one, two] = [1, 2].map(|words| Text::new(TextEncoding { numbers: 1 << 16, words, idf: false }));
        let counts = |found: Vec<f64>| found.into_iter().filter(|number| *number > 0.0).count();
        assert_eq!(counts(of(&one, "not good größe")), 3);
        assert_eq!(counts(of(&two, "not good größe")), 5);
        assert!(of(&two, "not good") != of(&two, "good not") && of(&one, "not good") == of(&one, "good not"));
    }
}

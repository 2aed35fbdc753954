//! Encodes values as 64-bit words, to send them to other hosts. NaN and infinity keep their bits.

use crate::infer::{ShareCounts, Tally};

/// A value that ranks on different hosts can send to each other.
pub(crate) trait Wire: Clone + Send + 'static {
    fn to_words(&self) -> Vec<u64>;
    /// Decodes the words of [`Wire::to_words`]. Panics if `words` encodes a different type.
    fn from_words(words: &[u64]) -> Self;
}

impl Wire for () {
    fn to_words(&self) -> Vec<u64> {
        Vec::new()
    }

    fn from_words(_words: &[u64]) -> Self {}
}

impl Wire for bool {
    fn to_words(&self) -> Vec<u64> {
        vec![u64::from(*self)]
    }

    fn from_words(words: &[u64]) -> Self {
        words[0] == 1
    }
}

impl Wire for Vec<u64> {
    fn to_words(&self) -> Vec<u64> {
        self.clone()
    }

    fn from_words(words: &[u64]) -> Self {
        words.to_vec()
    }
}

impl Wire for Vec<f32> {
    fn to_words(&self) -> Vec<u64> {
        self.iter().map(|value| u64::from(value.to_bits())).collect()
    }

    fn from_words(words: &[u64]) -> Self {
        words.iter().map(|word| f32::from_bits(*word as u32)).collect()
    }
}

impl Wire for ShareCounts {
    fn to_words(&self) -> Vec<u64> {
        Self::to_words(self).to_vec()
    }

    fn from_words(words: &[u64]) -> Self {
        Self::from_words(words.try_into().expect("the words of a share"))
    }
}

impl Wire for Tally {
    fn to_words(&self) -> Vec<u64> {
        Self::to_words(self)
    }

    fn from_words(words: &[u64]) -> Self {
        Self::from_words(words)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn to_words(&self) -> Vec<u64> {
        let own = self.iter().flat_map(Wire::to_words);
        [u64::from(self.is_some())].into_iter().chain(own).collect()
    }

    fn from_words(words: &[u64]) -> Self {
        (words[0] == 1).then(|| T::from_words(&words[1..]))
    }
}

/// Encodes values as bytes. Each value is stored as a word count and its words.
pub(crate) fn encode<T: Wire>(values: &[T]) -> Vec<u8> {
    let mut words = Vec::new();
    for value in values {
        let own = value.to_words();
        words.push(own.len() as u64);
        words.extend(own);
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}

/// Decodes the bytes of [`encode`].
pub(crate) fn decode<T: Wire>(bytes: &[u8]) -> Vec<T> {
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .collect();
    let (mut values, mut rest) = (Vec::new(), words.as_slice());
    while let Some((len, words)) = rest.split_first() {
        let (own, next) = words.split_at(*len as usize);
        values.push(T::from_words(own));
        rest = next;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::{Tally, Wire, decode, encode};

    fn back<T: Wire>(values: &[T]) -> Vec<T> {
        decode(&encode(values))
    }

    #[test]
    fn values_arrive_bit_by_bit() {
        assert_eq!(back(&[(), ()]), [(), ()]);
        assert_eq!(back(&[true, false]), [true, false]);
        let tally = Tally::of(&[0.1, 0.7, -0.2, 2.0, 1.0, 3.0], &[1, 0], 3, None);
        let all = [Some(tally), None, Some(Tally::default())];
        assert_eq!(back(&all), all);
        let bits = |all: Vec<Vec<f32>>| -> Vec<Vec<u32>> {
            all.iter().map(|own| own.iter().map(|value| value.to_bits()).collect()).collect()
        };
        let values = vec![vec![f32::NAN, -0.0], vec![], vec![f32::INFINITY, 1e-40]];
        assert_eq!(bits(back(&values)), bits(values));
    }
}

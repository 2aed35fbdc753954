//! Converts labels to target probabilities of a classifier, `[N, C]`.

/// Returns the target probabilities `[N, classes]` of labels, with label smoothing.
///
/// Label smoothing spreads the probability `smoothing` evenly over all classes.
pub fn soft_targets(labels: &[u32], classes: usize, smoothing: f64) -> Vec<f32> {
    let (on, off) = smoothed(classes, smoothing);
    let mut rows = vec![off as f32; labels.len() * classes];
    for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = on as f32;
    }
    rows
}

/// Returns the target probabilities `[N, classes]` of images after mixup.
///
/// Image `i` mixes the labels `labels[i]` and `labels[N - 1 - i]`. Their weights are `shares[i]` and `1 - shares[i]`.
///
/// Label smoothing spreads the probability `smoothing` evenly over all classes.
pub fn mixed_targets(labels: &[u32], shares: &[f64], classes: usize, smoothing: f64) -> Vec<f32> {
    let (on, off) = smoothed(classes, smoothing);
    let mut rows = vec![off; labels.len() * classes];
    let partners = labels.iter().rev();
    for (row, ((&own, &other), share)) in
        rows.chunks_exact_mut(classes).zip(labels.iter().zip(partners).zip(shares))
    {
        row[own as usize] += share * (on - off);
        row[other as usize] += (1.0 - share) * (on - off);
    }
    rows.into_iter().map(|p| p as f32).collect()
}

/// Returns (probability of the correct class, probability of each other class).
fn smoothed(classes: usize, smoothing: f64) -> (f64, f64) {
    let off = smoothing / classes as f64;
    (1.0 - smoothing + off, off)
}

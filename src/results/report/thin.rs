//! Removes values from long lines, to keep the page small.

/// Removes values until at most `most` remain. Keeps minima and maxima, so spikes stay visible.
pub(super) fn thin<T: Copy>(points: &[T], most: usize, y: impl Fn(&T) -> f64) -> Vec<T> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= most {
        return points.to_vec();
    }
    let inner = &points[1..points.len() - 1];
    let stretches = (most.max(4) - 2) / 2;
    let mut kept = vec![*first];
    for stretch in inner.chunks(inner.len().div_ceil(stretches)) {
        let places = 0..stretch.len();
        let by_y = |a: &usize, b: &usize| y(&stretch[*a]).total_cmp(&y(&stretch[*b]));
        let lowest = places.clone().min_by(by_y).unwrap_or_default();
        let highest = places.max_by(by_y).unwrap_or_default();
        kept.push(stretch[lowest.min(highest)]);
        if lowest != highest {
            kept.push(stretch[lowest.max(highest)]);
        }
    }
    kept.push(*last);
    kept
}

#[cfg(test)]
mod tests {
    use super::thin;

    fn wave(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|i| (i as f64, (i as f64 / 7.0).sin())).collect()
    }

    #[test]
    fn spikes_and_both_ends_are_kept() {
        let mut points = wave(1600);
        points[777].1 = 40.0;
        points[1200].1 = -40.0;
        let kept = thin(&points, 400, |p| p.1);
        assert!(kept.len() <= 400, "{}", kept.len());
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(kept.contains(&points[777]) && kept.contains(&points[1200]));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0), "points are out of order, or repeated");
    }

    #[test]
    fn a_short_line_is_unchanged() {
        for n in [0, 1, 2, 400] {
            assert_eq!(thin(&wave(n), 400, |p| p.1), wave(n));
        }
        assert!(thin(&wave(401), 400, |p| p.1).len() <= 400);
    }
}

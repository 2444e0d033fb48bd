//! Square grey images at another size.

/// Resizes every `from`×`from` image of `images` to `to`×`to`: each new pixel is the mean of the area that it covers
/// when smaller, the bilinear value at its centre when larger. `from` and `to` are at least 1.
pub(super) fn resize(images: &[u8], from: usize, to: usize) -> Vec<u8> {
    let taps = taps(from, to);
    let mut rows = vec![0f32; from * to];
    let mut out = Vec::with_capacity(images.len() / (from * from) * to * to);
    for image in images.chunks_exact(from * from) {
        for (row, values) in image.chunks_exact(from).zip(rows.chunks_exact_mut(to)) {
            for (value, taps) in values.iter_mut().zip(&taps) {
                *value = taps.iter().map(|&(i, weight)| weight * f32::from(row[i])).sum();
            }
        }
        for taps in &taps {
            out.extend((0..to).map(|x| {
                let sum: f32 = taps.iter().map(|&(y, weight)| weight * rows[y * to + x]).sum();
                (sum + 0.5) as u8
            }));
        }
    }
    out
}

/// For every new pixel along an axis the old pixels that it is made of and their weights, which sum to 1.
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            if to > from {
                let centre = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, (from - 1) as f64);
                let low = (centre as usize).min(from - 1);
                let part = centre - low as f64;
                return vec![(low, 1.0 - part as f32), ((low + 1).min(from - 1), part as f32)];
            }
            let (start, end) = (i as f64 * scale, (i + 1) as f64 * scale);
            (start as usize..(end.ceil() as usize).min(from))
                .map(|j| {
                    let covered = end.min((j + 1) as f64) - start.max(j as f64);
                    (j, (covered.max(0.0) / scale) as f32)
                })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_flat() {
        for (from, to) in [(28, 14), (28, 9), (28, 27), (28, 56), (5, 64), (1, 3), (7, 1)] {
            let images = vec![200; 2 * from * from];
            assert_eq!(resize(&images, from, to), vec![200; 2 * to * to], "{from} → {to}");
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(
            resize(&[0, 2, 4, 100, 7, 8, 9, 10, 0, 0, 0, 0, 255, 255, 255, 255], 4, 2),
            [4, 31, 128, 128]
        );
        assert_eq!(resize(&[0, 100, 0, 100], 2, 4)[..4], [0, 25, 75, 100]);
    }
}

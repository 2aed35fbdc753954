//! Multi-head self-attention on the CPU.
//!
//! Scores are stored as `[key][query]`, so softmax needs no sum across a SIMD vector.

use super::blocks::each;
use super::buffer::{Values, in_order, recycle, tensor, unwritten, values};
use super::matrix::{Matrix, Write, multiply};
use super::simd::{self, Kernel, exp, mul_add};
use super::small::{Left, SmallProduct, WIDTH};
use burn::backend::TensorMetadata;

/// Heads with more scores than this use `gemm` instead of our own kernel.
const MOST_SMALL_SCORES: usize = 50_000;

/// Returns the attention `[N, L, D]`, and the scores after softmax. `qkv` is `[N, L, 3 D]`.
pub(super) fn attention(qkv: Values, heads: usize) -> (Values, Values) {
    let qkv = in_order(qkv);
    let sizes = Sizes::of(&qkv, heads);
    let mut y = unwritten(sizes.images * sizes.tokens * sizes.width());
    let mut scores = unwritten(sizes.images * heads * sizes.scores());
    let images = values(&qkv).chunks_exact(sizes.qkv());
    let outputs = y.chunks_exact_mut(sizes.tokens * sizes.width());
    let per_image = scores.chunks_exact_mut(heads * sizes.scores());
    each(images.zip(outputs).zip(per_image), |((qkv, y), scores)| {
        let mut turned = vec![0.0; sizes.head * sizes.padded];
        for (head, scores) in scores.chunks_exact_mut(sizes.scores()).enumerate() {
            sizes.forward(head, qkv, scores, y, &mut turned);
        }
    });
    let shape = [sizes.images, sizes.tokens, sizes.width()];
    let count = scores.len();
    (tensor(y, shape), tensor(scores, [count]))
}

/// Returns the gradient of `qkv`, `[N, L, 3 D]`. `grad` is the gradient of the attention.
pub(super) fn backward(qkv: Values, scores: Values, grad: Values, heads: usize) -> Values {
    let (qkv, grad) = (in_order(qkv), in_order(grad));
    let sizes = Sizes::of(&qkv, heads);
    let mut to_qkv = unwritten(values(&qkv).len());
    let images = values(&qkv).chunks_exact(sizes.qkv());
    let grads = values(&grad).chunks_exact(sizes.tokens * sizes.width());
    let per_image = values(&scores).chunks_exact(heads * sizes.scores());
    let outputs = to_qkv.chunks_exact_mut(sizes.qkv());
    each(images.zip(grads).zip(per_image).zip(outputs), |(((qkv, grad), scores), to_qkv)| {
        let mut turned = vec![0.0; sizes.head * sizes.padded];
        let mut to_scores = vec![0.0; sizes.scores()];
        for (head, scores) in scores.chunks_exact(sizes.scores()).enumerate() {
            let rows = (qkv, grad, scores);
            sizes.backward(head, rows, to_qkv, &mut turned, &mut to_scores);
        }
    });
    let to_qkv = tensor(to_qkv, qkv.shape());
    recycle(grad);
    recycle(scores);
    recycle(qkv);
    to_qkv
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    images: usize,
    tokens: usize,
    heads: usize,
    head: usize,
    /// `tokens`, rounded up to a multiple of [`WIDTH`].
    padded: usize,
}

impl Sizes {
    fn of(qkv: &Values, heads: usize) -> Self {
        let shape = qkv.shape();
        let (images, tokens, head) = (shape[0], shape[1], shape[2] / 3 / heads);
        Self { images, tokens, heads, head, padded: tokens.next_multiple_of(WIDTH) }
    }

    fn width(self) -> usize {
        self.heads * self.head
    }

    fn qkv(self) -> usize {
        self.tokens * 3 * self.width()
    }

    /// Number of scores in one head, with padding.
    fn scores(self) -> usize {
        self.tokens * self.padded
    }

    fn scale(self) -> f32 {
        (self.head as f32).powf(-0.5)
    }

    /// Computes the attention of one head.
    ///
    /// `turned` is a buffer for the transposed queries, with zeros in its padding columns.
    fn forward(
        self,
        head: usize,
        qkv: &[f32],
        scores: &mut [f32],
        y: &mut [f32],
        turned: &mut [f32],
    ) {
        let [q, k, v] = self.parts(head, qkv);
        let stride = 3 * self.width();
        self.turn((q, stride), self.scale(), turned);
        self.scores_of(Left::Rows(k, stride), turned, scores);
        simd::run(Softmax { scores: &mut *scores, padded: self.padded });
        let y = (&mut y[head * self.head..], self.width());
        self.values_of(Left::Columns(scores, self.padded), (v, stride), y);
    }

    /// Writes the gradients of one head into `to_qkv`.
    fn backward(
        self,
        head: usize,
        (qkv, grad, scores): (&[f32], &[f32], &[f32]),
        to_qkv: &mut [f32],
        turned: &mut [f32],
        to_scores: &mut [f32],
    ) {
        let [q, k, v] = self.parts(head, qkv);
        let (stride, padded, at) = (3 * self.width(), self.padded, head * self.head);
        let grad = (&grad[at..], self.width());
        let to = |part: usize| at + part * self.width();
        self.values_of(Left::Rows(scores, padded), grad, (&mut to_qkv[to(2)..], stride));
        self.turn(grad, 1.0, turned);
        self.scores_of(Left::Rows(v, stride), turned, to_scores);
        let scale = self.scale();
        simd::run(BeforeSoftmax { scores, grad: &mut *to_scores, padded, scale });
        let (by_query, by_key) = (Left::Columns(to_scores, padded), Left::Rows(to_scores, padded));
        self.values_of(by_query, (k, stride), (&mut to_qkv[to(0)..], stride));
        self.values_of(by_key, (q, stride), (&mut to_qkv[to(1)..], stride));
    }

    /// Returns three slices of `qkv`. They start at the head's first query, first key and first value.
    fn parts(self, head: usize, qkv: &[f32]) -> [&[f32]; 3] {
        [0, 1, 2].map(|part| &qkv[part * self.width() + head * self.head..])
    }

    fn is_small(self) -> bool {
        self.head.is_multiple_of(WIDTH) && self.scores() <= MOST_SMALL_SCORES
    }

    /// Multiplies `left` `[key, head]` by `turned` `[head, query]`.
    fn scores_of(self, left: Left<'_>, turned: &[f32], scores: &mut [f32]) {
        self.product(self.padded, self.head, left, (turned, self.padded), (scores, self.padded));
    }

    /// Multiplies `left` `[L, L]` by `rows` `[L, head]`.
    fn values_of(self, left: Left<'_>, rows: (&[f32], usize), output: (&mut [f32], usize)) {
        self.product(self.head, self.tokens, left, rows, output);
    }

    /// Multiplies `a` `[L, k]` by `b` `[k, n]`.
    fn product(self, n: usize, k: usize, a: Left<'_>, b: (&[f32], usize), c: (&mut [f32], usize)) {
        let m = self.tokens;
        if self.is_small() {
            return SmallProduct { m, k, n, a, b, c }.run();
        }
        let a = match a {
            Left::Rows(a, stride) => Matrix::strided(a, [m, k], [stride, 1]),
            Left::Columns(a, stride) => Matrix::strided(a, [m, k], [1, stride]),
        };
        multiply(c.0, c.1, a, Matrix::strided(b.0, [k, n], [b.1, 1]), Write::Overwrite);
    }

    /// Transposes `rows` `[L, head]`, and multiplies by `scale`.
    fn turn(self, (rows, stride): (&[f32], usize), scale: f32, turned: &mut [f32]) {
        simd::run(Turn { rows, stride, scale, turned, sizes: self });
    }
}

struct Turn<'a> {
    rows: &'a [f32],
    stride: usize,
    scale: f32,
    turned: &'a mut [f32],
    sizes: Sizes,
}

impl Kernel for Turn<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { rows, stride, scale, turned, sizes } = self;
        let Sizes { tokens, head, padded, .. } = sizes;
        let whole = (tokens / WIDTH * WIDTH, head / WIDTH * WIDTH);
        for row in (0..whole.0).step_by(WIDTH) {
            for column in (0..whole.1).step_by(WIDTH) {
                let mut block = [[0.0; WIDTH]; WIDTH];
                for (i, line) in block.iter_mut().enumerate() {
                    line.copy_from_slice(&rows[(row + i) * stride + column..][..WIDTH]);
                }
                for j in 0..WIDTH {
                    let to = &mut turned[(column + j) * padded + row..][..WIDTH];
                    for i in 0..WIDTH {
                        to[i] = block[i][j] * scale;
                    }
                }
            }
        }
        for row in 0..tokens {
            let first = if row < whole.0 { whole.1 } else { 0 };
            for column in first..head {
                turned[column * padded + row] = rows[row * stride + column] * scale;
            }
        }
    }
}

/// Applies softmax to each column of `scores`.
struct Softmax<'a> {
    scores: &'a mut [f32],
    padded: usize,
}

impl Kernel for Softmax<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { scores, padded } = self;
        for column in (0..padded).step_by(WIDTH) {
            let mut most = [f32::MIN; WIDTH];
            for row in scores.chunks_exact(padded) {
                let row = &row[column..column + WIDTH];
                for lane in 0..WIDTH {
                    most[lane] = if row[lane] > most[lane] { row[lane] } else { most[lane] };
                }
            }
            let mut sum = [0.0; WIDTH];
            for row in scores.chunks_exact_mut(padded) {
                let row = &mut row[column..column + WIDTH];
                for lane in 0..WIDTH {
                    row[lane] = exp::<FMA>(row[lane] - most[lane]);
                    sum[lane] += row[lane];
                }
            }
            for sum in &mut sum {
                *sum = 1.0 / *sum;
            }
            for row in scores.chunks_exact_mut(padded) {
                for (score, inverse) in row[column..column + WIDTH].iter_mut().zip(&sum) {
                    *score *= inverse;
                }
            }
        }
    }
}

/// Backward pass of softmax.
///
/// Replaces `grad`, the gradient of the softmax's output, by `scale` times the gradient of its input.
struct BeforeSoftmax<'a> {
    scores: &'a [f32],
    grad: &'a mut [f32],
    padded: usize,
    scale: f32,
}

impl Kernel for BeforeSoftmax<'_> {
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { scores, grad, padded, scale } = self;
        for column in (0..padded).step_by(WIDTH) {
            let mut shared = [0.0; WIDTH];
            for (scores, grad) in scores.chunks_exact(padded).zip(grad.chunks_exact(padded)) {
                let scores = &scores[column..column + WIDTH];
                let grad = &grad[column..column + WIDTH];
                for lane in 0..WIDTH {
                    shared[lane] = mul_add::<FMA>(scores[lane], grad[lane], shared[lane]);
                }
            }
            for (scores, grad) in scores.chunks_exact(padded).zip(grad.chunks_exact_mut(padded)) {
                let scores = &scores[column..column + WIDTH];
                let grad = &mut grad[column..column + WIDTH];
                for lane in 0..WIDTH {
                    grad[lane] = scores[lane] * (grad[lane] - shared[lane]) * scale;
                }
            }
        }
    }
}

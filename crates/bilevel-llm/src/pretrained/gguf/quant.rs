//! Numbers in blocks: the formats in which GGUF keeps matrices, made into f32.
//!
//! A block is a handful of small whole numbers with a scale (and perhaps an offset); the layouts are those that the GGUF
//! specification names by the formats' numbers.

use half::{bf16, f16};

/// A number format that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's names")]
pub enum Format {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// Names of the formats that are not read, by number.
const OTHERS: [(u32, &str); 23] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (4, "Q4_2"),
    (5, "Q4_3"),
];

impl Format {
    /// The format of this number in a tensor table, or the name of one that is not read.
    pub fn of_number(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => {
                let name = OTHERS.iter().find(|(other, _)| *other == number).map(|(_, name)| *name);
                return Err(name.map_or_else(|| format!("number format {number}"), str::to_owned));
            }
        })
    }

    /// Numbers in a block.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Makes whole blocks into numbers.
    ///
    /// # Panics
    /// When the lists are not of the same number of blocks.
    pub fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            bytes.len() / self.block_bytes() * self.block_len(),
            out.len(),
            "blocks and numbers of different length"
        );
        let blocks = bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_len()));
        for (b, y) in blocks {
            match self {
                Self::F32 => y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
                Self::F16 => y[0] = half_at(b, 0),
                Self::Bf16 => y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
                Self::Q4_0 => five_bits(half_at(b, 0), -8.0 * half_at(b, 0), 0, &b[2..], y),
                Self::Q4_1 => five_bits(half_at(b, 0), half_at(b, 2), 0, &b[4..], y),
                Self::Q5_0 => five_bits(half_at(b, 0), -16.0 * half_at(b, 0), word_at(b, 2), &b[6..], y),
                Self::Q5_1 => five_bits(half_at(b, 0), half_at(b, 2), word_at(b, 4), &b[8..], y),
                Self::Q8_0 => {
                    let scale = half_at(b, 0);
                    for (y, &q) in y.iter_mut().zip(&b[2..]) {
                        *y = scale * f32::from(q.cast_signed());
                    }
                }
                Self::Q4K => eight_groups(b, None, &b[16..], y),
                Self::Q5K => eight_groups(b, Some(&b[16..48]), &b[48..], y),
                Self::Q6K => six_bits(b, y),
            }
        }
    }
}

fn half_at(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

fn word_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// 32 numbers scale·q + offset: the low nibbles of 16 bytes, then the high ones, each with a fifth bit from `high`.
fn five_bits(scale: f32, offset: f32, high: u32, nibbles: &[u8], y: &mut [f32]) {
    let (first, second) = y.split_at_mut(16);
    for (j, ((a, b), &q)) in first.iter_mut().zip(second).zip(nibbles).enumerate() {
        let fifth = |bit: usize| ((high >> bit) & 1) << 4;
        *a = scale * ((u32::from(q) & 15) | fifth(j)) as f32 + offset;
        *b = scale * ((u32::from(q) >> 4) | fifth(j + 16)) as f32 + offset;
    }
}

/// 8 groups of 32 numbers, each with a scale and an offset of six bits, both in units that the block begins with. A fifth
/// bit of group g is bit g of `high`.
fn eight_groups(b: &[u8], high: Option<&[u8]>, nibbles: &[u8], y: &mut [f32]) {
    let (unit, offset_unit) = (half_at(b, 0), half_at(b, 2));
    let packed = &b[4..16];
    for (g, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, offset) = if g < 4 {
            (packed[g] & 63, packed[g + 4] & 63)
        } else {
            ((packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4, (packed[g + 4] >> 4) | (packed[g] >> 6) << 4)
        };
        let (scale, offset) = (unit * f32::from(scale), offset_unit * f32::from(offset));
        for (l, y) in y.iter_mut().enumerate() {
            let pair = nibbles[g / 2 * 32 + l];
            let nibble = if g % 2 == 0 { pair & 15 } else { pair >> 4 };
            let fifth = high.map_or(0, |high| (high[l] >> g & 1) << 4);
            *y = scale * f32::from(nibble | fifth) - offset;
        }
    }
}

/// 16 groups of 16 numbers of six bits around 32, each with a signed scale of eight bits.
fn six_bits(b: &[u8], y: &mut [f32]) {
    let (low, high, scales, unit) = (&b[..128], &b[128..192], &b[192..208], half_at(b, 208));
    for (i, y) in y.iter_mut().enumerate() {
        // two halves of 128, each four quarters of 32: quarters 0 and 1 are low nibbles, 2 and 3 high ones
        let (half, quarter, l) = (i / 128, i / 32 % 4, i % 32);
        let pair = low[64 * half + 32 * (quarter % 2) + l];
        let nibble = if quarter < 2 { pair & 15 } else { pair >> 4 };
        let top = (high[32 * half + l] >> (2 * quarter) & 3) << 4;
        let scale = f32::from(scales[i / 16].cast_signed());
        *y = unit * scale * (f32::from(nibble | top) - 32.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers in 0..limit, the same for every run.
    fn numbers(n: usize, limit: u64) -> Vec<u8> {
        let mut stream = bilevel::rng::Stream::new(limit, 0);
        (0..n).map(|_| stream.below(limit) as u8).collect()
    }

    fn half(value: f32) -> [u8; 2] {
        f16::from_f32(value).to_le_bytes()
    }

    fn decode(format: Format, bytes: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; format.block_len()];
        format.decode(bytes, &mut out);
        out
    }

    #[test]
    fn plain_numbers_are_themselves() {
        assert_eq!(decode(Format::F32, &1.25e-9_f32.to_le_bytes()), [1.25e-9]);
        assert_eq!(decode(Format::F16, &half(-0.375)), [-0.375]);
        assert_eq!(decode(Format::Bf16, &bf16::from_f32(3.5).to_le_bytes()), [3.5]);
    }

    #[test]
    fn blocks_of_32_give_back_what_was_packed() {
        // scale 1/2 and offset −3 are exact in half precision, so are all results
        for (format, bits, has_offset) in [
            (Format::Q4_0, 4, false),
            (Format::Q4_1, 4, true),
            (Format::Q5_0, 5, false),
            (Format::Q5_1, 5, true),
        ] {
            let q = numbers(32, 1 << bits);
            let mut bytes = half(0.5).to_vec();
            if has_offset {
                bytes.extend(half(-3.0));
            }
            if bits == 5 {
                let high = q.iter().enumerate().fold(0_u32, |word, (j, q)| word | u32::from(q >> 4) << j);
                bytes.extend(high.to_le_bytes());
            }
            bytes.extend((0..16).map(|j| (q[j] & 15) | (q[j + 16] & 15) << 4));
            assert_eq!(bytes.len(), format.block_bytes());
            let middle = if has_offset { 6.0 } else { f32::from(1_u8 << (bits - 1)) };
            let expected: Vec<f32> = q.iter().map(|&q| 0.5 * (f32::from(q) - middle)).collect();
            assert_eq!(decode(format, &bytes), expected, "{format:?}");
        }
        let q = numbers(32, 256);
        let bytes: Vec<u8> = half(0.5).into_iter().chain(q.iter().copied()).collect();
        let expected: Vec<f32> = q.iter().map(|&q| 0.5 * f32::from(q.cast_signed())).collect();
        assert_eq!(decode(Format::Q8_0, &bytes), expected);
    }

    #[test]
    fn blocks_of_256_give_back_what_was_packed() {
        for (format, bits) in [(Format::Q4K, 4), (Format::Q5K, 5)] {
            let q = numbers(256, 1 << bits);
            let (scales, offsets) = (numbers(8, 64), numbers(8, 63));
            let mut bytes = [half(0.5), half(0.25)].concat();
            bytes.extend((0..4).map(|g| scales[g] | (scales[g + 4] >> 4) << 6));
            bytes.extend((0..4).map(|g| offsets[g] | (offsets[g + 4] >> 4) << 6));
            bytes.extend((4..8).map(|g| (scales[g] & 15) | (offsets[g] & 15) << 4));
            if bits == 5 {
                bytes.extend((0..32).map(|l| (0..8).fold(0, |byte, g| byte | (q[32 * g + l] >> 4) << g)));
            }
            for pair in 0..4 {
                bytes.extend((0..32).map(|l| (q[64 * pair + l] & 15) | (q[64 * pair + 32 + l] & 15) << 4));
            }
            assert_eq!(bytes.len(), format.block_bytes());
            let expected: Vec<f32> = (0..256)
                .map(|i| {
                    let g = i / 32;
                    0.5 * f32::from(scales[g]) * f32::from(q[i]) - 0.25 * f32::from(offsets[g])
                })
                .collect();
            assert_eq!(decode(format, &bytes), expected, "{format:?}");
        }
        let (q, scales) = (numbers(256, 64), numbers(16, 255));
        let mut bytes = Vec::new();
        for h in [0, 128] {
            for quarter in [0, 32] {
                bytes
                    .extend((0..32).map(|l| (q[h + quarter + l] & 15) | (q[h + quarter + 64 + l] & 15) << 4));
            }
        }
        for h in [0, 128] {
            bytes.extend(
                (0..32).map(|l| (0..4).fold(0, |byte, k| byte | (q[h + 32 * k + l] >> 4) << (2 * k))),
            );
        }
        bytes.extend(&scales);
        bytes.extend(half(0.5));
        assert_eq!(bytes.len(), Format::Q6K.block_bytes());
        let expected: Vec<f32> = (0..256)
            .map(|i| 0.5 * f32::from(scales[i / 16].cast_signed()) * (f32::from(q[i]) - 32.0))
            .collect();
        assert_eq!(decode(Format::Q6K, &bytes), expected);
    }

    #[test]
    fn a_format_that_is_not_read_is_named() {
        assert_eq!(Format::of_number(10), Err("Q2_K".into()));
        assert_eq!(Format::of_number(1 << 31), Err("number format 2147483648".into()));
    }
}

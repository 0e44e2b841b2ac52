//! Small labelled images: MNIST and Fashion-MNIST from their IDX files, and a seeded stand-in of the same shape.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use bilevel::rng::Stream;
use sha2::{Digest, Sha256};

/// Grey images of one size with labels 0 to 9.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    /// Number of pixels of one image.
    pub size: usize,
    /// Grey values in [0, 1], image after image.
    pub pixels: Vec<f32>,
    /// One label per image.
    pub labels: Vec<u8>,
}

/// A half of Fashion-MNIST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 60,000 images.
    Train,
    /// 10,000 images.
    Test,
}

/// Number of classes.
pub const CLASSES: usize = 10;
/// Where Debian's package puts the files.
const SYSTEM_FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// Images could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The files are nowhere.
    #[error(
        "no images of the form of MNIST were found in {}; for Fashion-MNIST install the Debian package \
         dataset-fashion-mnist, or set BILEVEL_DATA to a folder with {file}", folders.join(", ")
    )]
    Absent {
        /// A file that was looked for.
        file: String,
        /// The folders it was looked for in.
        folders: Vec<String>,
    },
    /// The file system refused.
    #[error("{path}: {source}; check that the file can be read and, if it ends in .gz, that it is whole")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not the published one.
    #[error(
        "{path}: SHA-256 of the uncompressed file is {found}, the published one is {expected}; copy it again"
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The checksum it should have.
        expected: String,
        /// The checksum it has.
        found: String,
    },
    /// A file is not an IDX file of bytes.
    #[error("{path}: not an IDX file of bytes with {dims} dimensions: {detail}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The number of dimensions that are needed.
        dims: usize,
        /// What is wrong.
        detail: String,
    },
}

/// A published file: its name, and the SHA-256 of its uncompressed bytes.
struct Published {
    name: &'static str,
    sha256: &'static str,
    dims: usize,
}

impl Part {
    fn files(self) -> [Published; 2] {
        match self {
            Self::Train => [
                Published {
                    name: "train-images-idx3-ubyte",
                    sha256: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    dims: 3,
                },
                Published {
                    name: "train-labels-idx1-ubyte",
                    sha256: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    dims: 1,
                },
            ],
            Self::Test => [
                Published {
                    name: "t10k-images-idx3-ubyte",
                    sha256: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    dims: 3,
                },
                Published {
                    name: "t10k-labels-idx1-ubyte",
                    sha256: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                    dims: 1,
                },
            ],
        }
    }
}

impl Images {
    /// A half of Fashion-MNIST, plain or gzipped, from the first of these folders that has it: the given one;
    /// `$BILEVEL_DATA`; Debian's. A given folder is the only one looked in. Checksums are verified.
    ///
    /// # Errors
    /// Files that are absent (the message says what to install), changed or cut short.
    pub fn fashion_mnist(part: Part, folder: Option<&Path>) -> Result<Self, ImagesError> {
        let folders = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => std::env::var_os("BILEVEL_DATA")
                .map(PathBuf::from)
                .into_iter()
                .chain([PathBuf::from(SYSTEM_FOLDER)])
                .collect(),
        };
        Self::of_files(part, &folders, true)
    }

    /// A half of any data set in this folder that has the form and the file names of MNIST, plain or gzipped.
    ///
    /// # Errors
    /// Files that are absent, damaged, or disagree on the number of images; labels above 9.
    pub fn idx(part: Part, folder: &Path) -> Result<Self, ImagesError> {
        Self::of_files(part, &[folder.to_owned()], false)
    }

    fn of_files(part: Part, folders: &[PathBuf], is_published: bool) -> Result<Self, ImagesError> {
        let [images, labels] = part.files();
        let (dims, pixels, path) = read(&images, folders, is_published)?;
        let (_, labels, _) = read(&labels, folders, is_published)?;
        let wrong = |detail: String| ImagesError::Format { path: path.clone(), dims: 3, detail };
        if labels.len() != dims[0] {
            return Err(wrong(format!("{} images and {} labels", dims[0], labels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= CLASSES) {
            return Err(wrong(format!("its labels go up to 9, and there is a {label}")));
        }
        Ok(Self {
            size: dims[1] * dims[2],
            pixels: pixels.iter().map(|&p| f32::from(p) / 255.0).collect(),
            labels,
        })
    }

    /// A stand-in: each class is a smooth pattern of waves, each image its class's pattern, shifted in brightness, with
    /// pixel noise. Square images of side `side`, labels in turn.
    pub fn synthetic(count: usize, side: usize, seed: u64) -> Self {
        const PATTERNS: u64 = 0;
        const NOISE: u64 = 1;
        let mut patterns = Stream::new(seed, PATTERNS);
        let waves: Vec<[f64; 4]> = (0..CLASSES)
            .map(|_| {
                let mut phase = || patterns.uniform() * std::f64::consts::TAU;
                [phase(), phase(), phase(), phase()]
            })
            .collect();
        let mut noise = Stream::new(seed, NOISE);
        let labels: Vec<u8> = (0..count).map(|i| (i % CLASSES) as u8).collect();
        let mut pixels = Vec::with_capacity(count * side * side);
        for &label in &labels {
            let [a, b, c, d] = waves[usize::from(label)];
            let brightness = 0.1 * noise.normal();
            for row in 0..side {
                for column in 0..side {
                    let (u, v) = (row as f64 / side as f64, column as f64 / side as f64);
                    let wave = (a + (3.0 + b) * u + c * v).sin() * (d + (3.0 + a) * v).cos();
                    pixels
                        .push((0.5 + 0.3 * wave + brightness + 0.1 * noise.normal()).clamp(0.0, 1.0) as f32);
                }
            }
        }
        Self { size: side * side, pixels, labels }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }
    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
    /// The first `count` images, all of them if there are fewer.
    #[must_use]
    pub fn take(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        self.pixels.truncate(count * self.size);
        self
    }
    /// The images from number `count` on.
    #[must_use]
    pub fn skip(self, count: usize) -> Self {
        let count = count.min(self.len());
        Self {
            size: self.size,
            pixels: self.pixels[count * self.size..].to_vec(),
            labels: self.labels[count..].to_vec(),
        }
    }
    /// The same images with a share of the labels replaced by the next class, drawn from the seed.
    #[must_use]
    pub fn with_label_noise(mut self, share: f64, seed: u64) -> Self {
        const FLIPS: u64 = 2;
        let mut stream = Stream::new(seed, FLIPS);
        for label in &mut self.labels {
            if stream.uniform() < share {
                *label = (*label + 1) % CLASSES as u8;
            }
        }
        self
    }
}

/// The dimensions and the bytes of a file, and where it was; with its checksum verified if it is to be the published one.
fn read(
    file: &Published,
    folders: &[PathBuf],
    is_published: bool,
) -> Result<(Vec<usize>, Vec<u8>, PathBuf), ImagesError> {
    let candidates = folders.iter().flat_map(|f| [f.join(file.name), f.join(format!("{}.gz", file.name))]);
    let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
        return Err(ImagesError::Absent {
            file: format!("{} or {}.gz", file.name, file.name),
            folders: folders.iter().map(|f| f.display().to_string()).collect(),
        });
    };
    let io = |source| ImagesError::Io { path: path.clone(), source };
    let mut bytes = fs::read(&path).map_err(io)?;
    if path.extension().is_some_and(|e| e == "gz") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).map_err(io)?;
        bytes = plain;
    }
    let found =
        || Sha256::digest(&bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    if is_published && found() != file.sha256 {
        return Err(ImagesError::Checksum { expected: file.sha256.to_owned(), found: found(), path });
    }
    match idx(&bytes, file.dims) {
        Ok((dims, data)) => Ok((dims, data, path)),
        Err(detail) => Err(ImagesError::Format { path, dims: file.dims, detail }),
    }
}

/// The IDX format: 0, 0, 8 (unsigned bytes), number of dimensions, the dimensions as big-endian u32, the bytes.
fn idx(bytes: &[u8], dims: usize) -> Result<(Vec<usize>, Vec<u8>), String> {
    let header = 4 + 4 * dims;
    if bytes.len() < header {
        return Err(format!("{} bytes are less than a header of {header}", bytes.len()));
    }
    if bytes[..4] != [0, 0, 8, dims as u8] {
        return Err(format!("it starts with {:?}, not [0, 0, 8, {dims}]", &bytes[..4]));
    }
    let sizes: Vec<usize> =
        bytes[4..header].as_chunks::<4>().0.iter().map(|b| u32::from_be_bytes(*b) as usize).collect();
    let data = &bytes[header..];
    let wanted = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if wanted != Some(data.len()) {
        return Err(format!("the header announces {sizes:?} entries, {} follow", data.len()));
    }
    Ok((sizes, data.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idx_files_are_read_and_damaged_ones_refused() {
        let file = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];
        assert_eq!(idx(&file, 2), Ok((vec![2, 3], vec![1, 2, 3, 4, 5, 6])));
        for (bytes, dims, word) in [
            (&file[..17], 2, "5 follow"),
            (&file[..7], 2, "header of 12"),
            (&file[..], 1, "not [0, 0, 8, 1]"),
            (&file[..], 3, "not [0, 0, 8, 3]"),
        ] {
            let error = idx(bytes, dims).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn absent_files_say_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let error = Images::fashion_mnist(Part::Train, Some(folder.path())).unwrap_err().to_string();
        assert!(
            error.contains("dataset-fashion-mnist") && error.contains("train-images-idx3-ubyte"),
            "{error}"
        );
        assert!(error.contains(folder.path().to_str().unwrap()), "{error}");
    }

    #[test]
    fn files_that_are_not_the_published_ones_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("t10k-images-idx3-ubyte");
        fs::write(&plain, [0, 0, 8, 3]).unwrap();
        let error = Images::fashion_mnist(Part::Test, Some(folder.path())).unwrap_err();
        assert!(matches!(&error, ImagesError::Checksum { path, .. } if *path == plain), "{error}");
        fs::remove_file(&plain).unwrap();
        let packed = folder.path().join("t10k-images-idx3-ubyte.gz");
        fs::write(&packed, [31, 139, 8]).unwrap();
        let error = Images::fashion_mnist(Part::Test, Some(folder.path())).unwrap_err();
        assert!(matches!(&error, ImagesError::Io { path, .. } if *path == packed), "{error}");
    }

    #[test]
    fn the_stand_in_is_a_function_of_its_seed() {
        let images = Images::synthetic(23, 28, 4);
        assert_eq!((images.len(), images.size, images.pixels.len()), (23, 784, 23 * 784));
        assert_eq!(images, Images::synthetic(23, 28, 4));
        assert_ne!(images, Images::synthetic(23, 28, 5));
        assert!(images.pixels.iter().all(|p| (0.0..=1.0).contains(p)));
        let (head, tail) = (images.clone().take(5), images.clone().skip(5));
        assert_eq!([head.pixels, tail.pixels].concat(), images.pixels);
        assert_eq!([head.labels, tail.labels].concat(), images.labels);
    }

    #[test]
    fn noisy_labels_are_about_the_share_asked_for() {
        let clean = Images::synthetic(2000, 1, 0);
        let noisy = clean.clone().with_label_noise(0.3, 1);
        let flipped = clean.labels.iter().zip(&noisy.labels).filter(|(a, b)| a != b).count();
        // four standard deviations of a binomial
        assert!((flipped as f64 - 600.0).abs() < 4.0 * (2000.0 * 0.3 * 0.7_f64).sqrt());
    }
}

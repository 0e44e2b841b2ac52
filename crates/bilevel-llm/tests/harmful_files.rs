//! Files that come from elsewhere: whatever stands in them, the answer is a model or an error that names the file, never a
//! panic, and never memory out of proportion to the file.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bilevel::rng::Stream;
use bilevel_llm::{
    PretrainedModel, Recipe,
    model::Family,
    pretrained::{Header, HeaderError},
};
use peak_alloc::PeakAlloc;

mod sound;

use sound::RECIPE;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;
/// The peak is the whole process's, so that tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Bytes of memory for each byte of a file: tokens of one letter take nine bytes there, and some two hundred in the tables of
/// the tokenizer.
const PROPORTION: usize = 64;
/// Bytes of memory whatever the file: buffers of 1 MiB and compiled patterns.
const FIXED: usize = 32 << 20;

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `read` on a file of so many bytes, and holds it against panics and the bound on memory.
fn answers<T>(what: &str, bytes: usize, read: impl FnOnce() -> T) -> T {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let Ok(answer) = catch_unwind(AssertUnwindSafe(read)) else { panic!("{what}: a panic") };
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(peak <= FIXED + PROPORTION * bytes, "{what}: {peak} bytes of memory for a file of {bytes}");
    answer
}

/// Numbers that lengths, counts and offsets are spoilt with.
const ABSURD: [u64; 10] =
    [0, 1, 7, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 60, i64::MAX.cast_unsigned(), u64::MAX];

/// The file with one to three changes among its first `header` bytes: numbers, bits, parts cut, doubled, and its end cut off.
fn spoilt(good: &[u8], header: usize, stream: &mut Stream) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=stream.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = stream.below(header.min(bytes.len()) as u64) as usize;
        let end = (at + 1 + stream.below(16) as usize).min(bytes.len());
        match stream.below(7) {
            0 | 1 => {
                let number = ABSURD[stream.below(10) as usize].to_le_bytes();
                let width = if stream.below(2) == 0 { 4 } else { 8 };
                for (byte, new) in bytes[at..].iter_mut().zip(&number[..width]) {
                    *byte = *new;
                }
            }
            2 => bytes[at] ^= 1 << stream.below(8),
            3 => bytes[at] = stream.below(256) as u8,
            4 => drop(bytes.drain(at..end)),
            5 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Bytes before the numbers of the tensors.
fn header_of(file: &[u8]) -> usize {
    let header = Header::read(file, file.len() as u64).unwrap();
    header.tensors.values().map(|tensor| tensor.start).min().unwrap() as usize
}

#[test]
fn spoilt_gguf_headers_are_answered() {
    let _turn = turn();
    let good = sound::gguf(Family::Llama).bytes();
    let end = header_of(&good);
    let mut stream = Stream::new(1, 0);
    let mut refused = 0;
    for i in 0..20_000 {
        let bytes = spoilt(&good, end, &mut stream);
        let read = || Header::read(&bytes[..], bytes.len() as u64);
        match answers(&format!("header {i}"), bytes.len(), read) {
            Ok(header) => {
                for tensor in header.tensors.values() {
                    assert!(
                        tensor.start + tensor.bytes <= bytes.len() as u64,
                        "header {i}: outside the file"
                    );
                }
            }
            Err(HeaderError::Io(error)) => panic!("header {i}: {error}"),
            Err(HeaderError::Broken(place, found, _)) => {
                assert!(!place.is_empty() && !found.is_empty());
                refused += 1;
            }
            Err(HeaderError::Unsupported(..)) => refused += 1,
        }
    }
    assert!((10_000..20_000).contains(&refused), "{refused}");
}

/// Loads a path; a refusal names its file.
fn load(what: &str, path: &Path, bytes: usize) -> bool {
    match answers(what, bytes, || PretrainedModel::load(path)) {
        Ok(model) => {
            assert_eq!(model.parameters.len(), model.decoder.parameters());
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains(&path.display().to_string()) || text.contains("template"),
                "{what}: {text}"
            );
            false
        }
    }
}

#[test]
fn spoilt_gguf_files_are_answered() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let good = sound::gguf(Family::Llama).bytes();
    let end = header_of(&good);
    fs::write(&path, &good).unwrap();
    assert!(load("the sound file", &path, good.len()));
    let mut stream = Stream::new(2, 0);
    for i in 0..1_000 {
        let bytes = spoilt(&good, end, &mut stream);
        fs::write(&path, &bytes).unwrap();
        load(&format!("file {i}"), &path, bytes.len());
    }
}

#[test]
fn spoilt_hugging_face_folders_are_answered() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    sound::hugging_face(folder.path(), Family::Llama);
    let files = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name, fs::read(folder.path().join(name)).unwrap()));
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(load("the sound folder", folder.path(), total));
    let mut stream = Stream::new(3, 0);
    for (name, good) in &files {
        let header = match *name {
            "model.safetensors" => 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize,
            _ => good.len(),
        };
        for i in 0..600 {
            let bytes = spoilt(good, header, &mut stream);
            fs::write(folder.path().join(name), &bytes).unwrap();
            load(&format!("{name} {i}"), folder.path(), total + bytes.len());
        }
        fs::write(folder.path().join(name), good).unwrap();
    }
}

#[test]
fn spoilt_recipes_are_answered() {
    let _turn = turn();
    Recipe::parse(RECIPE, Path::new("")).unwrap();
    let words =
        ["99999999999999999999", "-1", "1e400", "nan", "inf", "true", "[]", "{}", "\"\"", "'", "[[", "a.b"];
    let mut stream = Stream::new(4, 0);
    let mut accepted = 0;
    for i in 0..5_000 {
        let mut bytes = RECIPE.as_bytes().to_vec();
        match i % 3 {
            0 => bytes = spoilt(&bytes, bytes.len(), &mut stream),
            // a word in place of another, from some place of it on
            1 => {
                let at = stream.below(bytes.len() as u64) as usize;
                let end =
                    bytes[at..].iter().position(u8::is_ascii_whitespace).map_or(bytes.len(), |n| at + n);
                bytes.splice(at..end, words[stream.below(words.len() as u64) as usize].bytes());
            }
            // another digit
            _ => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
                let at = digits[stream.below(digits.len() as u64) as usize];
                bytes[at] = b'0' + stream.below(10) as u8;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let parsed = answers(&format!("recipe {i}"), bytes.len(), || Recipe::parse(&text, Path::new("")));
        match parsed {
            Ok(recipe) => {
                accepted += 1;
                assert_eq!(
                    Recipe::parse(&recipe.to_toml(), Path::new("")).unwrap(),
                    recipe,
                    "recipe {i}: {text}"
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    assert!((100..4_000).contains(&accepted), "{accepted}");
}

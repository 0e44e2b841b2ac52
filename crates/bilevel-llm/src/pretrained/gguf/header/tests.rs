use super::{super::test_file::TestFile, *};

fn sample() -> TestFile {
    TestFile::default()
        .text("general.architecture", "llama")
        .number("llama.block_count", 2)
        .float("llama.rope.freq_base", 1e4)
        .texts("tokenizer.ggml.tokens", &["a", "b", "Ġc"])
        .numbers("tokenizer.ggml.token_type", &[1, -3, 1])
        .tensor("one", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .tensor("two", &[1], &[7.0])
}

fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
    Header::read(bytes, bytes.len() as u64)
}

/// What a refused header says: place and finding.
fn refusal(bytes: &[u8]) -> String {
    match read(bytes).unwrap_err() {
        HeaderError::Broken(place, found, _) => format!("{place}: {found}"),
        HeaderError::Unsupported(what, remedy) => format!("{what}: {remedy}"),
        HeaderError::Io(error) => panic!("{error}"),
    }
}

#[test]
fn a_header_is_read_as_it_was_written() {
    let bytes = sample().bytes();
    let header = read(&bytes).unwrap();
    assert_eq!(header.metadata["general.architecture"], Value::Text("llama".into()));
    assert_eq!(header.metadata["llama.block_count"], Value::Integer(2));
    assert_eq!(header.metadata["llama.rope.freq_base"], Value::Float(1e4));
    let tokens = ["a", "b", "Ġc"].map(String::from).to_vec();
    assert_eq!(header.metadata["tokenizer.ggml.tokens"], Value::Texts(tokens));
    assert_eq!(header.metadata["tokenizer.ggml.token_type"], Value::Integers(vec![1, -3, 1]));
    let (one, two) = (&header.tensors["one"], &header.tensors["two"]);
    assert_eq!((&one.shape[..], one.format, one.bytes), (&[2, 3][..], Format::F32, 24));
    assert_eq!(two.start, one.start + 32);
    assert_eq!(bytes[two.start as usize..][..4], 7_f32.to_le_bytes());
}

#[test]
fn a_cut_file_is_refused_wherever_it_is_cut() {
    let bytes = sample().bytes();
    // the padding after the last tensor is not needed
    for n in 0..bytes.len() - 28 {
        assert!(matches!(read(&bytes[..n]), Err(HeaderError::Broken(..))), "{n} bytes");
    }
}

#[test]
fn absurd_lengths_are_refused_before_memory_is_reserved() {
    let good = sample().bytes();
    let spoil = |at: usize, value: u64| {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        refusal(&bytes)
    };
    for huge in [1 << 60, u64::MAX, 1 << 33] {
        assert!(spoil(8, huge).starts_with("the number of tensors"));
        assert!(spoil(16, huge).starts_with("the number of keys"));
        assert!(spoil(24, huge).starts_with("the name of key 0"));
        // key, kind, then the length of the text
        assert!(spoil(24 + 8 + 20 + 4, huge).starts_with("key general.architecture"));
    }
    let mut file = sample();
    file.keys[3].1[8..16].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    assert!(refusal(&file.bytes()).starts_with("key tokenizer.ggml.tokens: a count or length"));
}

#[test]
fn tensors_must_lie_inside_the_file_and_beside_each_other() {
    let says = |change: &dyn Fn(&mut TestFile), expected: &str| {
        let mut file = sample();
        change(&mut file);
        let refusal = refusal(&file.bytes());
        assert!(refusal.contains(expected), "{refusal}");
    };
    says(&|f| f.tensors[0].1 = vec![u64::MAX, u64::MAX], "larger than the file");
    says(&|f| f.tensors[0].1 = vec![1 << 32, 1 << 32], "larger than the file");
    says(&|f| f.tensors[0].1 = vec![0, 4], "which is empty");
    says(&|f| f.tensors[0].1 = vec![1; 5], "5 dimensions");
    says(&|f| f.tensors[0].2 = 3, "cut inside a block of 32");
    says(&|f| f.tensors[0].2 = 10, "tensor one, in Q2_K,");
    says(&|f| f.tensors[0].2 = 77, "number format 77");
    says(&|f| f.tensors[0].1 = vec![3, 4], "tensor two: begins inside tensor one");
    says(&|f| f.tensors[1].1 = vec![100], "tensor two: 400 bytes at offset 32");
    says(&|f| f.tensors[1].0 = "one".into(), "tensor one: given twice");
    says(&|f| f.keys[1].0 = "general.architecture".into(), "given twice");
    says(&|f| f.keys[0].1[0] = 13, "a value of kind 13");
    says(&|f| f.keys[3].1[4] = 9, "an array of arrays");
    says(&|f| *f = f.clone().number("general.alignment", 0), "general.alignment");
}

#[test]
fn other_files_and_versions_are_named() {
    let mut bytes = sample().bytes();
    assert!(refusal(b"PK\x03\x04 and so on").starts_with("the first bytes"));
    bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
    assert!(refusal(&bytes).starts_with("version 1"));
    bytes[4..8].copy_from_slice(&3_u32.to_be_bytes());
    assert!(refusal(&bytes).starts_with("a big-endian file"));
}

#[test]
fn whatever_stands_in_the_file_the_reader_answers() {
    let good = sample().bytes();
    let mut stream = bilevel::rng::Stream::new(8, 0);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..=stream.below(3) {
            let at = stream.below(bytes.len() as u64) as usize;
            bytes[at] = match stream.below(4) {
                0 => 0xFF,
                1 => 0,
                _ => stream.below(256) as u8,
            };
        }
        let Ok(header) = read(&bytes) else { continue };
        accepted += 1;
        for tensor in header.tensors.values() {
            assert!(tensor.start + tensor.bytes <= bytes.len() as u64);
            let numbers: usize = tensor.shape.iter().product();
            assert_eq!(
                numbers / tensor.format.block_len() * tensor.format.block_bytes(),
                tensor.bytes as usize
            );
        }
    }
    // changes inside texts and numbers do no harm
    assert!((1_000..19_000).contains(&accepted), "{accepted}");
}

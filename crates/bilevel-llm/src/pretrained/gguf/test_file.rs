//! Writes small GGUF files for tests.

/// The parts of a file, to be spoilt one at a time.
#[derive(Clone, Debug, Default)]
pub struct TestFile {
    pub keys: Vec<(String, Vec<u8>)>,
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes(), s.as_bytes()].concat()
}

impl TestFile {
    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push((key.into(), [&kind.to_le_bytes(), value].concat()));
        self
    }
    pub fn number(self, key: &str, value: u32) -> Self {
        self.key(key, 4, &value.to_le_bytes())
    }
    pub fn float(self, key: &str, value: f32) -> Self {
        self.key(key, 6, &value.to_le_bytes())
    }
    pub fn text(self, key: &str, value: &str) -> Self {
        self.key(key, 8, &text(value))
    }
    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        let head = [&8_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        self.key(key, 9, &values.iter().fold(head, |bytes, v| [bytes, text(v)].concat()))
    }
    pub fn numbers(self, key: &str, values: &[i32]) -> Self {
        let head = [&5_u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes()].concat();
        self.key(key, 9, &values.iter().fold(head, |bytes, v| [&bytes[..], &v.to_le_bytes()].concat()))
    }
    /// A tensor in F32; the shape has rows first.
    pub fn tensor(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let dims = shape.iter().rev().map(|&d| d as u64).collect();
        self.tensors.push((name.into(), dims, 0, values.iter().flat_map(|v| v.to_le_bytes()).collect()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut places = Vec::new();
        for (_, _, _, values) in &self.tensors {
            places.push(data.len() as u64);
            data.extend(values);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        [self.header(&places), data].concat()
    }

    /// Everything before the data, with the tensors at these bytes of the data.
    pub fn header(&self, places: &[u64]) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            out.extend(text(key));
            out.extend(value);
        }
        for ((name, dims, format, _), place) in self.tensors.iter().zip(places) {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            for d in dims {
                out.extend(d.to_le_bytes());
            }
            out.extend(format.to_le_bytes());
            out.extend(place.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(32), 0);
        out
    }
}

//! The streaming writer.

use std::collections::HashSet;
use std::io::Write;

use crate::reader::alignment;
use crate::{Array, Error, MAGIC, Metadata, TensorType, VERSION, Value};

/// Writes a GGUF file from front to back, holding at most one piece of a tensor in memory.
///
/// The header comes first and states the size and position of every tensor. The bytes of the
/// tensors follow in the same order, each with exactly the length that its type and shape require.
///
/// ```
/// use trilobite_format::{Gguf, Metadata, TensorType, Writer};
///
/// let mut metadata = Metadata::new();
/// metadata.insert("general.architecture", "bitnet-b1.58");
/// let tensors = vec![("output_norm.weight".to_owned(), TensorType::F32, vec![2])];
/// let mut writer = Writer::new(Vec::new(), &metadata, tensors)?;
/// writer.tensor("output_norm.weight", &[0, 0, 128, 63, 0, 0, 0, 64])?;
/// let file = writer.finish()?;
///
/// let gguf = Gguf::parse(&file)?;
/// let norm = gguf.tensor("output_norm.weight").expect("just written");
/// assert_eq!(norm.bytes(&file), [0, 0, 128, 63, 0, 0, 0, 64]);
/// # Ok::<(), trilobite_format::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    alignment: u64,
    /// Name and length of each tensor.
    tensors: Vec<(String, u64)>,
    /// Index of the tensor being written.
    current: usize,
    /// Bytes of the current tensor written so far.
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Writes the header for `tensors`: name, type and shape (outermost dimension first) of each.
    ///
    /// # Errors
    /// A duplicate or empty name, a shape that the type cannot hold, a bad `general.alignment`, or
    /// a failed write.
    pub fn new(
        mut out: W,
        metadata: &Metadata,
        tensors: Vec<(String, TensorType, Vec<u64>)>,
    ) -> Result<Self, Error> {
        let alignment = alignment(metadata)?;
        let mut header = Vec::new();
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            name(&mut header, "a metadata key", key)?;
            header.extend(value.type_id().to_le_bytes());
            encode(&mut header, value);
        }

        let mut seen = HashSet::new();
        let mut pending = Vec::with_capacity(tensors.len());
        let mut offset = 0u64;
        for (tensor, ty, shape) in tensors {
            if !(1..=4).contains(&shape.len()) {
                return Err(Error::Dimensions { tensor, found: shape.len() as u64 });
            }
            let len = ty.byte_len(&shape);
            let end = len.and_then(|n| offset.checked_add(n)?.checked_next_multiple_of(alignment));
            let (Some(len), Some(end)) = (len, end) else {
                return Err(Error::Shape { tensor, ty, shape });
            };
            if !seen.insert(tensor.clone()) {
                return Err(Error::DuplicateTensor(tensor));
            }
            name(&mut header, "a tensor name", &tensor)?;
            header.extend((shape.len() as u32).to_le_bytes());
            for dimension in shape.iter().rev() {
                header.extend(dimension.to_le_bytes());
            }
            header.extend(ty.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            pending.push((tensor, len));
            offset = end;
        }
        header.resize((header.len() as u64).next_multiple_of(alignment) as usize, 0);
        out.write_all(&header)?;
        Ok(Writer { out, alignment, tensors: pending, current: 0, written: 0 })
    }

    /// Writes a whole tensor.
    ///
    /// # Errors
    /// Another tensor comes next, the length is wrong, or the write fails.
    pub fn tensor(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (tensor, len) = self.expect(name)?;
        if self.written != 0 || bytes.len() as u64 != len {
            return Err(Error::Length {
                tensor,
                expected: len,
                found: self.written + bytes.len() as u64,
            });
        }
        self.piece(name, bytes)
    }

    /// Writes the next piece of a tensor. The tensor is complete when its length is reached.
    ///
    /// # Errors
    /// Another tensor comes next, the piece exceeds the rest of the tensor, or the write fails.
    pub fn piece(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (tensor, len) = self.expect(name)?;
        let written = self.written + bytes.len() as u64;
        if written > len {
            return Err(Error::Length { tensor, expected: len, found: written });
        }
        self.out.write_all(bytes)?;
        self.written = written;
        if written == len {
            let padding = len.next_multiple_of(self.alignment) - len;
            std::io::copy(&mut std::io::Read::take(std::io::repeat(0), padding), &mut self.out)?;
            self.current += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Flushes the output and returns it.
    ///
    /// # Errors
    /// A tensor is missing or incomplete, or a write fails.
    pub fn finish(mut self) -> Result<W, Error> {
        if let Some((tensor, len)) = self.tensors.get(self.current) {
            return Err(Error::Length {
                tensor: tensor.clone(),
                expected: *len,
                found: self.written,
            });
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Checks that `name` is the tensor to write next. Returns it with its length.
    fn expect(&self, name: &str) -> Result<(String, u64), Error> {
        match self.tensors.get(self.current) {
            Some((tensor, len)) if tensor == name => Ok((tensor.clone(), *len)),
            other => Err(Error::Order {
                expected: other.map(|(tensor, _)| tensor.clone()).unwrap_or_default(),
                found: name.to_owned(),
            }),
        }
    }
}

fn name(header: &mut Vec<u8>, what: &str, text: &str) -> Result<(), Error> {
    if !(1..=65_535).contains(&text.len()) {
        return Err(Error::NameLength {
            what: what.to_owned(),
            offset: header.len() as u64,
            found: text.len() as u64,
        });
    }
    string(header, text);
    Ok(())
}

fn string(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

fn encode(header: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => header.extend(v.to_le_bytes()),
        Value::I8(v) => header.extend(v.to_le_bytes()),
        Value::U16(v) => header.extend(v.to_le_bytes()),
        Value::I16(v) => header.extend(v.to_le_bytes()),
        Value::U32(v) => header.extend(v.to_le_bytes()),
        Value::I32(v) => header.extend(v.to_le_bytes()),
        Value::F32(v) => header.extend(v.to_le_bytes()),
        Value::Bool(v) => header.push((*v).into()),
        Value::String(v) => string(header, v),
        Value::U64(v) => header.extend(v.to_le_bytes()),
        Value::I64(v) => header.extend(v.to_le_bytes()),
        Value::F64(v) => header.extend(v.to_le_bytes()),
        Value::Array(array) => {
            header.extend(array.type_id().to_le_bytes());
            header.extend((array.len() as u64).to_le_bytes());
            match array {
                Array::U8(v) => header.extend(v),
                Array::I8(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::U16(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::I16(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::U32(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::I32(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::F32(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::Bool(v) => v.iter().for_each(|&x| header.push(x.into())),
                Array::String(v) => v.iter().for_each(|x| string(header, x)),
                Array::U64(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::I64(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
                Array::F64(v) => v.iter().for_each(|x| header.extend(x.to_le_bytes())),
            }
        }
    }
}

//! Parsing and validating the header of a file.

mod q2_0;

use std::collections::HashMap;
use std::ops::Range;

use crate::keys::ALIGNMENT;
use crate::{
    Array, DEFAULT_ALIGNMENT, Error, LFS_POINTER, MAGIC, Metadata, TensorType, VERSION, Value,
};

/// The index of a GGUF file: its metadata and the positions of its tensors.
///
/// [`Gguf::parse`] validates the whole index. Its ranges stay valid as long as the file does not
/// change. The index does not borrow the file.
#[derive(Clone, Debug)]
pub struct Gguf {
    pub(crate) version: u32,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<TensorInfo>,
    pub(crate) index: HashMap<String, usize>,
}

/// Name, type, shape and position of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, for example `blk.0.attn_q.weight`.
    pub name: String,
    /// How the elements are stored.
    pub ty: TensorType,
    /// The dimensions, outermost first: `[rows, cols]`. The file stores them innermost first.
    pub shape: Vec<u64>,
    /// The index of the file that holds the tensor among the parts of a split model; 0 for a model
    /// in one file.
    pub part: usize,
    /// The byte range of the tensor in the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// The bytes of the tensor. `file` is the file that was parsed. A slice that is too short gives
    /// fewer bytes, or none.
    pub fn bytes<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let end = self.range.end.min(file.len());
        file.get(self.range.start.min(end)..end).unwrap_or_default()
    }

    /// The shape of the matrix: for a [transposed](TensorType::I2T) tensor, its shape reversed.
    pub fn matrix_shape(&self) -> Vec<u64> {
        let dimensions = self.shape.iter().copied();
        match self.ty {
            TensorType::I2T => dimensions.rev().collect(),
            _ => dimensions.collect(),
        }
    }

    /// Number of elements.
    pub fn count(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// The first part of a header: everything before the tensor index.
struct Header<'a> {
    /// Positioned at the tensor index.
    cursor: Cursor<'a>,
    version: u32,
    tensor_count: usize,
    metadata: Metadata,
}

impl<'a> Header<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let magic = file.get(..MAGIC.len()).unwrap_or(file);
        if file.starts_with(LFS_POINTER) {
            return Err(Error::LfsPointer);
        }
        if magic != MAGIC {
            return Err(Error::Magic { found: magic.to_vec() });
        }
        let mut cursor = Cursor { file, at: MAGIC.len() };
        let version = cursor.u32("the version")?;
        match version {
            2 | VERSION => {}
            v if matches!(v.swap_bytes(), 1..=VERSION) => return Err(Error::BigEndian),
            v => return Err(Error::Version(v)),
        }
        // The sizes of the smallest tensor entry and the smallest metadata entry. They bound the
        // counts, so that nothing is allocated for a count that the file cannot hold.
        let tensor_count = cursor.count("the number of tensors", 8 + 1 + 4 + 8 + 4 + 8)?;
        let entry_count = cursor.count("the number of metadata entries", 8 + 1 + 4 + 1)?;

        let mut metadata = Metadata::new();
        for _ in 0..entry_count {
            let key = cursor.name("a metadata key")?;
            let value = cursor.value(&key)?;
            if metadata.get(&key).is_some() {
                return Err(Error::DuplicateKey(key));
            }
            metadata.insert(key, value);
        }
        Ok(Self { cursor, version, tensor_count, metadata })
    }

    /// Reads the tensor index. Returns the offset of the data section and the tensors. `file` is the
    /// length of the file, if it is known.
    fn tensors(&mut self, file: Option<usize>) -> Result<(u64, Vec<TensorHeader>), Error> {
        let alignment = alignment(&self.metadata)?;
        let mut headers = Vec::with_capacity(self.tensor_count);
        for _ in 0..self.tensor_count {
            headers.push(self.cursor.tensor(alignment)?);
        }
        let data = (self.cursor.at as u64).next_multiple_of(alignment);
        let len = file.map(|file| (file as u64).saturating_sub(data));
        q2_0::tell_apart(&mut headers, alignment, len)?;
        Ok((data, headers))
    }
}

impl Metadata {
    /// Reads and validates the metadata at the start of a file. The bytes after them are not
    /// examined and may be missing.
    ///
    /// # Errors
    /// Every deviation from the format is an error; see [`Error`].
    pub fn parse(file: &[u8]) -> Result<Metadata, Error> {
        Ok(Header::parse(file)?.metadata)
    }
}

impl Gguf {
    /// The minimum length of the file: the end of its last tensor, as the header states it. `file`
    /// is any prefix of the file that contains the whole header.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the header is incomplete. Every other deviation from the format is
    /// an error too.
    pub fn least_len(file: &[u8]) -> Result<u64, Error> {
        let (data, headers) = Header::parse(file)?.tensors(None)?;
        let ends = headers.iter().map(|header| header.offset.saturating_add(header.len));
        Ok(ends.max().map_or(data.min(file.len() as u64), |end| data.saturating_add(end)))
    }

    /// Reads and validates the header of a whole file.
    ///
    /// # Errors
    /// Every deviation from the format is an error; see [`Error`].
    pub fn parse(file: &[u8]) -> Result<Gguf, Error> {
        let mut header = Header::parse(file)?;
        let (data, headers) = header.tensors(Some(file.len()))?;
        let Header { version, metadata, .. } = header;

        let mut tensors = Vec::with_capacity(headers.len());
        let mut index = HashMap::with_capacity(headers.len());
        for header in headers {
            let info = header.place(data, file.len())?;
            if index.insert(info.name.clone(), tensors.len()).is_some() {
                return Err(Error::DuplicateTensor(info.name));
            }
            tensors.push(info);
        }
        refuse_overlaps(&tensors)?;
        Ok(Gguf { version, metadata, tensors, index })
    }

    /// The container version: 2 or 3. The two differ for big-endian files only.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).and_then(|&i| self.tensors.get(i))
    }

    /// The tensor that holds a matrix: its [transposed](TensorType::I2T) tensor if the file has
    /// one, otherwise the tensor with this name.
    pub fn matrix(&self, name: &str) -> Option<&TensorInfo> {
        let transposed = || {
            let info = self.tensor(&TensorType::transposed(name));
            info.filter(|info| info.ty == TensorType::I2T)
        };
        transposed().or_else(|| self.tensor(name))
    }
}

/// The value of `general.alignment`, or [`DEFAULT_ALIGNMENT`].
pub(crate) fn alignment(metadata: &Metadata) -> Result<u64, Error> {
    let alignment = metadata.u64(ALIGNMENT)?.unwrap_or(DEFAULT_ALIGNMENT);
    if alignment.is_power_of_two() && (8..=1 << 20).contains(&alignment) {
        Ok(alignment)
    } else {
        Err(Error::Alignment(alignment))
    }
}

fn refuse_overlaps(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
    by_start.sort_by_key(|info| info.range.start);
    for pair in by_start.windows(2) {
        if let [first, second] = pair
            && second.range.start < first.range.end
        {
            return Err(Error::Overlap { first: first.name.clone(), second: second.name.clone() });
        }
    }
    Ok(())
}

/// An entry of the tensor index. The offset is relative to the data section.
struct TensorHeader {
    name: String,
    ty: TensorType,
    shape: Vec<u64>,
    offset: u64,
    len: u64,
}

impl TensorHeader {
    fn place(self, data: u64, file: usize) -> Result<TensorInfo, Error> {
        let start = data.saturating_add(self.offset);
        let end = start.saturating_add(self.len);
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(first), Ok(last)) if last <= file => Ok(TensorInfo {
                name: self.name,
                ty: self.ty,
                shape: self.shape,
                part: 0,
                range: first..last,
            }),
            _ => Err(Error::OutOfFile {
                tensor: self.name,
                start,
                needed: self.len,
                file: file as u64,
            }),
        }
    }
}

/// Reads little-endian values from the front of a file.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8], Error> {
        let rest = self.file.get(self.at..).unwrap_or_default();
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(Error::Truncated {
                what: what.to_owned(),
                offset: self.at as u64,
                needed: n,
                available: rest.len() as u64,
            }),
        }
    }

    fn chunk<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        let mut chunk = [0; N];
        chunk.copy_from_slice(self.take(N as u64, what)?);
        Ok(chunk)
    }

    fn u32(&mut self, what: &str) -> Result<u32, Error> {
        self.chunk(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64, Error> {
        self.chunk(what).map(u64::from_le_bytes)
    }

    /// Reads a number of items of at least `size` bytes each, and checks that the rest of the file
    /// can hold them.
    fn count(&mut self, what: &str, size: u64) -> Result<usize, Error> {
        let count = self.u64(what)?;
        let available = (self.file.len() - self.at) as u64;
        let needed = count.saturating_mul(size);
        match usize::try_from(count) {
            Ok(count) if needed <= available => Ok(count),
            _ => Err(Error::Truncated {
                what: format!("{what} ({count})"),
                offset: self.at as u64,
                needed,
                available,
            }),
        }
    }

    fn string(&mut self, what: &str) -> Result<String, Error> {
        let len = self.u64(what)?;
        let offset = self.at as u64;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::Utf8 { what: what.to_owned(), offset }),
        }
    }

    /// Reads a key or a tensor name, which GGUF limits to 1 to 65,535 bytes.
    fn name(&mut self, what: &str) -> Result<String, Error> {
        let offset = self.at as u64;
        let text = self.string(what)?;
        if (1..=65_535).contains(&text.len()) {
            Ok(text)
        } else {
            Err(Error::NameLength { what: what.to_owned(), offset, found: text.len() as u64 })
        }
    }

    fn bool(&mut self, key: &str) -> Result<bool, Error> {
        match self.chunk(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => Err(Error::Bool { key: key.to_owned(), found }),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value, Error> {
        let id = self.u32(key)?;
        Ok(match id {
            0 => Value::U8(u8::from_le_bytes(self.chunk(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.chunk(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.chunk(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.chunk(key)?)),
            4 => Value::U32(u32::from_le_bytes(self.chunk(key)?)),
            5 => Value::I32(i32::from_le_bytes(self.chunk(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.chunk(key)?)),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::String(self.string(key)?),
            9 => Value::Array(self.array(key)?),
            10 => Value::U64(u64::from_le_bytes(self.chunk(key)?)),
            11 => Value::I64(i64::from_le_bytes(self.chunk(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.chunk(key)?)),
            _ => return Err(Error::ValueType { key: key.to_owned(), id }),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array, Error> {
        let id = self.u32(key)?;
        Ok(match id {
            0 => Array::U8(self.elements(key, u8::from_le_bytes)?),
            1 => Array::I8(self.elements(key, i8::from_le_bytes)?),
            2 => Array::U16(self.elements(key, u16::from_le_bytes)?),
            3 => Array::I16(self.elements(key, i16::from_le_bytes)?),
            4 => Array::U32(self.elements(key, u32::from_le_bytes)?),
            5 => Array::I32(self.elements(key, i32::from_le_bytes)?),
            6 => Array::F32(self.elements(key, f32::from_le_bytes)?),
            7 => {
                let count = self.count(key, 1)?;
                Array::Bool((0..count).map(|_| self.bool(key)).collect::<Result<_, _>>()?)
            }
            8 => {
                let count = self.count(key, 8)?;
                Array::String((0..count).map(|_| self.string(key)).collect::<Result<_, _>>()?)
            }
            9 => return Err(Error::NestedArray(key.to_owned())),
            10 => Array::U64(self.elements(key, u64::from_le_bytes)?),
            11 => Array::I64(self.elements(key, i64::from_le_bytes)?),
            12 => Array::F64(self.elements(key, f64::from_le_bytes)?),
            _ => return Err(Error::ValueType { key: key.to_owned(), id }),
        })
    }

    fn elements<T, const N: usize>(
        &mut self,
        key: &str,
        decode: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, Error> {
        let count = self.count(key, N as u64)?;
        let bytes = self.take(count as u64 * N as u64, key)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| decode(chunk)).collect())
    }

    fn tensor(&mut self, alignment: u64) -> Result<TensorHeader, Error> {
        let name = self.name("a tensor name")?;
        let dimensions = self.u32(&name)?;
        if !(1..=4).contains(&dimensions) {
            return Err(Error::Dimensions { tensor: name, found: dimensions.into() });
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..dimensions {
            shape.push(self.u64(&name)?);
        }
        shape.reverse();
        let id = self.u32(&name)?;
        let offset = self.u64(&name)?;
        let Some(ty) = TensorType::of(id, &name) else {
            return Err(Error::UnknownType { tensor: name, id });
        };
        let Some(len) = ty.byte_len(&shape) else {
            return Err(Error::Shape { tensor: name, ty, shape });
        };
        if !offset.is_multiple_of(alignment) {
            return Err(Error::Misaligned { tensor: name, offset, alignment });
        }
        Ok(TensorHeader { name, ty, shape, offset, len })
    }
}

use std::collections::{BTreeMap, HashSet};

use super::reader::Reader;
use super::{Problem, Tensor, Value};

/// Tensors begin at multiples of so many bytes where the file does not say otherwise.
pub(super) const DEFAULT_ALIGNMENT: usize = 32;

/// The smallest entries the format allows, in bytes: what a hostile count is held against.
const MIN_KEY: u64 = 8 + 4 + 1;
const MIN_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// All that a GGUF file says about itself, checked.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<Tensor>,
    /// Its bytes.
    pub(super) len: usize,
}

impl Header {
    /// Reads the header that `bytes` begin with; the whole file has `len` bytes. What it allocates is in proportion to the
    /// bytes that are there, whatever counts and lengths they claim.
    ///
    /// # Errors
    /// [`Problem::Truncated`] that needs no more than `len` bytes, if the header goes on behind `bytes`.
    pub(super) fn parse(bytes: &[u8], len: usize) -> Result<Header, Problem> {
        let mut reader = Reader::new(bytes, len);
        version(&mut reader)?;
        let tensor_count = count(&mut reader, "its number of tensors", MIN_TENSOR)?;
        let key_count = count(&mut reader, "its number of metadata keys", MIN_KEY)?;
        let metadata = metadata(&mut reader, key_count)?;
        let alignment = alignment(&metadata, &mut reader)?;
        let mut tensors = tensors(&mut reader, tensor_count)?;
        let end = reader.at();
        place(&mut tensors, alignment, &mut reader, len)?;
        Ok(Header { metadata, tensors, len: end })
    }
}

fn version(reader: &mut Reader<'_>) -> Result<(), Problem> {
    let magic = reader.array::<4>("its magic number")?;
    if magic != *b"GGUF" {
        return Err(Problem::Magic(magic.escape_ascii().to_string()));
    }
    match reader.u32("its version")? {
        2 | 3 => Ok(()),
        other if matches!(other.swap_bytes(), 1..=3) => Err(Problem::BigEndian),
        other => Err(Problem::Version(other)),
    }
}

/// A number of entries, each of at least `min` bytes.
fn count(reader: &mut Reader<'_>, field: &'static str, min: u64) -> Result<u64, Problem> {
    let count = reader.u64(field)?;
    if count > reader.remaining() / min {
        let fault =
            format!("{field} is {count}, more than the {} bytes that follow can hold", reader.remaining());
        return Err(reader.invalid(fault));
    }
    Ok(count)
}

fn metadata(reader: &mut Reader<'_>, count: u64) -> Result<BTreeMap<String, Value>, Problem> {
    let mut metadata = BTreeMap::new();
    for index in 0..count {
        reader.subject = format!("metadata key {index} of {count}");
        let key = reader.name()?;
        reader.subject = format!("metadata {key:?}");
        let value = Value::read(reader)?;
        if metadata.insert(key.to_owned(), value).is_some() {
            return Err(reader.invalid("the key occurs twice"));
        }
    }
    Ok(metadata)
}

fn alignment(metadata: &BTreeMap<String, Value>, reader: &mut Reader<'_>) -> Result<usize, Problem> {
    const KEY: &str = "general.alignment";
    let value = match metadata.get(KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::Int { value, .. }) => *value,
        Some(other) => return Err(Problem::wrong_type(KEY, "an integer", other.type_name())),
    };
    // Beyond a gigabyte it is no alignment.
    let valid = usize::try_from(value).ok().filter(|n| n.is_power_of_two() && *n <= 1 << 30);
    valid.ok_or_else(|| {
        reader.subject = format!("metadata {KEY:?}");
        reader.invalid(format!("{value} is not a power of two from 1 to 2^30"))
    })
}

fn tensors(reader: &mut Reader<'_>, count: u64) -> Result<Vec<Tensor>, Problem> {
    let (mut tensors, mut names) = (Vec::new(), HashSet::new());
    for index in 0..count {
        reader.subject = format!("tensor {index} of {count}");
        let tensor = Tensor::read(reader)?;
        if !names.insert(tensor.name.clone()) {
            return Err(reader.invalid("the name occurs twice"));
        }
        tensors.push(tensor);
    }
    Ok(tensors)
}

/// Turns offsets into the data, which begins at the next aligned byte, into offsets into the file, and checks them.
fn place(
    tensors: &mut [Tensor],
    alignment: usize,
    reader: &mut Reader<'_>,
    len: usize,
) -> Result<(), Problem> {
    let data = reader.at().next_multiple_of(alignment);
    for tensor in &mut *tensors {
        reader.subject = format!("tensor {:?}", tensor.name);
        let (start, end) = (tensor.bytes.start, tensor.bytes.end);
        if start % alignment != 0 {
            return Err(reader.invalid(format!("its offset {start} is not a multiple of {alignment}")));
        }
        let end = data
            .checked_add(end)
            .ok_or_else(|| reader.invalid(format!("its offset {start} is too large")))?;
        tensor.bytes = data + start..end;
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.bytes.start);
    for pair in order.windows(2) {
        if pair[1].bytes.start < pair[0].bytes.end {
            reader.subject = format!("tensor {:?}", pair[1].name);
            return Err(reader.invalid(format!("its data overlap those of tensor {:?}", pair[0].name)));
        }
    }
    match order.last() {
        Some(last) if last.bytes.end > len => Err(Problem::Truncated {
            subject: format!("tensor {:?}", last.name),
            field: "its data",
            offset: last.bytes.start as u64,
            needed: last.bytes.end as u64,
            len: len as u64,
        }),
        _ => Ok(()),
    }
}

use super::Problem;

/// Keys and tensor names may not be longer, in bytes: the format's own are under 100, and errors quote them.
const MAX_NAME: u64 = 512;

/// Walks over the header's bytes; every step is checked against the end of the file.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// Bytes of the whole file.
    len: usize,
    at: usize,
    /// What is being read, for errors.
    pub(super) subject: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], len: usize) -> Reader<'a> {
        Reader { bytes, len, at: 0, subject: "the header".to_owned() }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes of the file that follow.
    pub(super) fn remaining(&self) -> u64 {
        (self.len - self.at) as u64
    }

    pub(super) fn take(&mut self, count: u64, field: &'static str) -> Result<&'a [u8], Problem> {
        if count > (self.bytes.len() - self.at) as u64 {
            return Err(Problem::Truncated {
                subject: self.subject.clone(),
                field,
                offset: self.at as u64,
                needed: (self.at as u64).saturating_add(count),
                len: self.len as u64,
            });
        }
        let start = self.at;
        self.at += count as usize;
        Ok(&self.bytes[start..self.at])
    }

    pub(super) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Problem> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, field)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, Problem> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, Problem> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A length, then that many bytes of UTF-8.
    pub(super) fn string(&mut self, field: &'static str) -> Result<&'a str, Problem> {
        let len = self.u64(field)?;
        let bytes = self.take(len, field)?;
        std::str::from_utf8(bytes).map_err(|_| self.invalid(format!("{field} is not UTF-8")))
    }

    /// A key or a tensor's name.
    pub(super) fn name(&mut self) -> Result<&'a str, Problem> {
        let name = self.string("its name")?;
        if name.len() as u64 > MAX_NAME {
            return Err(
                self.invalid(format!("its name has {} bytes, at most {MAX_NAME} are allowed", name.len()))
            );
        }
        Ok(name)
    }

    pub(super) fn invalid(&self, fault: impl Into<String>) -> Problem {
        Problem::Invalid { subject: self.subject.clone(), fault: fault.into(), offset: self.at as u64 }
    }
}

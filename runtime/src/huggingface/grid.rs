//! Where a tensor's elements lie in a file, and in which order a GGUF file would have them.

use std::io;

use super::shards::Shards;

/// Where elements are in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrangement {
    /// As they are.
    Same,
    /// In each of so many heads, row `i` and row `i + half` come to `2i` and `2i + 1`: the library turns halves of a head
    /// against each other, Llama's GGUF files turn neighbours.
    Interleaved {
        /// Heads.
        heads: usize,
    },
    /// Row `i` is row `2i + side`: rows of two tensors by turns, of which this is one.
    Alternate {
        /// 0 or 1.
        side: usize,
    },
    /// Row and column are exchanged in each of so many matrices; column `step i + side` becomes row `i`.
    Transposed {
        /// Matrices, one after the other.
        matrices: usize,
        /// 1, or 2 where columns of two tensors alternate.
        step: usize,
        /// 0, or up to `step`.
        side: usize,
    },
}

/// A tensor's elements: values, or blocks of them.
#[derive(Debug)]
pub(super) struct Grid {
    /// Its name in the folder.
    pub(super) name: String,
    /// The file.
    pub(super) shard: usize,
    /// Where it begins.
    pub(super) start: u64,
    /// Bytes of an element.
    pub(super) size: usize,
    /// Rows as GGUF has them; the elements of a vector.
    pub(super) rows: usize,
    /// Elements of such a row; 1 of a vector.
    pub(super) columns: usize,
    /// Where elements are to go.
    pub(super) arrangement: Arrangement,
}

/// What keeps a tensor's bytes from being made.
#[derive(Debug)]
pub(super) struct Fault {
    /// The file.
    pub(super) shard: usize,
    /// The tensor's name in the folder.
    pub(super) tensor: String,
    pub(super) problem: String,
}

impl Grid {
    /// Reads `count` elements from the `first` on, in GGUF's order.
    pub(super) fn gather(
        &self,
        shards: &Shards,
        first: usize,
        count: usize,
        into: &mut [u8],
    ) -> Result<(), Fault> {
        let read = |element: usize, into: &mut [u8]| {
            shards.read(self.shard, self.start + (element * self.size) as u64, into)
        };
        let done = match self.arrangement {
            Arrangement::Same => read(first, into),
            Arrangement::Interleaved { heads } => self.interleave(heads, first, count, into, read),
            Arrangement::Alternate { side } => self.alternate(side, first, count, into, read),
            Arrangement::Transposed { matrices, step, side } => {
                self.transpose([matrices, step, side], first, count, into, read)
            }
        };
        done.map_err(|error| self.fault(unreadable(&error)))
    }

    /// What is wrong with the tensor.
    pub(super) fn fault(&self, problem: String) -> Fault {
        Fault { shard: self.shard, tensor: self.name.clone(), problem }
    }

    fn interleave(
        &self,
        heads: usize,
        first: usize,
        count: usize,
        into: &mut [u8],
        read: impl Fn(usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { rows, columns, size, .. } = *self;
        let mut at = 0;
        while at < count {
            let (row, column) = ((first + at) / columns, (first + at) % columns);
            let len = (columns - column).min(count - at);
            let from = from_halves(row, rows / heads);
            read(from * columns + column, &mut into[at * size..(at + len) * size])?;
            at += len;
        }
        Ok(())
    }

    /// Reads the rows between as well, so that there is one read and not one a row.
    fn alternate(
        &self,
        side: usize,
        first: usize,
        count: usize,
        into: &mut [u8],
        read: impl Fn(usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { columns, size, .. } = *self;
        let (top, bottom) = (first / columns, (first + count).div_ceil(columns));
        let mut strip = vec![0; (2 * (bottom - top) - 1) * columns * size];
        read((2 * top + side) * columns, &mut strip)?;
        for (row, elements) in (top..bottom).zip(strip.chunks(columns * size).step_by(2)) {
            let (begin, end) = ((row * columns).max(first), ((row + 1) * columns).min(first + count));
            let part = (begin - row * columns) * size..(end - row * columns) * size;
            into[(begin - first) * size..(end - first) * size].copy_from_slice(&elements[part]);
        }
        Ok(())
    }

    /// Reads a part of every column that a matrix's rows have; the more rows at once, the better.
    fn transpose(
        &self,
        [matrices, step, side]: [usize; 3],
        first: usize,
        count: usize,
        into: &mut [u8],
        read: impl Fn(usize, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Self { rows, columns, size, .. } = *self;
        let height = rows / matrices;
        let (mut top, bottom) = (first / columns, (first + count).div_ceil(columns));
        while top < bottom {
            let matrix = top / height;
            let end = bottom.min((matrix + 1) * height);
            let mut strip = vec![0; (step * (end - top - 1) + 1) * size];
            for column in 0..columns {
                let line = (matrix * columns + column) * height * step;
                read(line + (top - matrix * height) * step + side, &mut strip)?;
                for (row, element) in (top..end).zip(strip.chunks_exact(size).step_by(step)) {
                    let at = (row * columns + column).wrapping_sub(first);
                    if at < count {
                        into[at * size..(at + 1) * size].copy_from_slice(element);
                    }
                }
            }
            top = end;
        }
        Ok(())
    }
}

/// The row of a head in halves that is row `row` of one with its pairs side by side, in heads of so many rows.
fn from_halves(row: usize, head: usize) -> usize {
    let (first, i) = (row - row % head, row % head);
    first + i / 2 + (i % 2) * (head / 2)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file has become shorter".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

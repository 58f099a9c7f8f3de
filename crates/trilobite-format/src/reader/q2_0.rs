//! The three layouts that share the type number of Q2_0. Only the positions of the tensors
//! distinguish them.

use super::TensorHeader;
use crate::{Error, TensorType};

/// The weights and the bytes of a block of STQ1_0, which is not supported.
const STQ1_0: (u64, u64) = (256, 42);

/// Sizes of a tensor as Q2_0, as PQ2_0, and as STQ1_0.
fn sizes(shape: &[u64]) -> [Option<u64>; 3] {
    let (weights, bytes) = STQ1_0;
    let whole = shape.last().is_some_and(|cols| cols.is_multiple_of(weights));
    let blocks = shape.iter().product::<u64>() / weights;
    let stq1_0 = blocks.checked_mul(bytes).filter(|_| whole);
    [TensorType::Q2_0.byte_len(shape), TensorType::Pq2_0.byte_len(shape), stq1_0]
}

/// Corrects the type of tensors that have the type number of Q2_0. `len` is the length of the data
/// section, if it is known.
///
/// A tensor reaches to the start of the next one, so the distance tells its size. All tensors of a
/// file have the same layout. If the length is unknown, the smallest possible layout is taken.
///
/// # Errors
/// No layout fits the distances, or several do, or the layout is STQ1_0.
pub(super) fn tell_apart(
    headers: &mut [TensorHeader],
    alignment: u64,
    len: Option<u64>,
) -> Result<(), Error> {
    let starts = {
        let mut starts: Vec<u64> = headers.iter().map(|header| header.offset).collect();
        starts.sort_unstable();
        starts
    };
    let next = |offset: u64| starts.get(starts.partition_point(|start| *start <= offset)).copied();
    let shared = || headers.iter().filter(|header| header.ty == TensorType::Q2_0);
    let Some(first) = shared().next() else { return Ok(()) };

    let undecided = |header: &TensorHeader, found: Option<u64>| {
        let [q2_0, pq2_0, stq1_0] = sizes(&header.shape);
        let tensor = header.name.clone();
        Error::Undecided { tensor, found, q2_0, pq2_0, stq1_0 }
    };
    let mut possible = sizes(&first.shape).map(|size| size.is_some());
    let mut last = None;
    for header in shared() {
        let Some(next) = next(header.offset) else {
            last = Some(header);
            continue;
        };
        let span = next - header.offset;
        for (possible, size) in possible.iter_mut().zip(sizes(&header.shape)) {
            let padded = size.and_then(|size| size.checked_next_multiple_of(alignment));
            *possible &= padded == Some(span);
        }
        if possible == [false; 3] {
            return Err(undecided(header, Some(span)));
        }
    }
    // Bytes may follow the last tensor, so it counts only if it fits.
    if let (Some(last), Some(len)) = (last, len) {
        let span = len.saturating_sub(last.offset);
        let fits = sizes(&last.shape).map(|size| {
            size.is_some_and(|size| size == span || size.next_multiple_of(alignment) == span)
        });
        let both = [0, 1, 2].map(|i| possible[i] && fits[i]);
        if both != [false; 3] {
            possible = both;
        }
    }
    let ty = match possible {
        [true, false, false] => return Ok(()),
        [false, true, false] => TensorType::Pq2_0,
        [false, false, true] => {
            let id = TensorType::Q2_0.id();
            return Err(Error::UnknownType { tensor: first.name.clone(), id });
        }
        [_, true, _] if len.is_none() => TensorType::Pq2_0,
        _ if len.is_none() => return Ok(()),
        _ => {
            let span = next(first.offset).or(len).map(|end| end.saturating_sub(first.offset));
            return Err(undecided(first, span));
        }
    };
    for header in headers.iter_mut().filter(|header| header.ty == TensorType::Q2_0) {
        let Some(len) = ty.byte_len(&header.shape) else {
            let (tensor, shape) = (header.name.clone(), header.shape.clone());
            return Err(Error::Shape { tensor, ty, shape });
        };
        (header.ty, header.len) = (ty, len);
    }
    Ok(())
}

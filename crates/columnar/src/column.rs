//! The builders of one column: the neat array and its companion.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, ListArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer};
use arrow_schema::{ArrowError, DataType};

use crate::error::ValueProblem;
use crate::numeric::{MAX_TEXT, Numeric};
use crate::pgtype::{Kind, Scalar};
use crate::scalar::{Appended, ScalarBuilder, carries, finish_texts, write_exception};

/// Most bytes that a column can gain from one field beyond the field's own length, when the
/// text of a numeric is made here.
pub(crate) const MAX_GROWTH: usize = MAX_TEXT;

/// The builders of one table column.
pub(crate) struct ColumnBuilder {
    neat: Neat,
    companion: Option<StringBuilder>,
    /// Reused for the texts made here, so that no value allocates.
    scratch: String,
}

enum Neat {
    Scalar(Scalar, ScalarBuilder),
    NumericText(StringBuilder),
    List(ListBuilder),
    Output(StringBuilder),
}

impl ColumnBuilder {
    pub(crate) fn new(kind: Kind) -> ColumnBuilder {
        let neat = match kind {
            Kind::Scalar(scalar) => Neat::Scalar(scalar, ScalarBuilder::new(scalar)),
            Kind::NumericText => Neat::NumericText(StringBuilder::new()),
            Kind::List { element, oid } => Neat::List(ListBuilder::new(element, oid)),
            Kind::Output => Neat::Output(StringBuilder::new()),
        };
        ColumnBuilder {
            neat,
            companion: kind.has_companion().then(StringBuilder::new),
            scratch: String::new(),
        }
    }

    /// Bytes that a row takes whatever its value.
    pub(crate) fn row_bytes(&self) -> usize {
        let neat = match &self.neat {
            Neat::Scalar(scalar, _) => scalar.row_bytes(),
            Neat::NumericText(_) | Neat::List(_) | Neat::Output(_) => 4,
        };
        neat + if self.companion.is_some() { 4 } else { 0 }
    }

    /// Appends one row from its wire fields and returns the bytes it takes beyond the fixed ones.
    ///
    /// `text` is the second field of an array column, `None` for the others.
    pub(crate) fn append(
        &mut self,
        field: Option<&[u8]>,
        text: Option<&[u8]>,
    ) -> Result<usize, ValueProblem> {
        let Some(raw) = field else {
            self.append_null();
            return Ok(0);
        };
        self.scratch.clear();
        let neat = match &mut self.neat {
            Neat::Output(values) => Appended::Value(append_utf8(values, raw)?),
            Neat::NumericText(values) => {
                Numeric::parse(raw)?.write_text(&mut self.scratch);
                values.append_value(&self.scratch);
                Appended::Value(self.scratch.len())
            }
            Neat::Scalar(scalar, values) => {
                let appended = values.append(raw)?;
                if let Appended::Exception = appended {
                    write_exception(*scalar, raw, &mut self.scratch)?;
                    values.append_null();
                }
                appended
            }
            Neat::List(values) => {
                let appended = values.append(raw)?;
                if let Appended::Exception = appended {
                    values.append_null();
                }
                appended
            }
        };
        let Some(companion) = &mut self.companion else {
            return Ok(match neat {
                Appended::Value(bytes) => bytes,
                Appended::Exception => 0,
            });
        };
        match neat {
            Appended::Value(bytes) => {
                companion.append_null();
                Ok(bytes)
            }
            Appended::Exception if matches!(self.neat, Neat::List(_)) => {
                append_utf8(companion, text.ok_or(ValueProblem::MissingText)?)
            }
            Appended::Exception => {
                companion.append_value(&self.scratch);
                Ok(self.scratch.len())
            }
        }
    }

    /// Hands out the column's arrays, the companion last, and starts anew.
    pub(crate) fn finish_into(&mut self, arrays: &mut Vec<ArrayRef>) -> Result<(), ArrowError> {
        arrays.push(match &mut self.neat {
            Neat::Scalar(_, values) => values.finish(),
            Neat::NumericText(values) | Neat::Output(values) => finish_texts(values),
            Neat::List(values) => Arc::new(values.finish()?),
        });
        if let Some(companion) = &mut self.companion {
            arrays.push(Arc::new(companion.finish()));
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match &mut self.neat {
            Neat::Scalar(_, values) => values.append_null(),
            Neat::NumericText(values) | Neat::Output(values) => values.append_null(),
            Neat::List(values) => values.append_null(),
        }
        if let Some(companion) = &mut self.companion {
            companion.append_null();
        }
    }
}

fn append_utf8(values: &mut StringBuilder, raw: &[u8]) -> Result<usize, ValueProblem> {
    let text = std::str::from_utf8(raw).map_err(|_| ValueProblem::NotUtf8)?;
    values.append_value(text);
    Ok(text.len())
}

/// A list array of one row, from an array as the wire has it ([`crate::LargeValue`]); `None` where such a
/// list cannot hold it: other bounds than from 1, several dimensions, an infinite date.
///
/// # Errors
/// When the bytes are no array of that type.
pub fn list_from_wire(list: &DataType, raw: &[u8]) -> Result<Option<ArrayRef>, ValueProblem> {
    const NOT_THIS: ValueProblem = ValueProblem::Array("its elements have another type");
    let DataType::List(field) = list else {
        return Err(NOT_THIS);
    };
    let oid = raw.get(8..).and_then(|rest| rest.first_chunk::<4>());
    let oid = u32::from_be_bytes(*oid.ok_or(CUT_OFF)?);
    let element = Scalar::of_element(oid, field.data_type()).ok_or(NOT_THIS)?;
    let mut values = ListBuilder::new(element, oid);
    match values.append(raw)? {
        Appended::Exception => Ok(None),
        Appended::Value(_) => {
            let values = values.finish();
            let values = values.map_err(|_| ValueProblem::Array("it is too large"))?;
            Ok(Some(Arc::new(values)))
        }
    }
}

/// Builds a list column from arrays on the wire.
///
/// Wire format, big-endian: `i32 ndim, i32 has_nulls, u32 element oid`, per dimension `i32 size,
/// i32 lower bound`, then the elements row by row, each an `i32` length (−1: NULL) and its bytes.
/// An array without elements has no dimensions.
struct ListBuilder {
    element: Scalar,
    oid: u32,
    values: ScalarBuilder,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl ListBuilder {
    fn new(element: Scalar, oid: u32) -> ListBuilder {
        ListBuilder {
            element,
            oid,
            values: ScalarBuilder::new(element),
            offsets: vec![0],
            nulls: NullBufferBuilder::new(0),
        }
    }

    fn append(&mut self, raw: &[u8]) -> Result<Appended, ValueProblem> {
        let Some(elements) = Elements::parse(raw, self.oid)? else {
            return Ok(Appended::Exception);
        };
        // Builders cannot take elements back, so the whole array is looked at first.
        for element in elements.clone() {
            if let Some(element) = element? {
                let length = u32::try_from(element.len()).unwrap_or(u32::MAX);
                if !self.element.wire_length().contains(&length) {
                    return Err(ValueProblem::Array("element has an impossible length"));
                }
                if !carries(self.element, element)? {
                    return Ok(Appended::Exception);
                }
            }
        }
        let mut bytes = 0;
        for element in elements {
            bytes += self.element.row_bytes();
            match element? {
                None => self.values.append_null(),
                Some(element) => match self.values.append(element)? {
                    Appended::Value(more) => bytes += more,
                    Appended::Exception => return Err(ValueProblem::MissingText),
                },
            }
        }
        self.nulls.append_non_null();
        self.push_offset();
        Ok(Appended::Value(bytes))
    }

    fn append_null(&mut self) {
        self.nulls.append_null();
        self.push_offset();
    }

    /// The decoder closes a batch long before its elements exceed an offset's range.
    fn push_offset(&mut self) {
        self.offsets
            .push(i32::try_from(self.values.len()).unwrap_or(i32::MAX));
    }

    fn finish(&mut self) -> Result<ListArray, ArrowError> {
        let offsets = std::mem::replace(&mut self.offsets, vec![0]);
        ListArray::try_new(
            self.element.element_field(),
            OffsetBuffer::new(offsets.into()),
            self.values.finish(),
            self.nulls.finish(),
        )
    }
}

/// The elements of a one-dimensional array on the wire.
#[derive(Clone)]
struct Elements<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Reads the header; `None` for bounds and dimensions that a list does not have.
    fn parse(raw: &'a [u8], oid: u32) -> Result<Option<Elements<'a>>, ValueProblem> {
        let mut rest = raw;
        let dimensions = take_i32(&mut rest)?;
        let _has_nulls = take_i32(&mut rest)?;
        let found = take_i32(&mut rest)?.cast_unsigned();
        if found != oid {
            return Err(ValueProblem::ArrayElement {
                expected: oid,
                found,
            });
        }
        let left = match dimensions {
            0 => 0,
            1 => {
                let size = take_i32(&mut rest)?;
                let lower_bound = take_i32(&mut rest)?;
                if lower_bound != 1 {
                    return Ok(None);
                }
                u32::try_from(size).map_err(|_| ValueProblem::Array("size is negative"))?
            }
            2..=6 => return Ok(None),
            _ => return Err(ValueProblem::Array("number of dimensions is impossible")),
        };
        if left == 0 && !rest.is_empty() {
            return Err(ValueProblem::Array("field is longer than its elements"));
        }
        Ok(Some(Elements { left, rest }))
    }

    fn step(&mut self) -> Result<Option<&'a [u8]>, ValueProblem> {
        let length = take_i32(&mut self.rest)?;
        let element = match length {
            -1 => None,
            _ => {
                let element = usize::try_from(length)
                    .ok()
                    .and_then(|length| self.rest.split_at_checked(length));
                let (element, rest) = element.ok_or(CUT_OFF)?;
                self.rest = rest;
                Some(element)
            }
        };
        if self.left == 0 && !self.rest.is_empty() {
            return Err(ValueProblem::Array("field is longer than its elements"));
        }
        Ok(element)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Option<&'a [u8]>, ValueProblem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.step())
    }
}

const CUT_OFF: ValueProblem = ValueProblem::Array("field is shorter than its elements");

fn take_i32(rest: &mut &[u8]) -> Result<i32, ValueProblem> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(CUT_OFF)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

//! `max` and `min` of floats as PostgreSQL orders them: NaN is above every number.
//!
//! DataFusion's own compare by `<`, which passes over NaN, or not, depending on which row came first.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType as ArrowType, Float64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

use super::batches::canonical;

/// The function in the place of DataFusion's of this name, for an argument of this type.
pub(super) fn function(name: &str, arg: &ArrowType) -> Option<Arc<AggregateUDF>> {
    let greatest = match name {
        "max" => true,
        "min" => false,
        _ => return None,
    };
    let signature = || Signature::any(1, Volatility::Immutable);
    arg.is_floating().then(|| Arc::new(AggregateUDF::new_from_impl(Extreme { greatest, signature: signature() })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    greatest: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.greatest { "max" } else { "min" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[ArrowType]) -> Result<ArrowType, DataFusionError> {
        Ok(args[0].clone())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::new(Best { greatest: self.greatest, ty: args.return_type().clone(), best: None }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>, DataFusionError> {
        Ok(Box::new(Window { greatest: self.greatest, ty: args.return_type().clone(), held: BTreeMap::new() }))
    }
}

/// A float by its place in the order: as an integer, of which NaN has the greatest.
fn place(v: f64) -> i64 {
    let bits = canonical(v).to_bits().cast_signed();
    // Of a negative number the greater magnitude is the lesser number.
    if bits < 0 { !bits | i64::MIN } else { bits }
}

fn number(place: i64) -> f64 {
    let bits = if place < 0 { !place | i64::MIN } else { place };
    f64::from_bits(bits.cast_unsigned())
}

/// The places of those that are not null.
fn places(values: &[ArrayRef]) -> Result<Vec<i64>, DataFusionError> {
    let floats = cast(&values[0], &ArrowType::Float64)?;
    Ok(floats.as_primitive::<Float64Type>().iter().flatten().map(place).collect())
}

fn scalar(place: Option<i64>, ty: &ArrowType) -> Result<ScalarValue, DataFusionError> {
    ScalarValue::Float64(place.map(number)).cast_to(ty)
}

#[derive(Debug)]
struct Best {
    greatest: bool,
    ty: ArrowType,
    best: Option<i64>,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        let found = places(values)?.into_iter().chain(self.best);
        self.best = if self.greatest { found.max() } else { found.min() };
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        scalar(self.best, &self.ty)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.update_batch(states)
    }
}

/// For a window whose start moves: how often each is in it.
#[derive(Debug)]
struct Window {
    greatest: bool,
    ty: ArrowType,
    held: BTreeMap<i64, u64>,
}

impl Accumulator for Window {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        for place in places(values)? {
            *self.held.entry(place).or_insert(0) += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<(), DataFusionError> {
        for place in places(values)? {
            let count = self.held.get_mut(&place).expect("it came into the window before it leaves");
            *count -= 1;
            if *count == 0 {
                self.held.remove(&place);
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue, DataFusionError> {
        let (first, last) = (self.held.first_key_value(), self.held.last_key_value());
        scalar(if self.greatest { last } else { first }.map(|(place, _)| *place), &self.ty)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.held.len() * size_of::<(i64, u64)>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>, DataFusionError> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<(), DataFusionError> {
        self.update_batch(states)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_ordered_as_floats_are_and_nan_is_last() {
        let ordered = [f64::NEG_INFINITY, -1e300, -1.5, -1e-300, 0.0, 1e-300, 1.5, 1e300, f64::INFINITY, f64::NAN];
        for pair in ordered.windows(2) {
            assert!(place(pair[0]) < place(pair[1]), "{pair:?}");
        }
        for v in ordered {
            assert_eq!(number(place(v)).to_bits(), canonical(v).to_bits());
        }
        assert_eq!(place(-0.0), place(0.0));
        assert_eq!(place(-f64::NAN), place(f64::NAN));
    }
}

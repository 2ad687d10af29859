//! The comparisons that ranges are made of.

use std::cmp::Ordering;

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Below.
    Less,
    /// Below or the same.
    LessOrEqual,
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Above or the same.
    GreaterOrEqual,
    /// Above.
    Greater,
}

impl Operator {
    /// Whether a version that stands to the bound as `order` says is in.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::GreaterOrEqual => order.is_ge(),
            Operator::Greater => order.is_gt(),
        }
    }
}

/// Splits off the first of `known` that the text begins with, and spaces after it. Longer ones have to stand first.
pub(crate) fn split<'a, T: Copy>(text: &'a str, known: &[(&str, T)]) -> Option<(T, &'a str)> {
    known.iter().find_map(|(name, operator)| {
        text.strip_prefix(name).map(|rest| (*operator, rest.trim_start_matches([' ', '\t'])))
    })
}

//! Comparisons with other projects; the figures of the product itself are `bolide bench`.

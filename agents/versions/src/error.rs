//! Why a text is not a version or a range.

/// Why a text was refused. The texts in it are shortened and hold no control characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing is there.
    #[error("empty text")]
    Empty,
    /// The text is longer than the reading client allows.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// The bound that was exceeded, in bytes.
        limit: usize,
    },
    /// No family has control characters in its versions.
    #[error("a control character in `{text}`")]
    ControlCharacter {
        /// The text, shortened.
        text: String,
    },
    /// A number is above what the family's own client holds.
    #[error("a number in `{text}` is above {limit}")]
    NumberTooLarge {
        /// The version or comparator, shortened.
        text: String,
        /// The largest number.
        limit: u64,
    },
    /// Not of the family's shape.
    #[error("`{text}` is not a version ({expected})")]
    NotAVersion {
        /// The text, shortened.
        text: String,
        /// The shape, or what is wrong.
        expected: &'static str,
    },
    /// Not a range: a tag, an address, or a slip of the pen.
    #[error("`{text}` is not a version range")]
    NotARange {
        /// The text, shortened.
        text: String,
    },
    /// A range that the family's client refuses although its parts are well formed.
    #[error("`{text}` is not a version range: {reason}")]
    Senseless {
        /// The text, shortened.
        text: String,
        /// What the client objects to.
        reason: &'static str,
    },
}

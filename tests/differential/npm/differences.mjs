// Projects whose answer differs from npm's, and why.
export const differences = {}

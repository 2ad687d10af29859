// Projects whose answer differs from npm's, and why. An entry excuses no unsatisfied requirement: those are looked for in
// every answer, and a person has to find none in the report before a project is written down here.
const lacks =
  'the newest version of a package needs one that the registry does not have, and npm and pnpm give up there; Bolide takes an older version that needs what exists, and a warning says so'

export const differences = {
  apollo: lacks,
  ember: lacks,
  expo: lacks,
  lerna: lacks,
}

package segment

// LeastSegment is the size below which an active segment is not closed for its
// size, bytes.
const LeastSegment = 512 << 10

// SegmentsInBudget is how many segments of the size at which one is closed fill the room of a tape.
const SegmentsInBudget = 32

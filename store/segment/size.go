package segment

// LeastSegment is the size, in bytes, below which an open segment is not closed for its size.
const LeastSegment = 512 << 10

// SegmentsInBudget is the number of just closed segments that fill a tape's room.
const SegmentsInBudget = 32

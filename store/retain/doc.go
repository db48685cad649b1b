// Package retain knows what a tape may take of the disk and for how long: its limits, what its files take, and how
// the files of a segment are removed, also under a reader. The reserve is the writer's: its slots become segments and back.
//
// It knows files and blocks by their names. It does not know what is in a segment, which one is to go, or when: the writer
// decides.
package retain

// Package retain knows how much of the disk a tape may take, and for how long: limits, sizes of files, and how to remove
// the files of a segment, even under a reader. The reserve belongs to the writer: its slots become segments and back.
//
// It knows files and blocks by name. It does not know the content of a segment, nor which segment to remove and when:
// the writer decides.
package retain

// Package format writes answers: rows of values as a table, CSV, TSV, JSON, Markdown, HTML or Parquet, with times in a zone,
// outcomes in words and scans folded. Its output is safe to show on a terminal, whatever the rows have.
//
// It knows nothing of SQL, segments or questions: rows are handed to a [RowWriter].
package format

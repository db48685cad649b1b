// Package docs holds the documents that the program can show.
package docs

import _ "embed" // for the text of the documents

//go:embed schema.md
var schema string

// Schema returns docs/schema.md: the public views, their columns and the SQL
// functions.
func Schema() string { return schema }

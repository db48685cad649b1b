// Package parquet writes files of Apache Parquet in constant memory: columns of texts, integers and times, each of which may be
// NULL, in row groups with statistics, texts by a dictionary and with Bloom filters where they are asked for, pages packed with
// zstd. It knows no tape and no file.
//
// It is made of the parts of parquet-go: its structures of the format, encodings and filters. The writer of parquet-go itself
// imports a codec that imports net/http, which has no place in a program that runs as root; so does that of arrow-go.
//
// The format: https://parquet.apache.org/docs/file-format/.
package parquet

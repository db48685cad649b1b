// Package dns reads what DNS servers answer: one message at a time, or out of the segments of a TCP stream.
//
// The bytes are an attacker's. It knows nothing of who asked, keeps nothing but names, addresses and numbers of an answer, and
// never asks anything itself.
package dns

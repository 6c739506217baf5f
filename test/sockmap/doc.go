// Package sockmap is what decides about eBPF sockmap for the connections between
// an application and its sidecar: the programs that carry such a connection past
// TCP, a benchmark of what that saves, and a test of what it changes for the
// application. Nothing of the product uses it; docs/decisions/0009-sockmap.md
// tells why.
//
// Command with runs any program under it.
package sockmap

// Package memory is the rung that holds sidecars to little memory: idle, with
// many connections that are silent, and after many short ones. The programs are
// those of "make build", between two network namespaces of the test's own; the
// control plane is in the test.
package memory

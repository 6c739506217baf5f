// Package lab is the rung that walks the lab: the demo as everybody starts it,
// with the outcomes that the lab's document promises, and the tutorial in docs,
// whose commands are run and whose outputs are compared.
package lab

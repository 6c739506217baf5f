// Package api knows the kinds users write: decodes them strictly, fills in
// defaults, validates them with messages that name the field and the way out,
// and carries their CustomResourceDefinitions. It decides nothing about traffic.
package api
